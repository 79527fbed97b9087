"""How commands read their words: a mistake is one sentence."""

import argparse
import re
from pathlib import Path
from typing import Any, NoReturn

from pellucid.errors import UserError


class Parser(argparse.ArgumentParser):
    """Options of one command; a mistake is a UserError."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog}: {message}")


def run_folder(path: str) -> Any:
    """The folder of an existing run; raises RunError where there is none."""
    from pellucid.run import RunFolder

    return RunFolder.open(Path(path))


def parsed(command: str, argv: list[str], *arguments: tuple[str, dict]) -> argparse.Namespace:
    """The words of a command as its arguments, each given by name and options."""
    parser = Parser(f"pellucid {command}", allow_abbrev=False)
    for name, options in arguments:
        parser.add_argument(name, **options)
    return parser.parse_args(argv)


def duration(text: str) -> float:
    """Seconds of a length of time such as 30m."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if found is None or not float(found[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is not a length of time such as 90s, 30m or 2h")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]


def at_least_one(text: str) -> int:
    """A whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)
