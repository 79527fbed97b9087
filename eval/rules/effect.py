"""Whether a rule also tells which way a unit pushes the model: the sign of its effect when ablated.

A unit's effect at a place is log p with the unit as it is, less log p with the unit at its mean. On
half A the unit's own activations say which ten tokens it raises most, and which ten it lowers. On
half B the rule alone says where the unit is above its mean and where below: there the first ten
must rise against the other ten, or fall. Places weigh as much as the rule predicts the unit away
from its mean, and either sign weighs half; where there is no effect, half counts.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pellucid.eval.reader import Reader
from pellucid.eval.rules.fit import Learned
from pellucid.eval.rules.rule import Rule
from pellucid.eval.rules.text import Text
from pellucid.models import ablate, intervene

SPOKEN_FOR = 10
"""Tokens that a unit is said to raise, and to lower."""
ROWS = 4
"""Rows of either half that a unit is ablated in: those where its rule expects most of it."""


def agreement(effect: Float[np.ndarray, " place"], expected: Float[np.ndarray, " place"]) -> float:
    """Share of the expected deviations whose sign the effect has, both signs weighing as much.

    A silent unit is below its mean nearly everywhere, so that one sign alone is easily right. 0.5
    stands for a sign that is nowhere expected.
    """
    sides = []
    for sign in (1, -1):
        weight = np.maximum(sign * expected, 0)
        right = 0.5 + 0.5 * sign * np.sign(effect)
        sides.append(weight @ right / weight.sum() if weight.sum() > 0 else 0.5)
    return float(np.mean(sides))


def spoken_for(
    effects: Float[Tensor, "place vocab"], off: Float[Tensor, " place"]
) -> Float[Tensor, " vocab"]:
    """+1/10 for the tokens that rise most with a unit's activation, -1/10 for those that fall most."""
    along = off @ effects
    few = min(SPOKEN_FOR, len(along) // 2)
    signs = torch.zeros_like(along)
    signs[along.topk(few).indices] = 1 / few
    signs[(-along).topk(few).indices] = -1 / few
    return signs


def unit_agreement(
    reader: Reader,
    site: str,
    one: Learned,
    rule: Rule,
    text: Text,
    is_a: Bool[np.ndarray, " token"],
    values: Float[np.ndarray, " token"],
) -> float:
    """How often the sign of a unit's effect on half B is the one that its rule expects."""
    expected = rule.predict(text, np.arange(len(is_a))) - one.mean
    if not np.abs(expected[~is_a]).sum():
        return 0.5
    near = _rows(np.where(is_a, np.abs(expected), 0), reader.context)
    far = _rows(np.where(is_a, 0, np.abs(expected)), reader.context)
    a, b = near[is_a[near]], far[~is_a[far]]
    off = torch.from_numpy(values[a].astype(np.float64) - one.mean)
    signs = spoken_for(_effects(reader, site, one, near)[is_a[near].ravel()], off)
    found = _effects(reader, site, one, far)[~is_a[far].ravel()] @ signs
    return agreement(found.numpy(), expected[b])


def _rows(mass: Float[np.ndarray, " token"], context: int) -> np.ndarray:
    """Positions (row, column) of the whole rows that hold most of a mass."""
    if len(mass) < context:
        return np.arange(len(mass))[None]
    whole = len(mass) // context
    held = mass[: whole * context].reshape(whole, context).sum(1)
    rows = np.argsort(-held, kind="stable")[:ROWS]
    return rows[:, None] * context + np.arange(context)


@torch.no_grad()
def _effects(
    reader: Reader, site: str, one: Learned, places: np.ndarray
) -> Float[Tensor, "place vocab"]:
    """log p of every token as it is, less log p with the unit at its mean, at each place."""
    model = reader.model
    rows = torch.from_numpy(reader.stream.tokens[places])
    rows = rows.to(next(model.parameters()).device)
    full = _log_probs(model, rows)
    with intervene(model, {site: ablate([one.unit], value=one.mean)}):
        return (full - _log_probs(model, rows)).flatten(0, 1)


def _log_probs(model: nn.Module, rows: Tensor) -> Float[Tensor, "row column vocab"]:
    return model(rows).logits.double().log_softmax(-1).cpu()
