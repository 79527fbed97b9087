"""The brackets and lambdas that are open, and what stands directly within them."""

from dataclasses import dataclass, field

from pellucid.eval.labels.bits import BIT
from pellucid.eval.labels.scopes import Names

DEPTHS = (0, *(BIT[name] for name in ("depth_1", "depth_2", "depth_3", "depth_4_or_more")))
LOCAL = {
    "call": BIT["in_call"] | BIT["first_argument"],
    "group": BIT["in_grouping"],
    "subscript": BIT["in_subscript"],
    "list": BIT["in_list"],
}


@dataclass(slots=True)
class Frame:
    """A bracket, a replacement field, a lambda or, at the bottom, the logical line itself."""

    mark: str = ""
    kind: str = "line"
    depth: int = 0
    inherit: int = 0
    """bits that hold within, however deep"""
    local: int = 0
    """bits that hold directly within"""
    outside: int = 0
    """`inherit` as it was where a parameter or an argument begins"""
    before_equals: int = 0
    """`inherit` as it was before an `=`, which a second one takes back"""
    targets: list[str] = field(default_factory=list)
    """names that an assignment would bind"""
    assigned: list[str] = field(default_factory=list)
    """names that the statement has assigned to so far, in `a = b = …`"""
    binds: bool = False
    """what stands within is bound where this ends, as in `with a as (b, c)`"""
    names: Names | None = None
    deep: int = 0
    """the bit of its depth"""

    def within(self, mark: str, kind: str) -> "Frame":
        """The frame of what is opened here."""
        depth = self.depth + (kind != "lambda")
        local = LOCAL.get(kind, self.local if kind == "lambda" else 0)
        deep = DEPTHS[min(depth, 4)]
        return Frame(mark, kind, depth, self.inherit, local, self.inherit, self.inherit, deep=deep)

    def next_item(self) -> None:
        """A comma stands directly within."""
        self.inherit = self.before_equals = self.outside
        if self.kind == "call":
            self.local = BIT["in_call"] | BIT["later_argument"]
