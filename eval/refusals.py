"""Which metrics a run may not be evaluated by, for what it has already been shown.

A number that entered a training loss, or that chose the model, measures how well it was fitted and
not what it is: so a metric that uses the same labels or tasks is refused with the reason.
"""

from collections.abc import Iterable, Mapping

from pellucid.training.seen import UNKNOWN


def refusal(found: Mapping[str, str], metric: str, module: str, uses: Iterable[str]) -> str | None:
    """Why a metric may not evaluate this run, as a sentence; None where it may.

    `found` is what the run has `seen`; `module` is where the metric is defined: a loss from the same
    file is the metric trained upon.
    """
    for used in (metric, *uses):
        if used in found:
            return f"{metric} uses {used}, but {found[used]}"
    for name, reason in found.items():
        if name.partition(":")[0] == module:
            return f"{metric} is defined beside {name}, and {reason}"
    return None


def watched(found: Mapping[str, str], site: str | None) -> tuple[str, ...]:
    """The sentences that a score needs: of a site whose units a loss of the training saw, and of
    runs of which it is not known what they have seen."""
    unknown = [reason for name, reason in found.items() if name.startswith(UNKNOWN)]
    return (*([found[f"site:{site}"]] if f"site:{site}" in found else []), *unknown)
