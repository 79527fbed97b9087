"""Tasks of the user's own: pairs of prompts in a file, one JSON object a line."""

import json
from pathlib import Path

from pellucid.errors import UserError
from pellucid.eval.tasks.task import Pair

FIELDS = ("prompt_a", "prompt_b", "answer_a", "answer_b")


def load_pairs(path: Path | str) -> list[Pair]:
    """The pairs in a jsonl file, each with the texts prompt_a, prompt_b, answer_a and answer_b.

    Give them to `pack`. Raises UserError that names the line of anything else.
    """
    path = Path(path).expanduser()
    try:
        # Not splitlines: texts may hold other marks that it takes for ends of lines.
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise UserError(f"task file {path} cannot be read: {reason}") from None
    pairs = [_pair(line, f"{path}, line {i},") for i, line in enumerate(lines, 1) if line.strip()]
    if not pairs:
        raise UserError(f"task file {path} holds no pairs: one JSON object a line is accepted")
    return pairs


def _pair(line: str, where: str) -> Pair:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{where} is not JSON: {error.msg}") from None
    if not isinstance(row, dict) or sorted(row) != sorted(FIELDS):
        found = ", ".join(row) if isinstance(row, dict) else type(row).__name__
        raise UserError(f"{where} has {found}: exactly {', '.join(FIELDS)} are accepted")
    for name in FIELDS:
        if not isinstance(row[name], str) or not row[name]:
            raise UserError(
                f"{where} has {name} {row[name]!r}: a text that is not empty is accepted"
            )
    return Pair(**row)
