"""Tasks about what is open (numbers 7 and 9 of the paper)."""

from pellucid.eval.tasks.task import Form, Task


def _keyed(before: str, key: str, after: str) -> Form:
    """The same element after a brace and after a bracket; a comment may stand between."""
    ends = f": $n}}{after}\n", f", $n]{after}\n"
    return Form(f"{before}{{{key}", f"{before}[{key}", *ends)


def _nested(before: str, after: str = "") -> Form:
    inner = "$n, $m$items"
    return Form(f"{before}[{inner}", f"{before}[[{inner}", f"]{after}\n", f"]]{after}\n")


NOTED = "$note\n    "

BRACKETS = (
    Task(
        "bracket_brace",
        "whether a brace or a bracket is open",
        (
            _keyed("$a = ", f'{NOTED}"$s"', ""),
            _keyed("$a = $f(", f"{NOTED}'$s'", ")"),
            _keyed("$a.$b = ", f'{NOTED}"$s"', ""),
            _keyed("$a = ", '"$s"', ""),
            _keyed("$f(", "'$s'", ")"),
            _keyed("$a.$b = ", "'$s'", ""),
        ),
    ),
    Task(
        "bracket_counting",
        "how many brackets are open",
        (
            _nested("$a = "),
            _nested("$f(", ")"),
            _nested("$a.$b = "),
            _nested("$a = $b + "),
            _nested("$a.$f(", ")"),
            _nested("$a, $b = $c, "),
        ),
    ),
)
