"""Ten tasks that the paper does not have, kept away from every choice."""

from functools import partial

from pellucid.eval.tasks.task import Form, Task

HeldOut = partial(Task, held_out=True)
NOTED = "$note\n"


def _handled(body: str, after: str = "pass") -> Form:
    start = f"    {body}\n$body"
    ends = f"except $K:\n    {after}\n", f"else:\n    {after}\n"
    return Form(f"try:\n{start}", f"if $a:\n{start}", *ends)


def _member(before: str, key: str, after: str = "") -> Form:
    start = f"{before}{{$note\n    "
    return Form(
        f"{start}{key}: $n, '$t'", f"{start}{key}, '$t'", f": $m}}{after}\n", f", $m}}{after}\n"
    )


def _annotated(
    head: str, kinds: tuple[str, str], indent: str = "    ", fill: str = "$body"
) -> Form:
    """A generator yields, a function returns: the annotation says which it is."""
    lazy, ready = kinds
    start = f":\n{fill}{indent}"
    return Form(
        f"{head} -> {lazy}{start}", f"{head} -> {ready}{start}", "yield $a\n", "return $a\n"
    )


def _alias(use: str) -> Form:
    ends = " $a.$f()\n", " $module.$f()\n"
    start = "\n\n${lines}" + use
    return Form(f"import $module as $a{start}", f"import $module{start}", *ends)


def _replaced(before: str, after: str = "") -> Form:
    """What closes first: the brace of a replacement field, or the round bracket of a call."""
    ends = f'}}"{after}\n', f"){after}\n"
    return Form(f'{before}f"{{$a$plus', f"{before}str($a$plus", *ends)


def _decorated(decorator: str, other: str, before: str = "", indent: str = "") -> Form:
    ends = f"def $f():\n{indent}    pass\n", f"$d = $n\n{indent}$d = $m\n"
    note = f"{NOTED}{indent}"
    return Form(f"{before}{decorator}{note}", f"{before}{other}{note}", *ends)


def _keyword_only(parameters: str, call: str = "$f($a") -> Form:
    body = f"):\n    pass\n\n${{lines}}{call}"
    return Form(f"def $f(*, {parameters}{body}", f"def $f({parameters}{body}", "=$n)\n", ")\n")


def _not_in(start: str, end: str = ":\n    pass\n") -> Form:
    return Form(f"{start} $a not", f"{start} $a is not", f" in $b{end}", f" None{end}")


def _slice(names: tuple[str, str], source: str, before: str = "") -> Form:
    """All that is left, or the one that follows."""
    rest, one = names
    got = f"{source}[0], {source}[1"
    return Form(f"{before}$a, {rest} = {got}", f"{before}$a, {one} = {got}", ":]\n", "]\n")


def _parent(parameters: str = "", fill: str = "$deep") -> Form:
    start = f"(self{parameters}):\n{fill}        super()."
    head = "class $K:\n    def "
    return Form(f"{head}__init__{start}", f"{head}$f{start}", "__init__()\n", "$f()\n")


HELD_OUT = (
    HeldOut(
        "try_except",
        "whether the block was opened by `try`",
        (
            _handled("$b = $f($a)"),
            _handled("$f($a)"),
            _handled("$b = $a.$c"),
            _handled("$a.$f()"),
            _handled("$b.$c = $a"),
            _handled("$b = $f($a, $n)"),
        ),
    ),
    HeldOut(
        "dict_or_set",
        "whether the elements before have values",
        (
            _member("$a = ", "'$s'"),
            _member("$f(", "'$s'", ")"),
            _member("$a.$b = ", "'$s'"),
            _member("$a = $f(", "'$s'", ")"),
            _member("$a.$f(", "'$s'", ")"),
            _member("$a = ", "$n"),
        ),
    ),
    HeldOut(
        "yield_return",
        "the annotated return type",
        (
            _annotated("def $f($a)", ("Iterator[int]", "list[int]")),
            _annotated("def $f($a: int)", ("Iterator[str]", "str")),
            _annotated("def $f($a)", ("Generator", "tuple")),
            _annotated("def $f($a, $b)", ("Iterator[str]", "dict[str, int]")),
            _annotated("def $f($a: str)", ("Iterable[int]", "int")),
            _annotated("async def $f($a)", ("AsyncIterator[int]", "list[int]")),
        ),
    ),
    HeldOut(
        "import_alias",
        "the name under which the module was imported",
        (
            _alias("$b ="),
            _alias("$b.$c ="),
            _alias("if $b:\n    $c ="),
            _alias("assert $b =="),
            _alias("$b +="),
            _alias("$b, $c ="),
        ),
    ),
    HeldOut(
        "fstring_close",
        "whether a replacement field or a call is open",
        (
            _replaced("print(", ")"),
            _replaced("$b = "),
            _replaced("$f(", ")"),
            _replaced("$b.$c = "),
            _replaced("$b.$f(", ")"),
            _replaced("$b += "),
        ),
    ),
    HeldOut(
        "decorator_def",
        "whether the line before is a decorator",
        (
            _decorated("@$g", "$g()"),
            _decorated("@$g.$a", "$g.$a"),
            _decorated("@$g($n)", "$g($n)"),
            _decorated("@$g", "$g = $n", "class $K:\n    ", "    "),
            _decorated("@$a.$g", "$a.$g()"),
            _decorated("@$a.$g($n)", "$a.$g($n)"),
        ),
        one_vs_rest=True,
    ),
    HeldOut(
        "keyword_only",
        "whether the parameter may be given by position",
        (
            _keyword_only("$a"),
            _keyword_only("$a=$m"),
            _keyword_only("$a=None"),
            _keyword_only("$a", "$b = $f($a"),
            _keyword_only("$a=$m", "$b = $f($a"),
            _keyword_only("$a=None", "$b = $f($a"),
        ),
    ),
    HeldOut(
        "not_in",
        "`not` or `is not`",
        (
            _not_in("if"),
            _not_in("while"),
            _not_in("assert", "\n"),
            _not_in("$c.$d =", "\n"),
            _not_in("$c =", "\n"),
            _not_in("if $c and"),
        ),
    ),
    HeldOut(
        "slice_colon",
        "whether the name speaks of one element or of those that are left",
        (
            _slice(("rest", "second"), "$b"),
            _slice(("tail", "following"), "$b"),
            _slice(("others", "another"), "$b"),
            _slice(("rest", "second"), "$b.$c"),
            _slice(("tail", "following"), "$b.$c"),
            _slice(("others", "another"), "$b.$c"),
        ),
    ),
    HeldOut(
        "super_init",
        "the method that is being defined",
        (
            _parent(),
            _parent(", $a"),
            _parent(", *$a"),
            _parent(", $a, $b"),
            _parent(", $a=None"),
            _parent(", **$a"),
        ),
    ),
)
