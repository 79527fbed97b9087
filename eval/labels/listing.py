"""All built-in labels as a table: `python -m pellucid.eval.labels.listing`."""

from pellucid.eval.labels.catalogue import PYTHON
from pellucid.eval.labels.english import ENGLISH


def listing() -> str:
    """Markdown rows: label, group, family, P or F (decided by the prefix, or not), meaning."""
    rows = ["| label | group | family | P/F | holds |", "| --- | --- | --- | --- | --- |"]
    for label in (*PYTHON, *ENGLISH):
        decided = "P" if label.prefix else "F"
        meaning = label.meaning.replace("|", "\\|")
        rows.append(f"| {label.name} | {label.group} | {label.family} | {decided} | {meaning} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    print(listing(), end="")
