"""`posthoc`: coders fitted to a dense run, spliced into it, and kept as runs of their own."""

import itertools
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from pellucid import checkpoint
from pellucid.config import identity_hash
from pellucid.errors import ConfigError, RunError
from pellucid.models import Transformer, account
from pellucid.posthoc.config import PosthocConfig, expand
from pellucid.posthoc.fit import fit, held_rows, tune
from pellucid.posthoc.measure import Fidelity, measure
from pellucid.posthoc.splice import check, coder_parameters, splice, spliced_config
from pellucid.run import Run, RunFolder, load
from pellucid.settings import fields
from pellucid.storage.provenance import provenance
from pellucid.training.sources import Source
from pellucid.training.state import model_state

TRAINING_PASSES = 3
"""A step costs about three forward passes of what it trains, and one of what it only reads."""


@dataclass
class Arm:
    """One configuration, its spliced model, and what was noted while it was fitted."""

    config: PosthocConfig
    model: Transformer
    rows: list[dict[str, Any]] = field(default_factory=list)
    chosen_at: Fidelity | None = None


def posthoc(
    run_path: Path | str, words: Sequence[str], out: Path | str | None = None
) -> list[Path]:
    """Fit coders to a dense run, and write the spliced model as a run; the folders written.

    Of several rates the one that explains most of training rows that no coder was fitted to is
    kept, for each k and width: held-out text chooses nothing. Raises ConfigError for words that are
    not understood, RunError for a run that is not dense, and for a folder that holds something.
    """
    configs, start = expand(words), time.monotonic()
    run = load(run_path, device=_device(configs[0].device))
    check(run)
    folders = _folders(run, configs, out)
    arms = [Arm(config, splice(run, config)) for config in configs]
    fit(
        run,
        [(arm.config, arm.model) for arm in arms],
        lambda row: arms[row.pop("arm")].rows.append(row),
    )
    kept = [_best(run, list(same)) for _, same in itertools.groupby(arms, key=_cell)]
    for arm, folder in zip(kept, folders, strict=True):
        tune(run, arm.config, arm.model, arm.rows.append)
        found = measure(run.model, arm.model, held_rows(run, arm.config, "val", 0))
        about = {"arms": len(arms), "seconds_of_all": time.monotonic() - start}
        _write(run, arm, found, folder, about)
        print("\n".join(told(arm.config, found, folder)), flush=True)
    return folders


def told(config: PosthocConfig, found: Fidelity, folder: Path) -> list[str]:
    """What a command says of a spliced run."""
    shares = [f"{value:.3f}" if value is not None else "-" for value in found.explained_variance]
    return [
        f"{folder}: {config.kind} k={config.k} lr={config.lr:g}, {found.tokens:,} held-out tokens",
        f"  cross-entropy {found.ce:.4f} nats per token unspliced, {found.ce_spliced:.4f} with all "
        f"coders ({found.ce_spliced - found.ce:+.4f}), KL {found.kl:.4f}",
        f"  explained variance by layer {' '.join(shares)}",
        f"  active units {' '.join(f'{a:.1f}' for a in found.active)}, "
        f"dead share {' '.join(f'{d:.3f}' for d in found.dead)}",
    ]


def _cell(arm: Arm) -> tuple[int, int | None]:
    return arm.config.k, arm.config.width


def _best(run: Run, arms: list[Arm]) -> Arm:
    """Of arms that differ in their rate, the one that explains most of further training rows."""
    if len(arms) == 1:
        return arms[0]
    for arm in arms:
        after = arm.config.steps + arm.config.kl_steps
        arm.chosen_at = measure(run.model, arm.model, held_rows(run, arm.config, "train", after))
    return max(arms, key=lambda arm: sum(v or 0.0 for v in arm.chosen_at.explained_variance))


def _folders(run: Run, configs: list[PosthocConfig], out: Path | str | None) -> list[Path]:
    """A folder for each k and width; raises before anything is fitted."""
    cells = list(dict.fromkeys((c.k, c.width) for c in configs))
    for config in configs:
        spliced_config(run.config.model, config)
    first = configs[0]
    frozen = "" if first.frozen == "none" else f"-frozen-{first.frozen}"
    tuned = "-kl" if first.kl_steps else ""
    base = (
        Path(out)
        if out
        else run.folder.path.with_name(f"{run.folder.name}-{first.kind}{frozen}{tuned}")
    )
    several = len(cells) > 1
    if several or not out:
        paths = [
            base.with_name(f"{base.name}-k={k}" + (f"-width={width}" if width else ""))
            for k, width in cells
        ]
    else:
        paths = [base]
    for path in paths:
        if path.exists() and any(path.iterdir()):
            raise RunError(f"{path} is not empty: give a new folder with run=…")
    return paths


