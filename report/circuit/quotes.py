"""Where the nodes of a circuit are active in held-out text, as the file beside it tells."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pellucid.report.circuit.checked import Checked

BANDS = ("top", "p90", "p50", "p10", "silent", "near_miss")


@dataclass(frozen=True, kw_only=True)
class Quotes:
    """Contexts by node, with the texts of their tokens."""

    by_node: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)
    """one entry per value of a node: `part`, `signed`, `contexts`"""
    vocab: Mapping[str, str] = field(default_factory=dict)
    """texts of tokens, by their numbers as text"""
    about: str = ""
    """`16,119 tokens of val at step 2,000`; empty where there are no contexts"""


def quotes(slug: str, content: Any) -> Quotes:
    """Read the content of `circuits/<slug>.contexts.json`; empty for None.

    RunError names what is not as it should be.
    """
    if content is None:
        return Quotes()
    file = Checked(f"circuits/{slug}.contexts.json", content)
    held, vocab = file.mapping("nodes") or {}, file.mapping("vocab") or {}
    for token, text in vocab.items():
        file.text(f"vocab[{token}]", text)
    names = file.items("documents", content.get("documents"))
    documents = [file.text(f"documents[{i}]", name) for i, name in enumerate(names)]
    found = {}
    for node, parts in held.items():
        at = f"nodes[{node}]"
        found[node] = [_part(file, at, part, vocab, documents) for part in file.items(at, parts)]
    read, step = (file.number(key, content.get(key)) or 0 for key in ("n_tokens", "step"))
    split = file.text("split", content.get("split", ""))
    about = f"{read:,} tokens of {split} at step {step:,}"
    return Quotes(by_node=found, vocab=vocab, about=about)


def _part(
    file: Checked, at: str, held: Any, vocab: Mapping[str, str], documents: list[str]
) -> dict[str, Any]:
    if not isinstance(held, dict):
        file.refuse(at, held, "an object")
    contexts = file.items(f"{at}.contexts", held.get("contexts"))
    return {
        "part": file.text(f"{at}.part", held.get("part", "")),
        "signed": held.get("signed") is True,
        "contexts": [_context(file, f"{at}.contexts", c, vocab, documents) for c in contexts],
    }


def _context(
    file: Checked, at: str, held: Any, vocab: Mapping[str, str], documents: list[str]
) -> dict[str, Any]:
    if not isinstance(held, dict) or held.get("band") not in BANDS:
        file.refuse(at, held, f"an object whose band is one of {', '.join(BANDS)}")
    tokens = file.items(f"{at}.tokens", held.get("tokens"))
    values = file.items(f"{at}.values", held.get("values"))
    for token in tokens:
        if str(token) not in vocab:
            file.refuse(f"{at}.tokens", token, "a token of its vocab")
    if len(values) != len(tokens):
        file.refuse(f"{at}.values", values, f"{len(tokens)} numbers, one for each token,")
    return {
        "band": held["band"],
        "document": documents[_below(file, f"{at}.document", held, len(documents))],
        "tokens": tokens,
        "values": [file.number(f"{at}.values", value) or 0.0 for value in values],
        "center": _below(file, f"{at}.center", held, len(tokens)),
    }


def _below(file: Checked, at: str, held: Mapping[str, Any], end: int) -> int:
    value = held.get(at.rpartition(".")[2])
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < end:
        file.refuse(at, value, f"a number from 0 to {end - 1}")
    return value
