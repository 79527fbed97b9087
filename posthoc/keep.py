"""A spliced model as a run folder: what `load`, every metric and every page read."""

from dataclasses import asdict
from math import log
from pathlib import Path
from typing import Any

import torch

from pellucid import checkpoint
from pellucid.config import RunConfig, identity_hash
from pellucid.models import account
from pellucid.posthoc.arm import Arm, Spent
from pellucid.posthoc.measure import Fidelity
from pellucid.posthoc.splice import fitted_config
from pellucid.run import Run, RunFolder
from pellucid.settings import fields
from pellucid.storage.provenance import provenance
from pellucid.training.sources import Source
from pellucid.training.state import model_state


def keep(run: Run, arm: Arm, found: Fidelity, spent: Spent, path: Path, *, seconds: float) -> None:
    """Write a finished run with one checkpoint; RunError where the folder holds something.

    `seconds` were spent on it and on its other rates, with the passes over the dense run that all
    arms share. What the dense run took to train stands beside them, where it came to its end: there
    are no coders without it.
    """
    folder = RunFolder(path)
    config = fitted_config(run.config, arm.config, str(run.folder.path))
    facts = {
        "config": fields.to_json(arm.config),
        "held_out": found.facts(),
        "rate_chosen_by": arm.chosen_by.facts() if arm.chosen_by else None,
        "compute": spent,
        "seconds": seconds,
        "seconds_of_the_run": run.folder.read_manifest().get("finished", {}).get("seconds"),
    }
    manifest = provenance(
        world_size=1,
        data_fingerprint=run.data.fingerprint,
        device=next(arm.model.parameters()).device.type,
        account=asdict(account(arm.model)),
        origin={"posthoc": Source("posthoc", run).facts()},
        losses=[],
        forget_units=[],
        posthoc=facts,
    )
    folder.create(fields.to_json(config), manifest, run.tokenizer)
    for row in _rows(run, arm, found):
        folder.append_metrics(row)
    _save(folder, config, run, arm, seconds)
    folder.mark_finished(step=config.train.steps, seconds=seconds)


def _rows(run: Run, arm: Arm, found: Fidelity) -> list[dict[str, Any]]:
    """The metrics: losses of the fit, and the held-out loss of the spliced model."""
    split, per_step = run.data.split("val"), arm.config.batch * run.config.model.context
    per_byte = len(split.tokens) / int(split.doc_bytes.sum()) / log(2)
    steps = arm.config.steps + arm.config.kl_steps
    held_out = {
        "step": steps,
        "loss": found.ce_spliced,
        "bits_per_byte": found.ce_spliced * per_byte,
        "tokens_seen": found.tokens,
    }
    kinds = [("posthoc", row) for row in arm.rows] + [("val", held_out)]
    return [{"kind": kind, "tokens": row["step"] * per_step} | row for kind, row in kinds]


def _save(folder: RunFolder, config: RunConfig, run: Run, arm: Arm, seconds: float) -> None:
    checkpoint.save(
        folder.checkpoints,
        config.train.steps,
        model=model_state(arm.model),
        optimizer={},
        rng={0: torch.get_rng_state()},
        state={"seconds": seconds},
        meta={
            "config_hash": identity_hash(config),
            "data_fingerprint": run.data.fingerprint,
            "world_size": 1,
            "threads": torch.get_num_threads(),
        },
    )