def _device(wanted: str) -> str:
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device is 'cuda', but torch finds no GPU; 'cpu' or 'auto' is accepted")
    return "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"


def _write(run: Run, arm: Arm, found: Fidelity, path: Path, about: dict[str, Any]) -> None:
    """A run folder that says it is finished, with one checkpoint."""
    config = arm.config
    steps = config.steps + config.kl_steps
    train = run.config.train.replace(
        steps=steps,
        batch=config.batch,
        micro_batch=None,
        world_size=None,
        lr=config.lr,
        init_from=str(run.folder.path),
        teacher=str(run.folder.path) if config.kl_steps else None,
        losses=(),
    )
    whole = run.config.replace(
        preset="custom", model=spliced_config(run.config.model, config), train=train
    )
    folder = RunFolder(path)
    facts = provenance(
        world_size=1,
        data_fingerprint=run.data.fingerprint,
        device=next(arm.model.parameters()).device.type,
        account=asdict(account(arm.model)),
        origin={"posthoc": Source("posthoc", run).facts()},
        losses=[],
        forget_units=[],
        posthoc=_facts(run, arm, found) | about,
    )
    folder.create(fields.to_json(whole), facts, run.tokenizer)
    for row in arm.rows:
        tokens = row["step"] * config.batch * run.config.model.context
        folder.append_metrics({"kind": "posthoc", "tokens": tokens} | row)
    per_byte = len(run.data.split("val").tokens) / int(run.data.split("val").doc_bytes.sum())
    folder.append_metrics(
        {
            "kind": "val",
            "step": steps,
            "tokens": steps * config.batch * run.config.model.context,
            "loss": found.ce_spliced,
            "bits_per_byte": found.ce_spliced / 0.6931471805599453 * per_byte,
            "tokens_seen": found.tokens,
        }
    )
    checkpoint.save(
        folder.checkpoints,
        steps,
        model=model_state(arm.model),
        optimizer={},
        rng={0: torch.get_rng_state()},
        state={"seconds": about["seconds_of_all"]},
        meta={
            "config_hash": identity_hash(whole),
            "data_fingerprint": run.data.fingerprint,
            "world_size": 1,
            "threads": torch.get_num_threads(),
        },
    )
    folder.mark_finished(step=steps, seconds=about["seconds_of_all"])


def _facts(run: Run, arm: Arm, found: Fidelity) -> dict[str, Any]:
    """What the coders are, what they keep, how a rate was chosen, and what they cost."""
    chosen = arm.chosen_at.facts() if arm.chosen_at else None
    return {
        "config": fields.to_json(arm.config),
        "held_out": found.facts(),
        "rate_chosen_on_train_rows": chosen,
        "compute": compute(run, arm.config, arm.model),
    }


def compute(run: Run, config: PosthocConfig, spliced: Transformer) -> dict[str, float]:
    """Floating-point operations of fitting one arm, those of the run's own training, their ratio.

    A step reads the dense model once and trains the coders; a step of the tuning reads the dense
    model and passes through the spliced one forwards and backwards.
    """
    context, train = run.config.model.context, run.config.train
    dense, whole = account(run.model).flops_executed, account(spliced).flops_executed
    coders = sum(block.mlp.cost(context).executed for block in spliced.blocks)
    per_step = config.batch * context
    fitting = per_step * config.steps * (dense + TRAINING_PASSES * coders)
    tuning = per_step * config.kl_steps * (dense + TRAINING_PASSES * whole)
    own = train.batch * context * run.step * TRAINING_PASSES * dense
    trained = sum(p.numel() for b in spliced.blocks for p in coder_parameters(b.mlp).values())
    return {
        "flops": fitting + tuning,
        "flops_of_the_run": own,
        "ratio": (fitting + tuning) / own if own else None,
        "tokens": per_step * (config.steps + config.kl_steps),
        "tokens_of_the_run": train.batch * context * run.step,
        "coder_parameters": trained,
    }
