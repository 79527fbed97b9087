"""Writes docs/architectures.md: every filling of every slot, what is claimed and what was found.

`python -m pellucid.experiments.architectures [FILE]`. Our own numbers come from the files that
`pellucid bench fillings json=…` and `pellucid bench models json=…` leave in experiments/results.
"""

import inspect
import json
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pellucid.experiments import preset
from pellucid.experiments.published import PUBLISHED
from pellucid.models import Account, ModelConfig, Transformer, UnitSite, account
from pellucid.models.config import PER_LAYER
from pellucid.models.mlp import MLPS
from pellucid.settings.fields import declared

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "architectures.md"
RESULTS = ROOT / "experiments" / "results"
VOCABULARY = 1024
MISSING = "not measured"
HEADER = (
    "filling",
    "what it is",
    "units",
    "exactness",
    "causal in training",
    "parameters ×",
    "operations ×",
    "what published results say",
    "loss after 300 steps",
    "time of a step ×",
)

INTRODUCTION = """\
# Architectures

Every filling of every slot. This page is written by `python -m pellucid.experiments.architectures`.

Units are those of the first layer, and exactness is what the filling declares of them and a test
proves. Parameters (in all, then those active for one token) and operations (executed, then those left
if every zero were skipped) are those of the whole model, relative to the dense one, where a filling
with its defaults takes its place in the model of the preset `tiny`, 1,024 tokens, with `mlp=dense`.

Published results were measured by others, on other models and texts; none of them is a result of
Pellucid. Our own columns: held-out nats per token after 300 steps of `tiny`, and the bigram table's in
brackets, by `pellucid bench fillings json=experiments/results/first_steps.json`; and the time of a
training step relative to a dense model of as many active parameters, then relative to what the
filling's operations and bytes justify at the dense model's rates, by
`pellucid bench models json=experiments/results/models.json`.

`mlp=skip_topk`, `mlp=sae` and `stream=crosslayer`, and those three by `batch_topk`, are what
`pellucid posthoc` makes of a dense run (see [posthoc.md](posthoc.md)): their published results are of
coders fitted to trained models. They train from scratch like all others, and so are measured like
them; an sae trained that way is a bottleneck behind its dense MLP and explains nothing that was there
before it.
"""

Rows = dict[str, dict[str, Any]]


def main(words: list[str]) -> int:
    """Write the page, to another file where one is named."""
    path = Path(words[0]) if words else PAGE
    path.write_text(page(), encoding="utf-8")
    print(f"wrote {path}")
    return 0


def page(results: Path = RESULTS) -> str:
    """The whole page, with what a folder of results says."""
    trained, timed = (_rows(results / name) for name in ("first_steps.json", "models.json"))
    lines = [_line(HEADER), _line("---" for _ in HEADER)]
    lines += [_line(_cells(name, trained, timed)) for name in fillings()]
    return "\n".join([INTRODUCTION, *_above(trained), *lines, ""])


def _above(trained: Rows) -> list[str]:
    """A paragraph that names what does not beat its bigram table, where anything does not."""
    known = {name: trained[name] for name in fillings() if name in trained}
    names = [f"`{name}`" for name, row in known.items() if row["loss"] > row["bigram"]]
    return [f"Above the bigram table after these steps: {', '.join(names)}.", ""] if names else []


def fillings() -> dict[str, type]:
    """Every filling's class, by `slot=tag`."""
    tables = {slot: field.table for slot, field in declared(ModelConfig).items() if field.table}
    return {f"{slot}={tag}": cls for slot, table in tables.items() for tag, cls in table.items()}


def model_with(name: str) -> ModelConfig:
    """The dense model of the size of `tiny` in which one slot is filled as named."""
    plain = preset("tiny").model.replace(mlp=MLPS["dense"].Config())
    return plain.replace(**{name.partition("=")[0]: fillings()[name].Config()})


def summary(cls: type) -> str:
    """The first sentence of a class's docstring, on one line."""
    first = " ".join(inspect.getdoc(cls).split("\n\n")[0].split())
    return re.split(r"(?<=\.)\s", first)[0]


def _cells(name: str, trained: Rows, timed: Rows) -> list[str]:
    cls, config = fillings()[name], model_with(name)
    dense, own = (account(c, VOCABULARY) for c in (model_with("mlp=dense"), config))
    sites = _sites(config, name.partition("=")[0])
    return [
        f"`{name}`",
        summary(cls),
        "; ".join(_units(site) for site in sites) or "none",
        "; ".join(site.exactness for site in sites) or "none",
        "no" if getattr(cls, "causal_in_training", True) is False else "yes",
        _ratios(own, dense, "total", "active"),
        _ratios(own, dense, "flops_executed", "flops_ideal"),
        PUBLISHED.get(name, "nothing that we know of"),
        _loss(trained.get(name)),
        _time(timed.get(name)),
    ]


def _sites(config: ModelConfig, slot: str) -> list[UnitSite]:
    """The sites of a slot's own units, where it has some, and of the halves that a stream brings."""
    brought = [half for half in PER_LAYER if slot == "stream" and config.stream.owned(half)]
    exact = {f"blocks.0.{kind}" for kind in (slot, *brought)}
    sites = Transformer(config, vocab_size=VOCABULARY).sites()
    return [s for name, s in sites.items() if name in exact or name.startswith(f"{slot}.")]


def _units(site: UnitSite) -> str:
    return f"{site.n_units:,} ({site.kind}), {'of either sign' if site.signed else 'not below 0'}"


def _ratios(own: Account, dense: Account, *names: str) -> str:
    return ", ".join(f"{getattr(own, name) / getattr(dense, name):.2f}" for name in names)


def _loss(row: Mapping[str, Any] | None) -> str:
    return f"{row['loss']:.3f} ({row['bigram']:.3f})" if row else MISSING


def _time(row: Mapping[str, Any] | None) -> str:
    return (
        f"{row['step_ms'] / row['dense_ms']:.2f}, {row['over_justified']:.2f}" if row else MISSING
    )


def _rows(path: Path) -> Rows:
    """The rows of a file of results by variant; none where there is no file."""
    if not path.exists():
        return {}
    return {row["variant"]: row for row in json.loads(path.read_text("utf-8"))["rows"]}


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
