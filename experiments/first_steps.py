"""Whether every filling trains: 300 steps of `tiny` with its defaults, and what they taught.

`pellucid bench fillings [word…]` prints per filling the held-out loss beside the bigram table's, the
share of its units that spoke, and what the loss costs when what the slot writes is set to 0. Words:
`only=…` (tags, or `slot=tag`), `json=PATH`, `out=FOLDER` (where runs go); all others change the run.
What the file of results already holds of the same filling and configuration is not trained again,
and a run in the folder goes on where it was stopped.
"""

import math
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pellucid.config import RunConfig
from pellucid.errors import UserError
from pellucid.eval.ngram import NGram
from pellucid.experiments import beside, kept, own_words, run_config
from pellucid.models import ModelConfig, ablate, intervene, record
from pellucid.run import load
from pellucid.settings.fields import declared
from pellucid.train import train

STEPS, HELD_OUT_ROWS, ROWS_AT_ONCE = 300, 32, 8
SLOTS = {
    "mlp": "mlp_out",
    "attention": "attn_out",
    "position": None,
    "norm": None,
    "stream": "mlp_out",
    "head": None,
    "site_sparsity": None,
    "constraint": None,
    "gradient_rule": None,
}
"""The slots that are tried, and the site that a slot writes to."""

PLAIN = {
    "position": "rope",
    "norm": "rms",
    "stream": "residual",
    "head": "unembed",
    "site_sparsity": "none",
    "constraint": "none",
    "gradient_rule": "none",
}
"""What every variant has where it has nothing else: `mlp=topk`, the preset's, is the row of all."""

LEAST_ALIVE, LEAST_COST = 0.5, 0.05
"""What a filling must reach: living units, and nats that ablating it costs."""


@dataclass(frozen=True)
class Trial:
    """Nats per token on held-out rows; None where a slot has no units or nothing to ablate."""

    variant: str
    loss: float
    bigram: float
    alive: float | None
    ablation_cost: float | None

    @property
    def passes(self) -> bool:
        alive = self.alive is None or self.alive >= LEAST_ALIVE
        return self.loss < self.bigram and alive and (self.ablation_cost or 1) >= LEAST_COST


def main(words: list[str]) -> int:
    """Print the table; 1 where a filling failed to train as it must."""
    options, words = _options(words)
    print(f"{'variant':28}{'loss':>8}{'bigram':>8}{'alive':>8}{'ablation':>10}")
    rows, failed, tried = kept.read(options["json"]), {}, []
    with nullcontext(options["out"]) if options["out"] else tempfile.TemporaryDirectory() as out:
        for name, config in configurations(words, options["only"]):
            source = kept.digest(name.partition("=")[0], config)
            try:
                if rows.get(name, {}).get("source") != source:
                    found = trial(name, config, Path(out) / f"{name}-{source[:12]}")
                    rows[name] = asdict(found) | {"passes": found.passes, "source": source}
                tried.append(rows[name])
                _show(rows[name])
            except UserError as error:
                failed[name] = str(error)
                print(f"{name:28} {error}")
            if options["json"]:
                facts = {"format": 1, "steps": STEPS, "torch": torch.__version__}
                kept.write(options["json"], facts, rows, failed)
    return 0 if not failed and all(row["passes"] for row in tried) else 1


def _options(words: list[str]) -> tuple[dict, list[str]]:
    options: dict = {"only": "", "json": "", "out": ""}
    own, rest = own_words(words, options)
    options |= own
    options["only"] = [tag for tag in options["only"].split(",") if tag]
    return options, rest


