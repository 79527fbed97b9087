"""The places of those labels that a prefix decides, beside the ones that training may use."""

from pellucid.eval.labels.scan import STRING_BITS

DECIDED = {
    "lexer": (*STRING_BITS, "in_docstring", "in_fstring_expression", "in_number", "continued"),
    "bracket": (
        *("depth_1", "depth_2", "depth_3", "depth_4_or_more", "just_opened", "just_closed"),
        *("in_call", "in_grouping", "in_subscript", "in_list", "in_dict"),
    ),
    "layout": (
        *("level_0", "level_1", "level_2", "level_3", "level_4_or_more", "first_of_line"),
        *("logical_start", "after_colon", "after_blank_line", "dedent_so_far"),
    ),
    "block": (
        *("in_for", "in_while", "in_if", "in_try", "in_except", "in_with", "in_match", "in_async"),
        *("in_lambda", "in_comprehension", "in_nested_loop", "decorated", "in_method"),
        "in_nested_function",
    ),
    "identifier": (
        *("def_name", "class_name", "parameter_name", "import_name", "decorator_name"),
        *("builtin_name", "self_name", "constant_case", "keyword_value"),
    ),
    "binding": (
        *("seen_in_scope", "assigned_before", "is_parameter", "imported_name", "declared_outer"),
        *("bound_to_str", "bound_to_list", "bound_to_set", "bound_to_int", "bound_to_none"),
    ),
    "expression": (
        *("after_equals", "in_default", "in_annotation", "first_argument", "later_argument"),
        *("in_return", "in_condition"),
    ),
}
BIT = {
    name: 1 << place
    for place, name in enumerate(name for names in DECIDED.values() for name in names)
}
"""{label: its bit}; the bits of the pieces of strings come first."""
