"""Names of Python where they stand: their role, what is known of them, what they are bound to."""

import re

from pellucid.eval.labels.bits import BIT
from pellucid.eval.labels.frames import Frame
from pellucid.eval.labels.marking import Marking
from pellucid.eval.labels.marks_read import MarkReader
from pellucid.eval.labels.scan import PREFIXES
from pellucid.eval.labels.scopes import ASSIGNED, IMPORTED, OUTER, PARAMETER, SEEN, Scopes
from pellucid.eval.labels.words import KEYWORDS, dotted_spelling, spelling

KEYWORD_ARGUMENT = re.compile(r"\s*=(?!=)")
IN_PARAMETER = BIT["in_default"] | BIT["in_annotation"]
IMPORTS = ("import", "from")


class NameReader(MarkReader):
    """Words: what they are, and what they do to what comes after them."""

    def __init__(self, text: str, out: Marking, scopes: Scopes) -> None:
        super().__init__(text, out, scopes)
        self.for_frame: Frame | None = None
        self.prefixed = self.importing = False
        self.renamed: tuple[str, int | None] = "", None
        """the name that an import bound last, and what was known of it before"""

    def name(self, start: int, end: int, _bits: int) -> None:
        """A keyword or a name."""
        word, first = self.text[start:end], self.begin()
        self.importing = self.importing and self.words > 0
        self.words += 1
        dotted = self.attribute = self.last == "."
        keyword = word in KEYWORDS  # also behind a dot: `from . import a`
        role = self._role()
        self._spell(word, start, first, role, dotted)
        if keyword:
            self._keyword(word)
        else:
            self.prefixed = self.text[end : end + 1] in ("'", '"') and word.lower() in PREFIXES
            if self.prefixed:
                return
            self._use(word, end, role)
        self.statement(word)
        self.last = word

    def _role(self) -> int:
        """What a name is because of where it stands."""
        top = self.frames[-1]
        if self.last in ("def", "class"):
            return BIT[f"{self.last}_name"]
        if self.header in IMPORTS:
            return BIT["import_name"]
        if self.header == "@" and len(self.frames) == 1:
            return BIT["decorator_name"]
        parameter = top.kind in ("signature", "lambda") and self.last != "."
        if parameter and not (top.inherit & ~top.outside) & IN_PARAMETER:
            return BIT["parameter_name"]
        return 0

    def _spell(self, word: str, start: int, first: int, role: int, dotted: bool) -> None:
        """Say what holds after each character of a word."""
        state = self.state() | first
        if dotted:
            spelled = dotted_spelling(word)
            bits = [state if bits is None else state | role | bits for bits in spelled]
        else:
            known, with_role = self.scopes.known(), state | role
            bits = [
                state if bits is None else with_role | bits | known(so_far)
                for so_far, bits in spelling(word)
            ]
        self.out.put_each(start, bits)

    def _use(self, word: str, end: int, role: int) -> None:
        """A name that is no keyword has been read."""
        scopes, top = self.scopes, self.frames[-1]
        scopes.value("set" if word == "set" and self.text[end : end + 1] == "(" else None)
        if role in (BIT["def_name"], BIT["class_name"]) or (self.last == "as" and not role):
            scopes.bind([word])
        elif role == BIT["parameter_name"]:
            names = top.names if top.kind == "lambda" else scopes.coming
            if names is not None:
                names[word] = SEEN | PARAMETER
        elif self.last == ".":
            return
        elif role == BIT["import_name"]:
            if self.importing or self.header == "import":
                self.renamed = word, scopes.here.get(word)
                scopes.bind([word], ASSIGNED | IMPORTED)
        elif self.header in ("global", "nonlocal"):
            scopes.here[word] = scopes.here.get(word, 0) | SEEN | OUTER
        elif top.kind != "call" or not KEYWORD_ARGUMENT.match(self.text, end):
            self._mention(word, top)

    def _mention(self, word: str, top: Frame) -> None:
        loops = top is self.for_frame and top.mark
        if not loops and not any(word in names for names in self.scopes.inner):
            self.scopes.see(word)
        if top.targets and self.last == top.targets[-1]:
            top.targets.pop()  # two names in a row: `type a = …`
        # Within a call nothing is assigned to but what a generator's `for` binds.
        if top.kind != "call" or loops:
            top.targets.append(word)

    def _keyword(self, word: str) -> None:
        """What a keyword does to what comes after it."""
        self.scopes.value("none" if word == "None" else None)
        if word == "lambda":
            self._lambda()
        elif word == "for":
            self._for()
        elif word == "in" and self.frames[-1] is self.for_frame:
            self._bind_loop(self.frames[-1])
        elif word == "import":
            self.importing = True
        elif word == "as" and self.header in IMPORTS:
            self._rename()

    def _rename(self) -> None:
        """What was imported gets another name: its own is again what it was before."""
        name, before = self.renamed
        if before is None:
            self.scopes.here.pop(name, None)
        else:
            self.scopes.here[name] = before

    def _lambda(self) -> None:
        frame = self.frames[-1].within("", "lambda")
        frame.inherit |= BIT["in_lambda"]
        frame.outside = frame.before_equals = frame.inherit
        frame.names = {}
        self.frames.append(frame)
        self.scopes.inner.append(frame.names)

    def _for(self) -> None:
        while self.frames[-1].kind == "lambda_body":
            self.pop()
        frame = self.for_frame = self.frames[-1]
        frame.targets = []
        if frame.mark:
            frame.inherit |= BIT["in_comprehension"]
            frame.outside |= BIT["in_comprehension"]
            if frame.names is None:
                frame.names = {}
                self.scopes.inner.append(frame.names)

    def _bind_loop(self, frame: Frame) -> None:
        if frame.mark:
            frame.names.update(dict.fromkeys(frame.targets, SEEN | ASSIGNED))
        else:
            self.scopes.bind(frame.targets)
        frame.targets, self.for_frame = [], None
