"""Runs that people start by name: `preset("tiny")`, `run_config(["tiny", "mlp.k=16"])`."""

import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pellucid.errors import EXIT_OK, EXIT_USER, ConfigError, UserError
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


def beside(filling: str) -> tuple[str, ...]:
    """The words that go with a filling `slot=tag`, without which a preset would refuse it.

    Some learn from the corpus's labels. `site_sparsity=abs_topk` is sparse in the MLP's neurons too,
    as in its paper's model, which is dense but for that (2511.13653): that MLP takes its place.
    """
    from pellucid.models import ModelConfig
    from pellucid.settings.fields import declared

    slot, _, tag = filling.partition("=")
    labelled = slot in ("head", "gradient_rule") and declared(ModelConfig)[slot].table[tag].needs
    plain = ("mlp=dense",) if filling == "site_sparsity=abs_topk" else ()
    return (*plain, "data.labels=loop") if labelled else plain


def split(words: Sequence[str]) -> tuple[str, list[str]]:
    """The name of the preset, and the other words; the first word may name it, as may `preset=`."""
    words = [word.removeprefix("preset=") for word in words]
    if words and "=" not in words[0]:
        return words[0], words[1:]
    named = [word for word in words if "=" not in word]
    if len(named) > 1:
        raise ConfigError(f"{named[1]!r} is a second preset; expected path=value")
    return (named or [DEFAULT])[0], [word for word in words if word not in named]


def own_words(words: Sequence[str], names: Collection[str]) -> tuple[dict[str, str], list[str]]:
    """The words `name=value` of some names as values by name, and all other words.

    Of a name that is given twice, the last value counts.
    """
    parts = [(word, *word.partition("=")) for word in words]
    own = {name: value for _, name, equals, value in parts if equals and name in names}
    return own, [word for word, name, equals, _ in parts if not (equals and name in names)]


def run_config(words: Sequence[str]) -> "RunConfig":
    """The configuration of a preset (the first word, `tiny` where there is none) and its changes."""
    from pellucid.settings.words import override

    name, changes = split(words)
    return override(preset(name), changes)


def analysis(table: Callable[[Path], str], words: Sequence[str]) -> int:
    """Print what `table` says of the one grid folder that is named; the exit code of a command."""
    try:
        if len(words) != 1:
            raise UserError(f"{len(words)} words given; the folder of one grid is expected")
        print(table(Path(words[0])))
    except UserError as error:
        print(f"pellucid: {error}", file=sys.stderr)
        return EXIT_USER
    return EXIT_OK
