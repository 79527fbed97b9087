"""Every label of Python source: its group, its family, whether a prefix decides it, its meaning."""

from pellucid.data.python_labels import LOOP
from pellucid.eval.labels.bits import DECIDED
from pellucid.eval.labels.table import Label

_LOOP = {
    "lexer": ("in_string", "in_comment"),
    "bracket": ("in_brackets", "in_nested_brackets", "in_round", "in_square", "in_curly"),
    "layout": ("indented", "indented_twice", "line_start"),
    "block": ("in_function", "in_class", "in_loop"),
    "identifier": ("attribute",),
}
PARSED = {
    "identifier": ("keyword_name",),
    "expression": ("load", "store", "callee", "left_side", "in_comparison"),
    "bracket": ("dict_ahead",),
}
"""What Python's parser says, which knows what comes."""
LEXICAL = ("keyword", "operator", "bracket_mark", "camel_case", "in_word")
POSITION = ("column_40", "near_start")
TEST = frozenset(
    "quote_double in_raw_string in_bytes in_fstring_expression escaped continued"
    " depth_2 depth_4_or_more just_closed in_grouping in_subscript in_dict dict_ahead"
    " level_1 level_3 first_of_line after_blank_line dedent_so_far"
    " in_while in_try in_match in_lambda in_comprehension in_nested_loop decorated"
    " in_nested_function class_name self_name constant_case keyword_value keyword_name"
    " assigned_before declared_outer bound_to_set bound_to_int bound_to_none"
    " in_default later_argument in_return store left_side"
    " operator camel_case near_start".split()
)
"""Labels that only final results look at; those that are neither here nor in `loop` are dev."""
MEANINGS = {
    "in_string": "inside a string literal, f-strings' literal parts included",
    "in_comment": "inside a comment",
    "in_brackets": "inside a bracket",
    "in_nested_brackets": "inside at least two brackets",
    "in_round": "the innermost bracket is (",
    "in_square": "the innermost bracket is [",
    "in_curly": "the innermost bracket is { (or an f-string's field)",
    "indented": "inside an indented block",
    "indented_twice": "inside at least two indented blocks",
    "line_start": "nothing but white space stands on the line so far",
    "in_function": "in the body of a function",
    "in_class": "in the body of a class",
    "in_loop": "in the body of a loop",
    "attribute": "just after a dot, or in the name behind it",
    "quote_single": "inside a string that ' or ''' opened",
    "quote_double": 'inside a string that " or """ opened',
    "in_triple_string": "inside a string of three quotes",
    "in_fstring": "in the literal part of an f-string",
    "in_raw_string": "inside a string with r before it",
    "in_bytes": "inside a string with b before it",
    "in_format": "in the format of a replacement field, after its colon",
    "escaped": "on a backslash of a string that is not raw, and what it escapes",
    "in_docstring": "inside a string that begins a file, function or class",
    "in_fstring_expression": "in the code of a replacement field",
    "in_number": "in a number",
    "continued": "after a backslash that continues the line, to the end of the next line",
    "depth_1": "exactly one bracket is open",
    "depth_2": "exactly two brackets are open",
    "depth_3": "exactly three brackets are open",
    "depth_4_or_more": "at least four brackets are open",
    "just_opened": "the last thing but space is an opening bracket",
    "just_closed": "the last thing but space is a closing bracket",
    "in_call": "directly within the brackets of a call",
    "in_grouping": "directly within round brackets of no call, signature or class",
    "in_subscript": "directly within the brackets of a subscript",
    "in_list": "directly within the brackets of a list",
    "in_dict": "directly within { once a colon has shown that it is a dict",
    "level_0": "in no indented block",
    "level_1": "in one indented block",
    "level_2": "in two indented blocks",
    "level_3": "in three indented blocks",
    "level_4_or_more": "in at least four indented blocks",
    "first_of_line": "in the first word, mark or quote of a line",
    "logical_start": "nothing of the logical line stands there yet",
    "after_colon": "the last thing but space is the colon that ends a header",
    "after_blank_line": "at the start of a logical line below a blank one",
    "dedent_so_far": "at the start of a line, further left than the block so far",
    "in_for": "in the body of a for",
    "in_while": "in the body of a while",
    "in_if": "in the body of an if or elif",
    "in_try": "in the body of a try",
    "in_except": "in the body of an except or finally",
    "in_with": "in the body of a with",
    "in_match": "in the body of a match or of a case",
    "in_async": "the innermost function is async",
    "in_lambda": "between lambda and its end",
    "in_comprehension": "behind the for of a comprehension, in its brackets",
    "in_nested_loop": "in the bodies of at least two loops",
    "decorated": "a decorator waits for its def or class",
    "in_method": "the innermost function stands directly in a class",
    "in_nested_function": "in the bodies of at least two functions",
    "def_name": "in the name behind def",
    "class_name": "in the name behind class",
    "parameter_name": "in the name of a parameter where it is declared",
    "import_name": "in a name of an import",
    "decorator_name": "in the dotted name behind @",
    "builtin_name": "the name so far is that of a builtin, and no attribute",
    "self_name": "the name so far is self or cls",
    "constant_case": "the name so far has two or more capitals, digits, underscores alone",
    "keyword_value": "behind the = of a keyword argument",
    "seen_in_scope": "the name so far was used in this scope before",
    "assigned_before": "the name so far was assigned, imported or defined in this scope before",
    "is_parameter": "the name so far is a parameter of this function or lambda",
    "imported_name": "the name so far was imported, here or at the top of the file",
    "declared_outer": "the name so far was declared global or nonlocal here",
    "bound_to_str": "the name so far was last assigned what began with a string",
    "bound_to_list": "the name so far was last assigned what began with [",
    "bound_to_set": "the name so far was last assigned what began with set(",
    "bound_to_int": "the name so far was last assigned what began with a number",
    "bound_to_none": "the name so far was last assigned what began with None",
    "after_equals": "behind the = of an assignment",
    "in_default": "in the default of a parameter",
    "in_annotation": "in an annotation, arrow and colon included",
    "first_argument": "directly within a call, before its first comma",
    "later_argument": "directly within a call, behind a comma",
    "in_return": "behind return at the start of a logical line",
    "in_condition": "between if, elif or while and its colon",
    "keyword_name": "in the name of a keyword argument",
    "load": "in a name that is read",
    "store": "in a name that is assigned to",
    "callee": "in what is called",
    "left_side": "on the left of an assignment",
    "in_comparison": "in a comparison",
    "dict_ahead": "inside {…} that is a dict, from its brace",
    "keyword": "the word is a keyword",
    "operator": "the character is one of an operator",
    "camel_case": "the word has a capital behind a small letter",
    "bracket_mark": "the character is a bracket",
    "in_word": "the character is one of a word",
    "column_40": "at least 40 characters behind the start of the line",
    "near_start": "within the first 500 characters of the document",
}


def _labels() -> tuple[Label, ...]:
    loop = {name: group for group, names in _LOOP.items() for name in names}
    made = [Label(name, loop[name], "loop", True, MEANINGS[name]) for name in LOOP]
    told = [(group, name, True) for group, names in DECIDED.items() for name in names]
    told += [(group, name, False) for group, names in PARSED.items() for name in names]
    told += [("lexical", name, True) for name in LEXICAL]
    told += [("position", name, True) for name in POSITION]
    for group, name, prefix in told:
        family = "test" if name in TEST else "dev"
        made.append(Label(name, group, family, prefix, MEANINGS[name]))
    return tuple(made)


PYTHON = _labels()
