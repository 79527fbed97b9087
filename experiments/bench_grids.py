"""What a grid costs beside the training and scoring of its cells.

`pellucid bench grids [cells=N] [word…]` times how long a plan of a thousand cells takes to open, as
`--dry-run` opens it, and runs two grids of very short cells by one worker: what each cell of the
longer grid adds, beyond what its own manifest counts, is the runner's. Words configure the cells.
"""

import tempfile
import time
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from pellucid.errors import UserError
from pellucid.experiments import own_words
from pellucid.run import RunFolder
from pellucid.sweep.folder import GridFolder
from pellucid.sweep.grid import Grid
from pellucid.sweep.run import sweep

PLANNED, FEW, MORE = 1000, 2, 10
SHORT = "tiny train.steps=2 train.eval_every=2 train.eval_tokens=2048"


def main(words: list[str]) -> int:
    """Print both figures."""
    cells, words = _cells(words)
    base = " ".join(words) or SHORT
    print(f"{PLANNED:,} planned cells open in {opened(base, PLANNED):.1f} s")
    print(f"the runner adds {overhead(base, cells):.2f} s a cell ({cells} cells, one worker)")
    return 0


def _cells(words: list[str]) -> tuple[int, list[str]]:
    own, rest = own_words(words, {"cells"})
    cells = own.get("cells", str(MORE))
    if not cells.isdecimal() or int(cells) <= FEW:
        raise UserError(f"bench grids: cells={cells} is not accepted; more than {FEW} are")
    return int(cells), rest


def opened(base: str, planned: int) -> float:
    """Seconds until the plan of a grid with so many cells, an axis and ten seeds, is printed."""
    rates = [f"train.lr={1e-3 + i * 1e-5:.6f}" for i in range(planned // 10)]
    grid = Grid(name="planned", base=base, axes={"rate": rates}, seeds=range(10))
    with tempfile.TemporaryDirectory() as out, redirect_stdout(StringIO()):
        start = time.perf_counter()
        sweep(grid, Path(out) / "grid", dry_run=True)
        return time.perf_counter() - start


def overhead(base: str, cells: int) -> float:
    """Seconds that each further cell adds to a call, beyond those of its training and scoring."""
    (few, own), (more, theirs) = (_run(base, n) for n in (FEW, cells))
    return (more - few - (theirs - own)) / (cells - FEW)


def _run(base: str, cells: int) -> tuple[float, float]:
    """Seconds of a whole call, and of the training and scoring of all its cells."""
    grid = Grid(name="short", base=base, seeds=range(cells), suite="smoke")
    with tempfile.TemporaryDirectory() as out:
        start = time.perf_counter()
        with redirect_stdout(StringIO()):
            code = sweep(grid, Path(out), workers=1)
        taken = time.perf_counter() - start
        if code:
            raise UserError("bench grids: a cell failed; `pellucid sweep` says why")
        return taken, sum(_counted(GridFolder(Path(out)).run(cell.name)) for cell in grid.cells())


def _counted(folder: RunFolder) -> float:
    manifest = folder.read_manifest()
    return manifest["finished"]["seconds"] + manifest["scored"]["seconds"]
