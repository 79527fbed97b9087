"""A headless Chromium for looking at pages: for the tests and `report.picture` alone."""

import importlib.util
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pellucid.errors import RunError

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
"""Flags for a browser that shows local pages of this project and speaks to nobody."""


def find_chromium() -> str | None:
    """Path of the first Chromium or Chrome on the PATH; None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def missing() -> str | None:
    """What is missing to look at a page and how to get it; None where nothing is."""
    if importlib.util.find_spec("playwright") is None:
        return "the Python package playwright is missing: pip install playwright"
    if find_chromium() is None:
        return f"no Chromium ({', '.join(NAMES)}) is on the PATH: apt-get install chromium"
    return None


@contextmanager
def headless() -> Iterator["Browser"]:
    """A browser with a new, empty profile. RunError: there is none to start."""
    if reason := missing():
        raise RunError(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=find_chromium(), args=list(QUIET))
        try:
            yield browser
        finally:
            browser.close()
