"""The twin of post-hoc coders: the same coders on a dictionary that stays as it was drawn."""

from typing import TYPE_CHECKING, Any

from pellucid.errors import UserError
from pellucid.eval.elsewhere import itself
from pellucid.eval.reader import Reader

if TYPE_CHECKING:
    from pellucid.run import Run

NO_TWIN = "no twin with a frozen dictionary lies beside these coders: posthoc makes one"
IS_TWIN = "the run's own dictionary is frozen"


def fit_of(run: "Run") -> dict[str, Any] | None:
    """What `pellucid posthoc` tells of the coders in a run; None for a run without any."""
    return run.folder.read_manifest().get("posthoc") if run.folder.exists() else None


def twin_of(run: "Run", shared: dict[str, Any]) -> Reader | str | None:
    """The twin that `pellucid posthoc` left in a run's folder, reading the same tokens.

    None for a run without post-hoc coders; a sentence where there is no twin, or it cannot be read.
    """
    from pellucid.run import load

    facts = fit_of(run)
    if facts is None:
        return None
    if facts["config"]["frozen"] != "none":
        return IS_TWIN
    if not run.folder.frozen.exists():
        return NO_TWIN
    try:
        twin = load(run.folder.frozen, device=next(run.model.parameters()).device.type)
    except UserError as reason:
        return str(reason)
    if twin.config.model != run.config.model:
        return f"{twin.folder.path} has coders of another kind or size"
    return Reader(itself(twin), label="frozen dictionary: ", **shared)
