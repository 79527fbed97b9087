"""What an engine is at, for the table of a terminal."""

from dataclasses import dataclass, field


@dataclass
class Board:
    """Cells by what becomes of them; an engine changes it, the table reads it."""

    running: dict[str, float] = field(default_factory=dict)
    """cells and when they were begun"""
    ended: dict[str, float] = field(default_factory=dict)
    """seconds that cells have taken"""
    elsewhere: set[str] = field(default_factory=set)
    """cells that another runner is at"""
    said: list[str] = field(default_factory=list)
    """what there is to say of the cells, each line once"""

    def say(self, line: str) -> None:
        """Add a line, unless it was said before."""
        if line not in self.said:
            self.said.append(line)
