"""Rules: short programs over the text that predict what a unit does, and scores made of them."""

from pellucid.eval.rules.fit import Learned, Settings, learn
from pellucid.eval.rules.rule import Rule
from pellucid.eval.rules.text import Text

__all__ = ["Learned", "Rule", "Settings", "Text", "learn"]
