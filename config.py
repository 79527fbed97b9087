"""`RunConfig`: everything that a training run is, and how it is named."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from pellucid.data import CORPORA, DataConfig
from pellucid.data.labels import CHANNEL, LabeledConfig
from pellucid.errors import ConfigError
from pellucid.models import ModelConfig
from pellucid.models.gradient_rule import GRADIENT_RULES
from pellucid.models.head import HEADS
from pellucid.settings import fields, words
from pellucid.settings.fields import Config, setting

Tracker = Literal[
    "tensorboard", "wandb", "trackio", "comet_ml", "mlflow", "aim", "clearml", "dvclive", "swanlab"
]

LONGEST_NAME = 80
FUNCTION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
"""`module:function`."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Config):
    """How the weights are found. Operational fields may change when a run is resumed."""

    steps: int = setting(2000, low=1)
    """Updates of the weights."""
    batch: int = setting(16, low=1)
    """Rows of one step, over all processes; a row is `model.context` tokens."""
    micro_batch: int | None = setting(None, low=1)
    """Rows of one forward pass in one process; none takes all at once. The sum is the same, but for
    fillings that are not causal in training (batch_topk), whose batch is one pass."""
    optimizer: Literal["adamw", "muon"] = setting("adamw")
    """muon updates the matrices within blocks by Muon, everything else by AdamW."""
    lr: float = setting(3e-3, above=0)
    """Peak learning rate of AdamW."""
    muon_lr: float = setting(0.02, above=0)
    """Peak learning rate of Muon."""
    weight_decay: float = setting(0.1, low=0)
    """Decoupled decay of matrices; vectors do not decay."""
    beta1: float = setting(0.9, low=0, below=1)
    """Decay of AdamW's mean of gradients."""
    beta2: float = setting(0.95, low=0, below=1)
    """Decay of AdamW's mean of squared gradients."""
    eps: float = setting(1e-8, above=0)
    """Added to the root of AdamW's mean of squared gradients."""
    gradient: Literal["clip", "rms"] = setting("clip")
    """clip: shorten the gradient to norm `clip`; rms: divide it by its root mean square."""
    clip: float = setting(1.0, low=0)
    """Largest norm of the whole gradient; 0 does not clip."""
    schedule: Literal["cosine", "wsd", "sharkfin"] = setting("cosine")
    """Learning rate after the warm-up: a cosine, flat and then linear, or linear (sharkfin)."""
    warmup: float = setting(0.05, low=0, high=1)
    """Share of the steps in which the learning rate rises."""
    decay: float = setting(0.2, low=0, high=1)
    """Share of the steps after the warm-up in which wsd lowers the learning rate."""
    final_lr: float = setting(0.1, low=0, high=1)
    """Last learning rate as a share of the peak."""
    precision: Literal["fp32", "bf16", "fp64"] = setting("fp32")
    """bf16 computes in bfloat16 and keeps the weights in fp32."""
    revive_every: int = setting(500, low=1)
    """Steps between revivals of dead units."""
    revive_after: int = setting(10_000_000, low=1)
    """Tokens of training over which a unit must be silent to be dead."""
    revive_budget: float = setting(0.01, low=0, high=1)
    """Largest share of a layer's units revived at a time; 0 revives none."""
    init_from: str | None = setting(None)
    """A run whose newest weights this one starts from, converted where layers differ."""
    teacher: str | None = setting(None)
    """A run whose newest weights teach this one: its predictions are learned beside the text."""
    teacher_weight: float = setting(0.5, above=0, high=1)
    """Share of the loss that the distance to the teacher has; the text has the rest."""
    temperature: float = setting(1.0, above=0)
    """Both distributions are softened by it before they are compared."""
    losses: tuple[str, ...] = setting(())
    """Functions, as module:function, of recorded units whose values are added to the loss."""

    device: Literal["auto", "cpu", "cuda"] = setting("auto", operational=True)
    """auto takes a GPU where there is one."""
    threads: int | None = setting(None, low=1, high=4096, operational=True)
    """CPU threads of one process; none leaves torch's own choice."""
    parallel: Literal["auto", "none", "ddp", "fsdp2"] = setting("auto", operational=True)
    """How processes share the work; auto is ddp where there are several."""
    world_size: int | None = setting(None, low=1, operational=True)
    """Processes that must take part; none takes as many as were launched."""
    compile: bool = setting(False, operational=True)
    """Compile each block with torch.compile."""
    checkpoint_activations: bool = setting(False, operational=True)
    """Compute each block again in the backward pass instead of keeping what it computed."""
    eval_every: int = setting(250, low=1, operational=True)
    """Steps between validations; the last step is always validated."""
    eval_tokens: int = setting(65_536, low=1, operational=True)
    """Tokens of the val split in one validation."""
    checkpoint_every: int = setting(250, low=1, operational=True)
    """Steps between checkpoints, beside steps 0, 1, 4, 16, ... and the last."""
    keep: int = setting(2, low=2, operational=True)
    """Newest checkpoints kept, beside those log-spaced ones, which are never deleted."""
    log_every: int = setting(10, low=1, operational=True)
    """Steps between rows of metrics.jsonl."""
    trackers: tuple[Tracker, ...] = setting((), operational=True)
    """Where metrics go beside metrics.jsonl."""

    def check(self) -> None:
        if self.micro_batch is not None and self.batch % self.micro_batch:
            raise ConfigError(
                f"micro_batch = {self.micro_batch} is not accepted; "
                f"expected a divisor of the batch, {self.batch}"
            )
        if self.world_size is not None and self.batch % self.world_size:
            raise ConfigError(
                f"world_size = {self.world_size} is not accepted; "
                f"expected a divisor of the batch, {self.batch}"
            )
        for name in self.losses:
            if not FUNCTION.fullmatch(name) or self.losses.count(name) > 1:
                raise ConfigError(
                    f"losses = {name!r} is not accepted; "
                    f"expected different functions, each as module:function"
                )


