"""The words of the command."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from pellucid.kernels.bench.shapes import SHAPES

PARTS = ("parity", "select", "decode", "backward", "layer", "weights", "model", "sweep", "all")
DEVICES = ("cpu", "cuda")
WORDS = "rounds=N, seed=N, json=PATH, device=cpu|cuda"
GPU_WORDS = "shapes=S1,T1, part=PART, model=1, sweep=1, limit=SECONDS"


ONLY_GPU = ("shapes", "part", "model", "sweep", "limit")


@dataclass
class Options:
    """What a run measures; `rounds` of 0 is the device's own default."""

    rounds: int = 0
    seed: int = 0
    json: str = ""
    device: str = ""
    part: str = "all"
    shapes: list[str] = field(default_factory=lambda: list(SHAPES))
    model: bool = False
    sweep: bool = False
    limit: int = 450
    """Seconds after which nothing more is begun."""


def parse(words: Sequence[str]) -> Options:
    """The options that words such as `rounds=30` name; ValueError says which word is wrong."""
    options = Options()
    for word in words:
        key, _, value = word.partition("=")
        if key not in vars(options) or not value:
            raise ValueError(f"{word!r} is not one of {WORDS}; on a GPU also {GPU_WORDS}")
        setattr(options, key, _value(key, value))
    return options


def gpu_words(words: Sequence[str]) -> list[str]:
    """Those of the words that only a run on a GPU knows."""
    return [word for word in words if word.partition("=")[0] in ONLY_GPU]


def _value(key: str, value: str) -> str | int | bool | list[str]:
    if key in ("rounds", "seed", "limit"):
        if not value.isdecimal() or (key != "seed" and not int(value)):
            least = 0 if key == "seed" else 1
            raise ValueError(f"{key} must be a whole number from {least} on, got {value!r}")
        return int(value)
    if key in ("model", "sweep"):
        return _one_of(key, value, ("0", "1")) == "1"
    if key == "shapes":
        return [_one_of(key, name, tuple(SHAPES)) for name in value.split(",")]
    accepted = {"part": PARTS, "device": DEVICES}
    return _one_of(key, value, accepted[key]) if key in accepted else value


def _one_of(key: str, value: str, accepted: tuple[str, ...]) -> str:
    if value not in accepted:
        raise ValueError(f"{key} must be one of {', '.join(accepted)}, got {value!r}")
    return value
