"""The figures of a grid as PNG, drawn by a browser from their SVG files."""

from pathlib import Path
from xml.etree import ElementTree

from pellucid.report import chromium

KINDS = ("frontier", "tuning")
"""How the names of figures begin."""
SCALE = 3
"""Pixels of a PNG to one of the SVG file: 1,200 across."""


def draw_pngs(folder: Path) -> str | None:
    """Write a PNG beside each SVG file of a grid's figures.

    Returns the reason where there is no browser, and nothing was written.
    """
    if reason := chromium.missing():
        return reason
    drawings = sorted(path for kind in KINDS for path in Path(folder).glob(f"{kind}-*.svg"))
    with chromium.headless() as browser:
        page = browser.new_page(device_scale_factor=SCALE)
        for path in drawings:
            width, height = _size(path)
            page.set_viewport_size({"width": width, "height": height})
            page.goto(path.resolve().as_uri())
            page.screenshot(path=path.with_suffix(".png"))
    return None


def _size(path: Path) -> tuple[int, int]:
    """Width and height of the box that an SVG file draws in."""
    *_, width, height = ElementTree.parse(path).getroot().attrib["viewBox"].split()
    return int(width), int(height)
