"""Tasks about definitions and contexts (2, 6 and 16 of the paper)."""

from pellucid.eval.tasks.task import Form, Task


def _final_default(start: str, values: tuple[str, str], body: str) -> Form:
    """After a parameter with a default, every other needs one."""
    first, second = values
    ends = f"=None):\n{body}", f"):\n{body}"
    return Form(f"{start}$a={first}, $b={second}, $c", f"{start}$a, $b, $c", *ends)


def _with_as(call: str, before: str = "", indent: str = "") -> Form:
    end = f"\n{indent}$d = $n\n"
    opened = f" as $c:\n{indent}    pass\n"
    return Form(f"{before}with {call})", f"{before}$c = {call})", opened, end)


def _lambda(before: str, after: str = "", name: str = "$a") -> Form:
    ends = f": $n{after}\n", "():\n    pass\n"
    return Form(f"{before}lambda {name}", f"def {name}", *ends)


METHOD = "class $K:\n    def $f(self, "
PASS = "    pass\n"

FUNCTIONS = (
    Task(
        "final_kwarg",
        "whether earlier parameters have defaults",
        (
            _final_default("def $f(", ("$n", "$m"), PASS),
            _final_default("def $f(", ("None", "None"), PASS),
            _final_default(METHOD, ("$n", "$m"), "    " + PASS),
            _final_default("def $f(", ("'$s'", "'$t'"), PASS),
            _final_default(METHOD, ("None", "$n"), "    " + PASS),
            _final_default("def $f(", ("True", "False"), PASS),
        ),
    ),
    Task(
        "with_as",
        "`with` or an assignment at the start of the line",
        (
            _with_as("open($a$names"),
            _with_as("open($a, '$s'$names"),
            _with_as("$f($a$names"),
            _with_as("$f($a, $n$names"),
            _with_as("$a.$f($b$names"),
            _with_as("open($a$names", "def $g():\n    ", "    "),
        ),
        one_vs_rest=True,
    ),
    Task(
        "lambda_func",
        "`lambda` or `def`",
        (
            _lambda("$b = "),
            _lambda("$b = $f(", ")"),
            _lambda("$b.$c = "),
            _lambda("$b.sort(key=", ")"),
            _lambda("$b = $f($c, ", ")"),
            _lambda("$f($b, key=", ")"),
        ),
    ),
)
