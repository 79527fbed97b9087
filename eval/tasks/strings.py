"""Tasks about text in quotes (numbers 1, 8 and 12 of the paper)."""

from pellucid.eval.tasks.task import Form, Task


def _quoted(before: str, after: str) -> Form:
    return Form(f"{before}'$words", f'{before}"$words', f"'{after}", f'"{after}')


def _opened(prompt: str, read: str = "'r'", write: str = "'w'") -> Form:
    """The name of a file, and the mode it is opened in."""
    texts = [prompt.replace("$file", name) for name in ("${read}", "${write}")]
    return Form(*texts, f" {read}) as $c:\n    pass\n", f" {write}) as $c:\n    pass\n")


def _formatted(before: str, after: str = "\n") -> Form:
    ends = f' {{$a}}"{after}', f' $s"{after}'
    return Form(f'{before}f"$words:', f'{before}"$words:', *ends)


STRINGS = (
    Task(
        "single_double_quote",
        "the quote that opened the string",
        (
            _quoted("print(", ")\n"),
            _quoted("$f(", ")\n"),
            _quoted("$a.$f(", ")\n"),
            _quoted("$a = $f(", ")\n"),
            _quoted("return_value = $f($a, ", ")\n"),
            _quoted("raise $K(", ")\n"),
            _quoted("assert $f(", ")\n"),
            _quoted("$a = [$n, $f(", ")]\n"),
            _quoted("$a.$f($b, ", ")\n"),
        ),
    ),
    Task(
        "with_open",
        "whether the name of the file speaks of reading or of writing",
        (
            _opened("$a = '$file.txt'\n${lines}with open($a,"),
            _opened("$a = '$file.csv'\n${lines}with open($a,"),
            _opened("$a = '$file.json'\n${lines}with open($a,"),
            _opened("with open('$file.txt',"),
            _opened("with open('$file.csv',"),
            _opened("with open('$file.json',"),
            _opened("${a}_$file = $f($b)\n${lines}with open(${a}_$file,"),
            _opened("$file = $f($b)\n${lines}with open($file,"),
            _opened("$file = $f()\n${lines}with open($file,"),
        ),
    ),
    Task(
        "fstring_brace",
        "the f before the quote",
        (
            _formatted("print(", ")\n"),
            _formatted("$b = "),
            _formatted("$b.$f(", ")\n"),
            _formatted("$f(", ")\n"),
            _formatted("$b += "),
            _formatted("raise $K(", ")\n"),
        ),
        one_vs_rest=True,
    ),
)
