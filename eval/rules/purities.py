"""The metrics of what units write directly: for how few tokens, and of how few kinds."""

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from pellucid.eval.bootstrap import Interval, mean
from pellucid.eval.capability.cross_entropy_by_class import classes_of
from pellucid.eval.controls import System, under_controls
from pellucid.eval.rules import output_purity
from pellucid.eval.rules.averages import NO_UNITS
from pellucid.eval.score import NO_VALUE, NoValue, Score
from pellucid.eval.workbench import Workbench

OVER_UNITS = "the interval is over units, not documents"
NAME = "output_purity"
NO_DIRECTION = NO_VALUE + "its units write no one direction each"
BETTER: dict[str, Literal["lower", "higher"]] = {
    NAME: "higher",
    f"{NAME}:entropy": "lower",
    f"{NAME}:one_class": "higher",
}


class Written(NamedTuple):
    """What every living unit of a site writes, in three numbers."""

    purity: Float[np.ndarray, " unit"]
    entropy: Float[np.ndarray, " unit"]
    one_class: Float[np.ndarray, " unit"] | str
    """or why tokens have no classes"""


def output_purities(bench: Workbench) -> list[Score]:
    """Share of a unit's direct effect on the logits that ten tokens hold, over living units.

    Beside it the entropy of that effect in bits, and the share of the ten tokens raised most that
    are of one syntax class.
    """
    flags = dict.fromkeys(bench.reader.sites(), (OVER_UNITS,))
    scores = []
    for number, (name, better) in enumerate(BETTER.items()):
        measure = lambda system, number=number: {
            site: _mean(found, number, bench.seed)
            for site, found in bench.once(NAME, system, lambda s: _written(bench, s)).items()
        }
        scores += under_controls(bench, name, measure, better=better, flags=flags)
    return scores


def _written(bench: Workbench, system: System) -> dict[str, Written | str]:
    return {name: _of_site(bench, system, name) for name in system.sites()}


def _of_site(bench: Workbench, system: System, name: str) -> Written | str:
    """What the units of one site write; why there is nothing to say of them."""
    write = system.sites()[name].write_directions()
    if write is None:
        return NO_DIRECTION
    living = np.flatnonzero(system.harvest[name].density() > 0)
    if not len(living):
        return NO_UNITS
    logits = system.model.direct_logits(write[living.tolist()]).detach()
    classes = bench.once(f"{NAME} classes", bench.reader, lambda _: _classes(bench))
    return Written(
        output_purity.purity(logits),
        output_purity.output_entropy(logits),
        classes if isinstance(classes, str) else output_purity.class_purity(logits, classes),
    )


def _classes(bench: Workbench) -> np.ndarray | str:
    """The syntax class of each word of the vocabulary on this text, or why it has none."""
    try:
        classes = classes_of(bench)
    except NoValue as reason:
        return NO_VALUE + str(reason)
    return output_purity.classes_of_words(bench.stream.tokens, classes, bench.vocab_size)


def _mean(found: Written | str, number: int, seed: int) -> Interval:
    values = found if isinstance(found, str) else found[number]
    if isinstance(values, str):
        return Interval(None, None, None, 0, (values,))
    return mean(values, seed=seed, what="units")
