"""What holds after each character of Python source because of all that stands before it."""

from pellucid.eval.labels import scan
from pellucid.eval.labels.bits import BIT
from pellucid.eval.labels.blocks import HEADERS, SOFT, Block, block_bits
from pellucid.eval.labels.frames import Frame
from pellucid.eval.labels.marking import Marking
from pellucid.eval.labels.names import IMPORTS, NameReader
from pellucid.eval.labels.scopes import Scopes

TAB = 8
PER_LINE = BIT["after_equals"] | BIT["in_annotation"] | BIT["in_condition"] | BIT["in_return"]


class Context(NameReader):
    """Reads lexemes one after the other; nothing that comes later changes what was said."""

    def __init__(self, text: str) -> None:
        super().__init__(text, Marking(), Scopes())
        self.frames = [Frame()]
        self.blocks: list[Block] = []
        self.block = block_bits([])
        self.body = 0
        """column of the innermost block's lines"""
        self.fields = self.indent = self.column = 0
        self.header_async = self.colon = self.continued = self.decorated = False
        self.line_start = self.logical_start = self.fresh = True
        self.blank = self.docstring = self.doc_so_far = False

    def run(self) -> Marking:
        """Read everything."""
        read = {
            scan.NAME: self.name,
            scan.NUMBER: self.number,
            scan.COMMENT: self.comment,
            scan.NEWLINE: self.newline,
            scan.BACKSLASH: self.backslash,
            scan.OP: self.mark,
            scan.STRING: self.string,
            scan.FIELD: self.field,
            scan.FIELD_END: self.field_end,
        }
        at = 0
        for kind, start, end, bits in scan.scan(self.text):
            if start > at:
                self.space(at, start)
            read[kind](start, end, bits)
            at = end
        if at < len(self.text):
            self.space(at, len(self.text))
        return self.out

    def state(self) -> int:
        """What holds here, whatever is read."""
        top = self.frames[-1]
        bits = top.inherit | top.local | top.deep | self.block | self.just
        if self.logical_start or self.colon or self.fields or self.continued or self.decorated:
            return bits | self._seldom()
        return bits

    def _seldom(self) -> int:
        bits = BIT["in_fstring_expression"] if self.fields else 0
        bits |= BIT["continued"] if self.continued else 0
        bits |= BIT["decorated"] if self.decorated else 0
        bits |= BIT["after_colon"] if self.colon else 0
        if self.logical_start:
            bits |= BIT["logical_start"]
            bits |= BIT["after_blank_line"] if self.blank else 0
            bits |= BIT["dedent_so_far"] if self.column < self.body else 0
        return bits

    def space(self, start: int, end: int) -> None:
        """White space: at the start of a line its columns are counted."""
        if not self.logical_start or not self.line_start:
            self.out.put(start, end, self.state())
            return
        for at in range(start, end):
            tab = self.text[at] == "\t"
            self.column += TAB - self.column % TAB if tab else self.text[at] == " "
            self.out.put(at, at + 1, self.state())

    def begin(self) -> int:
        """Something of a logical line is read; the bit of the first of a physical one."""
        first = BIT["first_of_line"] if self.line_start else 0
        self.colon, self.just = False, 0
        if self.logical_start:
            self._leave()
            self.indent, self.header, self.header_async, self.words = self.column, "", False, 0
            self.logical_start = self.blank = False
        self.line_start = False
        return first

    def _leave(self) -> None:
        """Leave the blocks that the line stands outside of."""
        before = len(self.blocks)
        while self.blocks and self.blocks[-1].indent >= self.column:
            self.scopes.here = self.blocks.pop().around
        if len(self.blocks) != before:
            self.block = block_bits(self.blocks)
        self.body = self.column if self.blocks else 0

    def comment(self, start: int, end: int, _bits: int) -> None:
        """A comment is no part of a logical line."""
        first = BIT["first_of_line"] if self.line_start else 0
        self.line_start = False
        self.out.put(start, end, self.state() | first)

    def backslash(self, start: int, end: int, _bits: int) -> None:
        """The line goes on below."""
        self.begin()
        self.continued = True
        self.out.put(start, end, self.state())

    def newline(self, start: int, end: int, _bits: int) -> None:
        """The end of a line, and of the logical line unless something is open."""
        if self.continued and self.text[start - 1 : start] == "\\":
            self.line_start = True
            self.out.put(start, end, self.state())
            return
        self.continued = False
        deep = any(frame.mark for frame in self.frames)
        if not deep and not self.logical_start:
            self._end_line()
        elif self.logical_start and self.line_start:
            self.blank = True
        self.line_start, self.column = True, 0
        self.out.put(start, end, self.state())

    def _end_line(self) -> None:
        scopes = self.scopes
        self.close_lambdas()
        self.fresh = self.colon and self.header in ("def", "class")
        self.decorated = self.header == "@" or (self.decorated and self.header == "")
        if self.colon:
            kind = self.header
            around = self.around if self.around is not None else scopes.here
            self.blocks.append(Block(self.indent, kind, self.header_async, around))
            self.block, self.body = block_bits(self.blocks), 0
        elif self.around is not None:
            scopes.here = self.around  # a body on the line of its header
        self.around, scopes.coming, self.annotated = None, None, []
        self.frames = [Frame()]
        scopes.inner.clear()
        scopes.bound = []
        self.logical_start, self.last = True, ""

    def statement(self, word: str) -> None:
        """The first word of a logical line, or the first after `async`."""
        if word == "async":
            self.header_async = True
        elif self.last == ":" and word in IMPORTS:
            self.header = word  # a body on the line of its header
        elif self.header in ("", "async"):
            self.header = word
            if word in ("if", "elif", "while"):
                self.frames[-1].inherit |= BIT["in_condition"]
            elif word == "return":
                self.frames[-1].inherit |= BIT["in_return"]
            elif word in ("def", "class"):
                self.decorated = self.signed = False
                self.scopes.coming = {}

    def header_colon(self) -> bool:
        """A colon that no bracket holds: whether it ends the header of a block."""
        line = self.frames[-1]
        soft = self.header in SOFT and self.words < 2
        if self.header not in HEADERS or soft:
            return False
        line.inherit &= ~PER_LINE
        line.targets = []
        if self.scopes.coming is not None and self.around is None:
            self.around, self.scopes.here = self.scopes.here, self.scopes.coming
        self.colon = True
        return True

    def number(self, start: int, end: int, _bits: int) -> None:
        """A number."""
        first = self.begin()
        self.follows("int")
        self.last = "1"
        self.out.put(start, end, self.state() | first | BIT["in_number"])

    def follows(self, kind: str) -> None:
        """A literal is read."""
        self.header = self.header or "literal"
        self.words += 1
        self.scopes.value(kind)

    def string(self, start: int, end: int, bits: int) -> None:
        """A piece of a string."""
        first = 0
        if bits & scan.OPENS:
            alone = self.logical_start or (self.words == 1 and self.prefixed)
            first = self.begin()
            if not bits & scan.TRIPLE:
                self.doc_so_far = self.fresh and alone and not bits & scan.FORMATTED
            self.docstring = self.doc_so_far
            self.follows("str")
        self.just = 0  # of brackets in a replacement field
        inside = bits & (scan.OPENS - 1)
        state = self.state()
        if self.fields and bits & scan.FORMAT and self.fields == 1:
            state &= ~BIT["in_fstring_expression"]
        doc = BIT["in_docstring"] if self.docstring and inside else 0
        self.docstring, self.last = self.docstring and bool(inside), "'"
        self.out.put(start, end, state | inside | doc | first)

    def field(self, _start: int, _end: int, _bits: int) -> None:
        """A replacement field begins."""
        self.fields += 1
        self.frames.append(self.frames[-1].within("f", "field"))
        self.last = "{"

    def field_end(self, start: int, end: int, bits: int) -> None:
        """A replacement field ends, and its string goes on."""
        self.fields -= 1
        self.close_lambdas()
        self.pop()
        self.string(start, end, bits)
