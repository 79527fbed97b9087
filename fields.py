"""Frozen configuration dataclasses: checked, documented, read from JSON and from `path=value` words."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, kw_only=True)
class Config:
    """Base of every configuration: a frozen dataclass whose fields carry their doc beneath them."""

    forward: ClassVar[str | None] = None

    def __post_init__(self) -> None:
        self.check()

    def check(self) -> None:
        """Raise ConfigError where fields contradict each other; overridden by configs that can."""


class Configurable:
    """A class built by its nested `Config`: `TopK.Config(k=32).build(...)` is `TopK(config, ...)`."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "Config" in cls.__dict__:
            cls.Config.build = lambda config, *args, **kw: cls(config, *args, **kw)


def setting(default: Any, **metadata: Any) -> Any:
    """A field with its range (`low`, `high`, `above`) and whether it is `operational`."""
    return dataclasses.field(default=default, metadata=metadata)


def slot(table: Mapping[str, type], default: str) -> Any:
    """A field that holds the config of one class of `table`."""
    return dataclasses.field(
        default_factory=lambda: table[default].Config(), metadata={"table": table}
    )
