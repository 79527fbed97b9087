"""`match=dense by=loss`: dense models of several sizes, and which size is as good as another model.

Every rung is trained to the end of its own schedule, on as many tokens as the target: a larger model
that was stopped early has a learning rate that no finished one has, and flatters whatever it is
compared with. Between two rungs, bits per byte are taken as linear in the logarithm of the size;
beyond the ladder nothing is known, and nothing is said.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from pellucid.errors import ConfigError
from pellucid.experiments import preset, split
from pellucid.experiments.matching import kept_words
from pellucid.settings.kinds import shown
from pellucid.settings.words import override

RUNGS = (0.5, 0.75, 1.0, 1.5, 2.0)
"""d_model of the rungs, as shares of the target's; a rung's layers are four times as wide."""
LEAST = 4
"""Rungs that a ladder has at least."""


class LadderError(ConfigError):
    """A ladder that says nothing of a model, and why."""


def rung(words: Sequence[str], share: float, tag: str = "dense") -> list[str]:
    """The words of the run of a dense model of that size, whose other words are the target's."""
    if tag != "dense":
        raise LadderError(f"match = {shown(tag)} by=loss is not accepted; match=dense is")
    name, changes = split(words)
    target = override(preset(name), changes)
    kept = [w for w in kept_words(target, changes, tag) if not _is_size(w)]
    plain = override(preset(name), kept).model
    step = 2 * getattr(plain.attention, "n_heads", 1)
    d_model = max(step, round(share * target.model.d_model / step) * step)
    return [name, *kept, f"d_model={d_model}", f"mlp.width={4 * d_model}"]


def _is_size(word: str) -> bool:
    return word.partition("=")[0].removeprefix("model.") in ("d_model", "mlp.width")


def share_of(word: str) -> float:
    """The share that `rung=0.5` names; LadderError for what is none."""
    try:
        share = float(word)
    except ValueError:
        share = 0.0
    if not 0 < share <= 64:
        raise LadderError(f"rung = {shown(word)} is not accepted; a share such as {RUNGS[0]} is")
    return share


def expanded(baselines: Mapping[str, str]) -> dict[str, str]:
    """Baselines, each that is matched by loss as the rungs of its ladder.

    `rungs=0.5,1,2,4` among its words names others than `RUNGS`.
    """
    found: dict[str, str] = {}
    for name, value in baselines.items():
        words = value.split()
        if "by=loss" not in words or any(word.startswith("rung=") for word in words):
            found[name] = value
            continue
        given = [word.removeprefix("rungs=") for word in words if word.startswith("rungs=")]
        rest = " ".join(word for word in words if not word.startswith("rungs="))
        found |= {f"{name} x{share:g}": f"{rest} rung={share:g}" for share in _rungs(name, given)}
    return found


def _rungs(name: str, given: Sequence[str]) -> Sequence[float]:
    shares = [share_of(word) for word in given[-1].split(",")] if given else RUNGS
    if len(set(shares)) < LEAST:
        raise LadderError(
            f"{name}: rungs are {', '.join(f'{s:g}' for s in shares)}; {LEAST} different ones or "
            f"more are accepted"
        )
    return sorted(set(shares))


def size_at(bits: float, ladder: Mapping[float, float]) -> float:
    """The size at which a ladder {parameters: bits per byte} reaches these bits.

    Raises LadderError where the ladder does not reach them, and where a larger rung is worse.
    """
    rungs = sorted(ladder.items())
    if len(rungs) < LEAST:
        raise LadderError(f"the ladder has {len(rungs)} rungs; {LEAST} or more are accepted")
    for (small, worse), (large, better) in pairwise(rungs):
        if better >= worse:
            raise LadderError(
                f"the dense model of {large:,.0f} parameters ({better:.4f} bits per byte) is no "
                f"better than that of {small:,.0f} ({worse:.4f}): tune both, or train them longer"
            )
    if not rungs[-1][1] <= bits <= rungs[0][1]:
        end = f"larger than {rungs[-1][0]:,.0f}" if bits < rungs[-1][1] else "smaller"
        raise LadderError(
            f"{bits:.4f} bits per byte lie outside of the ladder's {rungs[-1][1]:.4f} … "
            f"{rungs[0][1]:.4f}: add a rung {end}; nothing is extrapolated"
        )
    for (small, worse), (large, better) in pairwise(rungs):
        if better <= bits <= worse:
            share = (worse - bits) / (worse - better)
            return math.exp(math.log(small) + share * (math.log(large) - math.log(small)))
    raise LadderError(f"{bits} bits per byte are no number")
