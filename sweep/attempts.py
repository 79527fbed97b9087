"""How often a cell is tried whose process was killed."""

from pellucid.sweep.folder import Failure, GridFolder

DEATHS = 3
"""Times that a process may die at a cell without having saved anything new."""
LONGEST = 500
"""Characters that are kept of a line."""


def last_line(said: str) -> str:
    """The last line that is not empty of what a process said: of a traceback, the error."""
    return next((s[:LONGEST] for line in reversed(said.splitlines()) if (s := line.strip())), "")


class Attempts:
    """Counts the deaths at each cell since it last got further."""

    def __init__(self, folder: GridFolder):
        self.folder = folder
        self.deaths: dict[str, tuple[int, tuple[int, int]]] = {}

    def again(self, name: str, how: str, code: int = 1) -> bool:
        """Whether to try a cell again whose process has ended; otherwise it is noted as failed."""
        # A trained cell gets further with each of its circuits.
        saved = self.folder.saved(name), len(self.folder.run(name).read_circuits())
        deaths, before = self.deaths.get(name, (0, (-1, 0)))
        deaths = deaths + 1 if saved <= before else 1
        self.deaths[name] = (deaths, saved)
        if deaths < DEATHS:
            return True
        reason = f"its process ended {deaths} times without getting further: {how}"
        self.folder.fail(name, Failure(reason, code, deaths))
        return False