def configurations(words: list[str], only: list[str]) -> Iterator[tuple[str, RunConfig]]:
    """(`slot=tag`, configuration) of every filling, or of those named."""
    tables = {slot: declared(ModelConfig)[slot].table for slot in SLOTS}
    names = {f"{slot}={tag}": tag for slot, table in tables.items() for tag in table}
    plain = {f"{slot}={tag}" for slot, tag in PLAIN.items()}
    for asked in only:
        if asked not in {*names, *names.values()}:
            known = ", ".join(sorted(set(names.values())))
            raise UserError(f"only={asked} is no filling; {known} are")
    for name, tag in names.items():
        if {name, tag} & {*only} if only else name not in plain:
            # The held-out loss is found here; the run's own needs few tokens.
            first = [f"train.steps={STEPS}", f"train.eval_every={STEPS}", "train.eval_tokens=2048"]
            first += beside(name)
            yield name, run_config(["tiny", name, *first, *words])


def trial(name: str, config: RunConfig, folder: Path) -> Trial:
    """Train one configuration (a finished folder is taken as it is) and look at what it learned."""
    if code := train(config, folder):
        raise SystemExit(code)  # stopped by a signal or by what is not finite: no result
    run = load(folder)
    context = config.model.context
    rows = run.data.rows(0, 0, batch=HELD_OUT_ROWS, context=context, split="val").tokens
    slot = name.partition("=")[0]
    return Trial(
        variant=name,
        loss=held_out(run.model, rows),
        bigram=_bigram(run.data.split("train").tokens, rows, run.data.vocab_size),
        alive=_alive(run.model, rows, slot),
        ablation_cost=_ablation_cost(run.model, rows, SLOTS[slot]),
    )


@torch.no_grad()
def held_out(model: nn.Module, rows: Tensor) -> float:
    """Mean cross-entropy in nats of the rows' tokens but the first."""
    model.eval()
    losses = []
    for part in rows.split(ROWS_AT_ONCE):
        logits = model(part[:, :-1]).logits.float()
        losses.append(F.cross_entropy(logits.flatten(0, 1), part[:, 1:].flatten(), reduction="sum"))
    return float(sum(losses)) / rows[:, 1:].numel()


def _bigram(train_tokens: np.ndarray, rows: Tensor, vocab: int) -> float:
    table = NGram(np.asarray(train_tokens), vocab, order=2)
    bits = [table.log2_probs(row.numpy())[1:] for row in rows]
    return -float(np.mean(bits)) * math.log(2)


@torch.no_grad()
def _alive(model: nn.Module, rows: Tensor, slot: str) -> float | None:
    """Share of the slot's units that spoke at one token at least."""
    names = [n for n, site in model.sites().items() if site.kind == slot]
    if slot not in ("mlp", "head") or not names:
        return None
    spoke: dict[str, Tensor] = {}
    with record(model, names) as trace:
        for part in rows.split(ROWS_AT_ONCE):
            model(part[:, :-1])
            for name in names:
                acts = trace[name]
                seen = torch.zeros(acts.n_units + 1, dtype=torch.bool)
                if acts.values.ndim == 4:
                    seen[:-1] = (acts.values != 0).flatten(2).any(-1).any(0)
                elif acts.indices is None:
                    seen[:-1] = (acts.values != 0).flatten(0, 1).any(0)
                else:
                    seen[acts.indices.flatten().long()] = True  # index -1 is the last, cut off
                spoke[name] = spoke.get(name, torch.zeros_like(seen[:-1])) | seen[:-1]
    return float(torch.cat(list(spoke.values())).float().mean())


def _ablation_cost(model: nn.Module, rows: Tensor, written: str | None) -> float | None:
    if written is None:
        return None
    edits = {n: ablate() for n in model.sites() if n.endswith(f".{written}")}
    before = held_out(model, rows)
    with intervene(model, edits):
        return held_out(model, rows) - before


def _show(row: kept.Row) -> None:
    alive = "" if row["alive"] is None else f"{row['alive']:8.1%}"
    cost = "" if row["ablation_cost"] is None else f"{row['ablation_cost']:10.3f}"
    verdict = "" if row["passes"] else "  fails"
    line = f"{row['variant']:28}{row['loss']:8.3f}{row['bigram']:8.3f}{alive:>8}{cost:>10}"
    print(line + verdict, flush=True)
