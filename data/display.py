"""One progress display for the whole preparation, in place of one a library."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class Display:
    """Bars and sentences on standard error; silent when `shown` is false."""

    def __init__(self, shown: bool) -> None:
        self.console = Console(stderr=True, quiet=not shown, highlight=False)
        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(
            TextColumn("{task.description}"), *columns, console=self.console, disable=not shown
        )

    def say(self, sentence: str) -> None:
        self.console.print(sentence, markup=False, soft_wrap=True)

    @contextmanager
    def open(self) -> Iterator[None]:
        """Shows the bars, with the bars of `datasets` off meanwhile."""
        import datasets

        ours = not datasets.are_progress_bars_disabled()
        datasets.disable_progress_bars()
        try:
            with self._progress:
                yield
        finally:
            if ours:
                datasets.enable_progress_bars()

    @contextmanager
    def step(self, description: str, total: int | None) -> Iterator[Callable[[int], None]]:
        """One bar; gives the function that advances it."""
        task = self._progress.add_task(description, total=total)
        yield lambda n: self._progress.advance(task, n)
        done = self._progress.tasks[task].completed if total is None else total
        self._progress.update(task, total=done, completed=done)
