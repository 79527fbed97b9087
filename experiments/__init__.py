"""Runs that people start by name: `preset("tiny")`, `run_config(["tiny", "mlp.k=16"])`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pellucid.errors import ConfigError
from pellucid.settings.kinds import nearest, shown

if TYPE_CHECKING:
    from pellucid.config import RunConfig

PRESETS = ("tiny", "small", "base")
DEFAULT = "tiny"


def preset(name: str) -> "RunConfig":
    """The configuration of a preset; raises ConfigError for a name that is none."""
    if name not in PRESETS:
        raise ConfigError(f"preset = {shown(name)} is not accepted{nearest(name, PRESETS)}")
    # Imported when asked for: a configuration brings the models, and with them torch.
    from pellucid.experiments import presets

    return getattr(presets, name)()


def split(words: Sequence[str]) -> tuple[str, list[str]]:
    """The name of the preset, and the other words; the first word may name it, as may `preset=`."""
    words = [word.removeprefix("preset=") for word in words]
    if words and "=" not in words[0]:
        return words[0], words[1:]
    named = [word for word in words if "=" not in word]
    if len(named) > 1:
        raise ConfigError(f"{named[1]!r} is a second preset; expected path=value")
    return (named or [DEFAULT])[0], [word for word in words if word not in named]


def run_config(words: Sequence[str]) -> "RunConfig":
    """The configuration of a preset (the first word, `tiny` where there is none) and its changes."""
    from pellucid.settings.words import override

    name, changes = split(words)
    return override(preset(name), changes)
