"""A configuration that has every kind of field, and strategies for it and for wrong values."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from hypothesis import strategies as st

from pellucid.errors import ConfigError
from pellucid.settings.fields import (
    Config,
    Configurable,
    setting,
    slot,
)
from pellucid.settings.words import describe


class Reed(Configurable):
    @dataclass(frozen=True, kw_only=True)
    class Config(Config):
        bend: float = setting(0.5, low=0, high=1)
        """How far it bends."""

    def __init__(self, config: Any, size: int) -> None:
        self.config, self.size = config, size


class Lip(Configurable):
    @dataclass(frozen=True, kw_only=True)
    class Config(Config):
        k: int = setting(4, low=1)
        """How many
        are pressed."""
        width: int | None = setting(None, low=1)
        rule: Literal["hard", "soft"] = setting("hard")

        def check(self) -> None:
            if self.width is not None and self.k > self.width:
                raise ConfigError(f"k = {self.k} is larger than the width {self.width}")

    def __init__(self, config: Any) -> None:
        self.config = config


VOICES = {"reed": Reed, "lip": Lip}


@dataclass(frozen=True, kw_only=True)
class Pipes(Config):
    voice: Config = slot(VOICES, "reed")
    """What speaks."""
    n: int = setting(2, low=1, high=10_000_000)
    per_layer: dict[str, Config] = setting({})
    """Voices of single pipes."""


@dataclass(frozen=True, kw_only=True)
class Wind(Config):
    forward = "source"
    source: Config = slot(VOICES, "lip")
    leak: float = setting(0.1, low=0, below=1)


@dataclass(frozen=True, kw_only=True)
class Play(Config):
    pace: float = setting(1.0, above=0)
    """Beats in a second."""
    loud: bool = setting(False, operational=True)
    stops: tuple[str, ...] = setting(())
    span: tuple[int, float] = setting((1, 2.0))
    title: str | None = setting(None)
    n: int = setting(3)


@dataclass(frozen=True, kw_only=True)
class Organ(Config):
    forward = "pipes"
    seed: int = setting(0)
    pipes: Pipes = setting(Pipes())
    wind: Wind = setting(Wind())
    play: Play = setting(Play())


def outcome(build):
    """What `build` gives and "", or None and what it refuses with."""
    try:
        return build(), ""
    except ConfigError as error:
        return None, str(error)


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from([10**400, -(10**400), "", "none", "nan", "1e999", math.inf, -0.0, 2**63]),
)


values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=2)
    ),
    max_leaves=4,
)


voices = st.one_of(
    st.builds(Reed.Config, bend=st.floats(0, 1)),
    st.builds(Lip.Config, k=st.integers(1, 9), width=st.none() | st.integers(9, 99)),
)


printable = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)


organs = st.builds(
    Organ,
    seed=st.integers(-(2**63) + 1, 2**63 - 1),
    pipes=st.builds(
        Pipes,
        voice=voices,
        n=st.integers(1, 99),
        per_layer=st.dictionaries(st.sampled_from(["voice@0", "voice@2", "voice@11"]), voices),
    ),
    wind=st.builds(Wind, source=voices, leak=st.floats(0, 1, exclude_max=True)),
    play=st.builds(
        Play,
        pace=st.floats(0, exclude_min=True, allow_infinity=False),
        loud=st.booleans(),
        stops=st.lists(printable, max_size=3),
        span=st.tuples(st.integers(-99, 99), st.floats(allow_nan=False, allow_infinity=False)),
        title=st.none() | printable.filter(lambda text: text != "none"),
    ),
)


def every_field(cls: type[Config]) -> list[str]:
    return [row.path for row in describe(cls())]
