"""Where tables are printed: a terminal, a file or a pipe."""

from typing import NoReturn

from rich.console import Console


class _Console(Console):
    def on_broken_pipe(self) -> NoReturn:
        raise BrokenPipeError  # rich itself would exit with 1; `cli.guarded` knows better


def console_of(width: int) -> Console:
    """A console as wide as the terminal, or of this width where there is none."""
    # Rich takes 80 columns where it finds no terminal; a file or a pipe can hold whole lines.
    plain = _Console()
    return plain if plain.is_terminal else _Console(width=width)
