"""Tasks about what a name stands for (3, 4, 5, 14 and 18 of the paper)."""

from pellucid.eval.tasks.task import Form, Task


def _set_or_string(name: str, start: str = "", indent: str = "", fill: str = "${lines}") -> Form:
    """A set is added to by a method, a string by an operator."""
    made = f"{start}{indent}{name} = "
    use = f"{fill}{indent}{name}"
    ends = ".add($b)\n", ' += "$s"\n'
    return Form(f"{made}set()\n{use}", f'{made}""\n{use}', *ends)


def _sets(name: str) -> tuple[Form, ...]:
    inside = ("def $f($b):\n", "    ", "${body}")
    method = ("class $K:\n    def $f(self, $b):\n", "        ", "${deep}")
    after = ("$c = $f($n)\n",)
    forms = [_set_or_string(name, *where) for where in ((), inside, method, after)]
    loop = _set_or_string(name, "$c = $f()\n", "", "${lines}for $b in $c:\n    ")
    import_ = _set_or_string(name, "import $module\n\n")
    return (*forms, loop, import_)


def _class_init(before: str) -> Form:
    """Attributes are named as the parameters they keep."""
    start = f"class $K:\n    def __init__(self, {before}):\n"
    return Form(f"{start}        self.$a =", f"{start}        self.$b =", " $a\n", " $b\n")


def _swap(before: str) -> Form:
    """Which name is left to assign."""
    return Form(f"{before}$a, $b = $b,", f"{before}$c, $b = $b,", " $a\n", " $c\n")


def _loop(before: str, indent: str = "") -> Form:
    end = f":\n{indent}    pass\n"
    ends = f" enumerate($c){end}", f" range($n){end}"
    return Form(f"{before}for $a, $b in", f"{before}for $a in", *ends)


VARIABLES = (
    Task("set_or_string", "what the variable was set to", _sets("$a")),
    Task(
        "set_or_string_fixedvarname",
        "what the variable was set to; it is always called `current`",
        _sets("current"),
    ),
    Task(
        "class_init",
        "the attribute that is being set",
        (
            _class_init("$a, $b"),
            _class_init("$b, $a"),
            _class_init("$a, $b, $c"),
            _class_init("$c, $a, $b"),
            _class_init("$b, $c, $a"),
            _class_init("$c, $b, $a"),
        ),
    ),
    Task(
        "var_swap",
        "the name that is not yet on the right",
        (
            _swap(""),
            _swap("$d = $n\n"),
            _swap("def $f($a, $b, $c):\n    "),
            _swap("$f($d)\n"),
            _swap("$a = $b = $c = $n\n"),
            _swap("if $d:\n    "),
        ),
    ),
    Task(
        "enumerate_range",
        "whether the loop has one variable or two",
        (
            _loop(""),
            _loop("$d = []\n"),
            _loop("def $f():\n    ", "    "),
            _loop("$d = $n\n"),
            _loop("$f($d)\n"),
            _loop("$d = {}\n"),
        ),
    ),
)
