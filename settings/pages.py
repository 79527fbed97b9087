"""`pellucid train --help` and `--print-config`: every field of a configuration, in a terminal."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pellucid.config import RunConfig
from pellucid.experiments import PRESETS
from pellucid.settings.console import console_of
from pellucid.settings.words import Row, describe, fillings

WIDTH = 110
"""characters of a line where there is no terminal"""

HELP = """\
usage: pellucid train [PRESET] [path=value ...] [run=FOLDER] [--print-config]

Trains PRESET ({presets}; tiny where none is given) with changes, in FOLDER (by default a
readable name under runs/). The same command again resumes where the run stopped.

  pellucid train tiny mlp=topk mlp.k=16 train.steps=500 seed=1
  pellucid train tiny mlp=dense mlp@1=topk mlp@1.k=8      one layer differs from the others
  pellucid train small data=files data.path=my/text       another corpus

The words may come in any order; the same ones follow `python train.py` and
`accelerate launch train.py`. --print-config shows what they come to, and trains nothing.
Fields with a * may change when a run is resumed. Values shown are those of {preset}.
"""


def field_help(config: RunConfig) -> None:
    """Print every field of every filling with its value and its doc."""
    console = console_of(WIDTH)
    console.print(Text(HELP.format(presets=", ".join(PRESETS), preset=config.preset)))
    slots = fillings(config)
    inside = {row.path for _, by_tag in slots for rows in by_tag.values() for row in rows}
    # The preset is the first word, and the format is no choice.
    inside |= {row.path for row, _ in slots} | {"format", "preset"}
    for title, rows in _groups(row for row in describe(config) if row.path not in inside):
        _section(console, title, rows)
        for row, by_tag in slots:
            if row.path.startswith(f"{title}."):
                _slot(console, row, by_tag)


def _slot(console: Console, row: Row, by_tag: dict[str, list[Row]]) -> None:
    console.print(Text(f"{row.short}={row.value}", style="bold cyan"), Text(f"  {row.doc}"), end="")
    console.print(Text(f"\n    {row.kind}", style="dim"))
    for tag, rows in by_tag.items():
        if rows:
            console.print(Text(f"  with {row.short}={tag}", style="bold"))
            console.print(Padding(_table(rows), (0, 0, 0, 2), expand=False))
    console.print()


def print_config(config: RunConfig, folder: Path) -> None:
    """Print the resolved configuration and what follows from it; prepares the corpus if need be."""
    from pellucid.data import prepare
    from pellucid.settings.summary import summary

    console = console_of(WIDTH)
    data = prepare(config.data)
    for title, rows in _groups(describe(config)):
        _section(console, title, rows, docs=False)
    console.print(Text("derived", style="bold"))
    for line in summary(config, data.vocab_size, len(data.split("train").tokens)):
        console.print(Text(f"  {line}"))
    console.print(Text(f"  run folder   {folder}"))


def _groups(rows: Iterable[Row]) -> Iterator[tuple[str, list[Row]]]:
    """Rows by the first name of their path, those of the run itself first."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        first, dot, _ = row.path.partition(".")
        groups.setdefault(first if dot else "run", []).append(row)
    yield from groups.items()


def _section(console: Console, title: str, rows: list[Row], *, docs: bool = True) -> None:
    console.print(Text(title, style="bold"))
    console.print(Padding(_table(rows, docs=docs), (0, 0, 1, 0), expand=False))


def _table(rows: list[Row], *, docs: bool = True) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for row in rows:
        field = Text(f"  {row.short}", style="cyan") + Text(f"={row.value}", style="green")
        star = "*" if row.operational else ""
        about = Text(f"{row.doc} ") + Text(f"({row.kind})", style="dim") if docs else Text("")
        table.add_row(field + Text(star), about)
    return table
