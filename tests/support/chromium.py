"""Where this machine's Chromium or Chrome is; `python chromium.py` prints it, or exits 1."""

import os
import shutil
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MAC = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")
HOW_TO_GET = (
    "the tests of the pages did not run: no Chromium or Chrome was found. "
    "Install one (Debian: apt-get install chromium), or name it: CHROMIUM=PATH make test"
)


def find_chromium() -> str | None:
    """The path of a browser: `$CHROMIUM`, else the first known name on the PATH."""
    named = os.environ.get("CHROMIUM")
    on_path = (shutil.which(name) for name in ([named] if named else NAMES))
    found = next((path for path in on_path if path), None)
    return found or (str(MAC) if MAC.exists() and not named else None)


if __name__ == "__main__":
    path = find_chromium()
    print(path or HOW_TO_GET)
    sys.exit(path is None)
