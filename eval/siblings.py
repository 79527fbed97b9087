"""Runs that differ from the one that is scored in their seed alone."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pellucid.errors import RunError
from pellucid.eval.fitted import fit_of
from pellucid.eval.reader import Reader
from pellucid.settings import fields

if TYPE_CHECKING:
    from pellucid.run import Run

NO_SEEDS = "no run of another seed was named: eval --seeds RUN ..."


class Sibling(NamedTuple):
    """A run of another seed and its random twin, reading the same text as the run that is scored."""

    reader: Reader
    twin: Reader


def check_siblings(run: "Run", others: "Sequence[Run]") -> None:
    """Raise RunError for a run that differs by more than its seed, and for a seed named twice."""
    seeds = [run.config.seed]
    for other in others:
        tree, theirs = (_settings(r) for r in (run, other))
        for name in sorted(tree):
            if name != "seed" and tree[name] != theirs[name]:
                raise RunError(
                    f"{other.folder.path} and {run.folder.path} differ in their {name}; "
                    f"runs that differ in the seed alone are accepted"
                )
        if other.data.fingerprint != run.data.fingerprint:
            raise RunError(
                f"{other.folder.path} was trained on data {other.data.fingerprint}, and "
                f"{run.folder.path} on {run.data.fingerprint}: runs on the same data are accepted"
            )
        if other.config.seed in seeds:
            raise RunError(
                f"{other.folder.path} has seed {other.config.seed}, as another of the runs has; "
                f"runs of different seeds are accepted"
            )
        seeds.append(other.config.seed)


def _settings(run: "Run") -> dict[str, Any]:
    """What runs have in common; post-hoc coders may each be of a dense run of another seed."""
    tree = fields.to_json(run.config, operational=False)
    if fit_of(run) is not None:
        tree["train"] = tree["train"] | {"init_from": None, "teacher": None}
    return tree
