"""A run in progress: its model, data, optimizers, counters, and how they are kept on disk."""

import time
from dataclasses import asdict

import torch
from accelerate import Accelerator

from pellucid import checkpoint
from pellucid.config import RunConfig, identity_hash
from pellucid.data import TokenData
from pellucid.errors import RunError
from pellucid.models import Transformer, account, unwrap
from pellucid.run import RunFolder
from pellucid.settings import fields, words
from pellucid.storage.provenance import provenance
from pellucid.training import devices, state
from pellucid.training.levers import Levers
from pellucid.training.optimizers import Optimizers
from pellucid.training.progress import Meter
from pellucid.training.revival import active_units, dead_share
from pellucid.training.routing import stepper
from pellucid.training.schedule import milestones
from pellucid.training.step import StepResult


class Session:
    """Opens or resumes a run, and keeps it."""

    def __init__(
        self,
        config: RunConfig,
        folder: RunFolder,
        accelerator: Accelerator,
        data: TokenData,
        levers: Levers,
        *,
        until: int | None = None,
    ):
        self.config, self.folder, self.accelerator = config, folder, accelerator
        self.main = accelerator.is_main_process
        self.data, self.levers = data, levers
        model = Transformer(config.model, vocab_size=data.vocab_size, seed=config.seed)
        # Of the config: weights that the constraint leaves in the end, and not those drawn now.
        self.account = account(config.model, vocab_size=data.vocab_size)
        self.model = devices.wrap(model, config.train, accelerator)
        self.optimizers = Optimizers(unwrap(self.model), config.train)
        levers.place(accelerator)
        self.stepper = stepper(config, self.model, self.optimizers, data, accelerator, levers)
        self._claim()
        self.step, self.seconds = 0, 0.0
        self.spoken_at, self.spoken_step = time.monotonic(), 0
        self.tokens_per_step = config.train.batch * config.model.context
        self.milestones = milestones(config.train.steps)
        self.saved_at: int | None = None
        self._validated: set[int] | None = None
        self.said: list[str] = []
        self.resumed = False
        torch.manual_seed(config.seed * 1009 + accelerator.process_index)
        self._resume(until)
        self.spoken_step = self.step
        if until is None:
            self._start_trackers()

    def _claim(self) -> None:
        """Create the folder, or refuse one whose data is not this run's."""
        if self.main and not self.folder.exists():
            about = provenance(
                world_size=self.accelerator.num_processes,
                data_fingerprint=self.data.fingerprint,
                device=str(self.accelerator.device),
                account=asdict(self.account),
                **self.levers.facts(),
                forget_units=unwrap(self.model).gradient_rule.declared(unwrap(self.model)),
            )
            self.folder.create(fields.to_json(self.config), about, self.data.tokenizer)
        elif self.main and self.folder.read_config() != fields.to_json(self.config):
            self.folder.write_config(fields.to_json(self.config))
        self.accelerator.wait_for_everyone()
        begun_with = self.folder.read_manifest()["data_fingerprint"]
        if begun_with != self.data.fingerprint:
            raise RunError(
                f"{self.folder.path} was begun with data {begun_with[:12]}, the corpus is now "
                f"{self.data.fingerprint[:12]}: give another folder with run=…, or the old corpus"
            )

    def _resume(self, until: int | None) -> None:
        """Continue from the newest whole checkpoint; a replay, from the newest up to a step."""
        found = checkpoint.latest(self.folder.checkpoints, say=self.said.append, at_most=until)
        if found is None and until is not None:
            raise RunError(
                f"{self.folder.path} has no checkpoint at or before step {until}; "
                f"there are {checkpoint.steps(self.folder.checkpoints)}"
            )
        if found is None:
            self._forget_rows_after(-1)
            self.said += self.levers.start(self.folder, self.model, self.data, self.accelerator)
            return
        saved = checkpoint.load(found)
        self._compare_threads(saved.meta)
        state.load_model(self.model, saved.model, found)
        self.optimizers.load(saved.optimizer, str(found))
        if not state.restore_random(saved.rng, self.accelerator):
            self.said.append(
                f"{len(saved.rng)} processes saved this run and {self.accelerator.num_processes} "
                f"continue it: rows stay the same, dropout and sums do not"
            )
        self.step, self.seconds = saved.step, saved.state["seconds"]
        self.resumed = True
        self.saved_at = self.step
        if until is None:
            self._forget_rows_after(self.step)
        self.said.append(f"resumed at step {self.step}")

    def _compare_threads(self, meta: dict) -> None:
        threads = torch.get_num_threads()
        if meta["threads"] != threads:
            self.said.append(
                f"saved with {meta['threads']} threads, continued with {threads}: the sums' order "
                f"differs, so weights will not be bitwise those of an uninterrupted run"
            )

    def save(self) -> None:
        """A checkpoint of this moment; all processes take part."""
        meta = {
            "config_hash": identity_hash(self.config),
            "data_fingerprint": self.data.fingerprint,
            "world_size": self.accelerator.num_processes,
            "threads": torch.get_num_threads(),
        }
        state.save(
            self.folder.checkpoints,
            self.step,
            self.model,
            self.optimizers,
            self.accelerator,
            keep=self.config.train.keep,
            milestones=self.milestones,
            meta=meta,
            state={"seconds": self.seconds, "tokens": self.step * self.tokens_per_step},
        )
        self.saved_at = self.step

    def _forget_rows_after(self, step: int) -> None:
        """A run killed after its last checkpoint had written rows that it will write again."""
        if self.main:
            self.folder.truncate_metrics(step)
        self.accelerator.wait_for_everyone()

    def is_saved(self) -> bool:
        """Whether this very step was saved, or resumed from, by this process."""
        return self.saved_at == self.step

    def validated(self) -> bool:
        """Whether this step's validation is already among the metrics (it is after a resume)."""
        if self._validated is None:
            rows = self.folder.read_metrics()
            self._validated = {row["step"] for row in rows if row["kind"] == "val"}
        return self.step in self._validated

    def row(self, result: StepResult) -> dict:
        """The metrics of the step just taken."""
        now = time.monotonic()
        elapsed, self.spoken_at = now - self.spoken_at, now
        self.seconds += elapsed
        steps, self.spoken_step = self.step - self.spoken_step, self.step
        return {
            "kind": "train",
            "step": self.step,
            "tokens": self.step * self.tokens_per_step,
            "loss": result.loss,
            "auxiliary": result.auxiliary,
            "lr": result.lr,
            "grad_norm": result.grad_norm,
            "tokens_per_s": steps * self.tokens_per_step / max(elapsed, 1e-9),
            "seconds": self.seconds,
            "active_units": active_units(result.told, self.tokens_per_step),
            "dead_share": dead_share(self.model, self.config.train.revive_after),
            **result.more,
        }

    def restart_clock(self) -> None:
        """Leave out of the speed what was not training: validation and saving."""
        now = time.monotonic()
        self.seconds += now - self.spoken_at
        self.spoken_at, self.spoken_step = now, self.step

    def write(self, row: dict) -> None:
        """One line of metrics, to the folder and to the trackers."""
        if not self.main:
            return
        self.folder.append_metrics(row)
        numbers = {k: v for k, v in row.items() if isinstance(v, int | float) and k != "step"}
        prefixed = {f"{row['kind']}/{k}": v for k, v in numbers.items()}
        if self.config.train.trackers:
            self.accelerator.log(prefixed, step=row["step"])

    def meter(self) -> Meter:
        return Meter(
            self.config.train.steps,
            self.step,
            shown=self.main,
            flops_per_token=3 * self.account.flops_executed,
        )

    def _start_trackers(self) -> None:
        wanted = self.config.train.trackers
        if not wanted:
            return
        flat = {row.path: str(row.value) for row in words.describe(self.config)}
        self.accelerator.init_trackers("trackers", config=flat)
