"""A picture of a run's report: `python -m pellucid.report.picture RUN out.png`."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pellucid.errors import EXIT_OK, EXIT_USER, UserError
from pellucid.report.chromium import headless
from pellucid.report.report import write_report


@dataclass(frozen=True)
class _Folder:
    path: Path


def take_picture(
    page: Path,
    out: Path,
    *,
    place: str = "",
    size: tuple[int, int] = (1440, 900),
    dark: bool = False,
    whole: bool = False,
) -> Path:
    """Save as PNG what a window of this size shows of a page from the place its `#` names.

    whole: the page down to its end instead. RunError: no browser is found.
    """
    out = Path(out).resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    view = {"width": size[0], "height": size[1]}
    scheme = "dark" if dark else "light"
    with headless() as browser:
        # A page that glides to its place would be pictured on the way.
        tab = browser.new_page(viewport=view, color_scheme=scheme, reduced_motion="reduce")
        tab.goto(Path(page).resolve().as_uri() + place)
        # Two frames: the first lays the page out, the second has its charts and cards.
        tab.evaluate("() => new Promise((r) => requestAnimationFrame(() => setTimeout(r, 300)))")
        tab.screenshot(path=out, full_page=whole, animations="disabled")
    return out


def main(words: Sequence[str] | None = None) -> int:
    """The command of this module; returns the exit code."""
    given = _parser().parse_args(words)
    size = (given.width, given.height)
    looks = {"place": given.place, "size": size, "dark": given.dark, "whole": given.whole}
    try:
        page = write_report(_Folder(given.run))
        print(take_picture(page, given.out, **looks))
    except UserError as error:
        print(error, file=sys.stderr)
        return EXIT_USER
    return EXIT_OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pellucid.report.picture", description=__doc__)
    parser.add_argument("run", type=Path, help="a run folder; its report is written first")
    parser.add_argument("out", type=Path, help="the PNG to write")
    parser.add_argument("--place", default="", help="where to look: #units, #unit=blocks.0.mlp/17")
    parser.add_argument("--width", type=int, default=1440, help="window width in pixels")
    parser.add_argument("--height", type=int, default=900, help="window height in pixels")
    parser.add_argument("--dark", action="store_true", help="dark colors")
    parser.add_argument("--whole", action="store_true", help="the whole page, not one window of it")
    return parser


if __name__ == "__main__":
    sys.exit(main())
