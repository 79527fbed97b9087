"""Tasks about the statement that is being written (10, 11, 13, 15, 17, 19 and 20 of the paper)."""

from pellucid.eval.tasks.task import Form, Task

PASS = ":\n    pass\n"
INSIDE = "def $g():\n    "


def _loops(names: str, before: str = "", indent: str = "") -> Form:
    end = f":\n{indent}    pass\n"
    return Form(f"{before}for {names}", f"{before}while {names}", f" in $b{end}", end)


def _branches(test: str, body: str, before: str = "", indent: str = "") -> Form:
    start = f"{before}if {test}:\n{indent}    {body}\n{indent}"
    end = f":\n{indent}    $d = $n\n"
    return Form(f"{start}else", f"{start}elif", end, f" $e{end}")


def _ternary(condition: str, target: str, after: str = "\n") -> Form:
    return Form(f"if {condition}", f"{target} if {condition}", PASS, f" else $d{after}")


def _deeper(header: str, other: str, before: str = "", indent: str = "") -> Form:
    ends = f"{indent}    $d = $m\n", f"{indent}$d = $m\n"
    note = "$note\n"
    return Form(f"{before}{header}{note}", f"{before}{other}{note}", *ends)


def _equals(name: str, value: str, keyword: str = "if") -> Form:
    return Form(f"{keyword} {name}", name, f" == {value}{PASS}", f" = {value}\n")


def _tested(right: str, name: str = "$a", keyword: str = "if") -> Form:
    ends = PASS, "\n$d = $m\n"
    return Form(f"{keyword} {name} == {right}", f"{name} = {right}", *ends)


def _while_return(value: str) -> Form:
    ends = ":\n        $d = $m\n", "\n\n$e = $m\n"
    return Form(f"{INSIDE}while {value}", f"{INSIDE}return {value}", *ends)


HEADERS = (
    Task(
        "for_while",
        "the keyword of the loop",
        (
            _loops("$a"),
            _loops("$a", "$c = $n\n"),
            _loops("$a", INSIDE, "    "),
            _loops("$a", "$c = []\n"),
            _loops("$a", "$f($c)\n"),
            _loops("$a", "$c = $f()\n"),
        ),
    ),
    Task(
        "else_elif",
        "the keyword of the branch",
        (
            _branches("$a", "$d = $m"),
            _branches("$a == $b", "$d = $m"),
            _branches("$a", "$d = $m", INSIDE, "    "),
            _branches("not $a", "$d = $m"),
            _branches("$a", "$f($b)"),
            _branches("$a < $b", "$d = $m", INSIDE, "    "),
        ),
        one_vs_rest=True,
    ),
    Task(
        "if_ternary",
        "whether the line begins with `if` or with a value",
        (
            _ternary("$a > $n$both", "$b = $m"),
            _ternary("$a$both", "$b = $m"),
            _ternary("$a == $n$both", "$b = $c"),
            _ternary("$a is None$both", "$b = $m"),
            _ternary("$a < $n$both", "$b.$c = $m"),
            _ternary("not $a$both", "$b = $c"),
        ),
        one_vs_rest=True,
    ),
    Task(
        "indent_for",
        "whether the line before is the header of a loop",
        (
            _deeper("for $a in $b:", "$a = $b"),
            _deeper("for $a in $f($b):", "$a = $f($b)", INSIDE, "    "),
            _deeper("for $a in $b.$c:", "$a = $b.$c"),
            _deeper("for $a in range($n):", "$a = range($n)"),
            _deeper("for $a in $b:", "$a = $b", INSIDE, "    "),
            _deeper("for $a in $f($b):", "$a = $f($b)"),
        ),
        one_vs_rest=True,
    ),
    Task(
        "if_equals",
        "the keyword at the start of the line",
        (
            _equals("$a", "$n"),
            _equals("$a", "'$s'"),
            _equals("$a.$b", "$n"),
            _equals("$a.$b", "'$s'"),
            _equals("$a", "$b", "while"),
            _equals("$a", "$b"),
        ),
    ),
    Task(
        "var_if",
        "the keyword at the start of the line",
        (
            _tested("True"),
            _tested("$n"),
            _tested("$b"),
            _tested("$n$plus"),
            _tested("$b$plus"),
            _tested("$b.$c$plus"),
        ),
    ),
    Task(
        "while_return_true",
        "the keyword at the start of the line",
        (
            _while_return("True"),
            _while_return("$a"),
            _while_return("not $a"),
            _while_return("True$both"),
            _while_return("$a$both"),
            _while_return("not $a$both"),
        ),
    ),
)