@dataclass(frozen=True, kw_only=True)
class RunConfig(Config):
    """A run: words such as `mlp.k=32` reach into the model, others name their part first."""

    forward: ClassVar[str | None] = "model"

    format: Literal[1] = setting(1, operational=True)
    """Version of this form as it is saved."""
    preset: str = setting("custom", operational=True)
    """The preset that the run started from, for its name."""
    seed: int = setting(0, low=0, high=2**31 - 1)
    """Initial weights, order of the rows, dropout and revival."""
    data: DataConfig = setting(DataConfig())
    model: ModelConfig = setting(ModelConfig())
    train: TrainConfig = setting(TrainConfig())

    def check(self) -> None:
        self._check_labels("head", HEADS, self.model.head)
        self._check_labels("gradient_rule", GRADIENT_RULES, self.model.gradient_rule)
        self.model.gradient_rule.refuse_training(self.train)

    def _check_labels(self, slot: str, table: Mapping[str, type], filling: Config) -> None:
        if CHANNEL not in filling.builds.needs or self.data.labels != "none":
            return
        labeled = [tag for tag, cls in CORPORA.items() if issubclass(cls.Config, LabeledConfig)]
        tag = fields.tag_of(CORPORA, self.data.corpus)
        word = "" if tag in labeled else f" and one of data={', '.join(labeled)}"
        raise ConfigError(
            f"model.{slot} = {fields.tag_of(table, filling)} learns from labels, "
            f"and the corpus {tag} comes without: add data.labels=loop{word}"
        )


def identity_hash(config: Config) -> str:
    """SHA-256 of the fields that a resumed run must share, as 64 hex digits."""
    tree = fields.to_json(config, operational=False)
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def default_run_name(config: RunConfig, base: RunConfig | None = None) -> str:
    """A name for the run's folder: preset, what differs from it (`base`), seed.

    `tiny-mlp.k=16-steps=500-seed1`; what would be too long or no file name is cut, and ends in
    a part of the identity hash.
    """
    digest = identity_hash(config)[:8]
    told = _told(base, config) if base else [digest]
    name = "-".join([config.preset, *told])
    plain = re.sub(r"[^\w=.,@+-]", "_", name, flags=re.ASCII)
    seed = f"-seed{config.seed}"
    if plain == name and len(name + seed) <= LONGEST_NAME:
        return name + seed
    return plain[: LONGEST_NAME - len(seed) - 9] + f"-{digest}{seed}"


def _told(base: RunConfig, config: RunConfig) -> list[str]:
    changed = words.changes(base, config, operational=False)
    return [f"{path.removeprefix('train.')}={text}" for path, text in changed if path != "seed"]
