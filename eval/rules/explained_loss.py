"""Explained loss: how much of what the units do for the loss their rules do as well.

All units of all scored sites are replaced at once, on half B, by what their rules predict, and

    (CE_mean_ablated - CE_explained) / (CE_mean_ablated - CE_full)

is reported with its cross-entropies in nats. It takes no list of concepts and no maximum over
units; whatever can be recorded and edited competes on the same terms. Units that have no rule
stand at their mean in both arms, and the score says how many they are. Rules are as long for every
unit, or share a number of bits that is the same for every model, wherever these explain most.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Integer

from pellucid.eval.bootstrap import Interval, ratio
from pellucid.eval.harvest import CHUNK, Harvest
from pellucid.eval.processes import each
from pellucid.eval.reader import Reader
from pellucid.eval.rules.allocate import allocate
from pellucid.eval.rules.fit import Learned, Settings, learn, portions
from pellucid.eval.rules.limits import Limits
from pellucid.eval.rules.splice import Part, Stand, losses, part
from pellucid.eval.rules.text import Text
from pellucid.eval.score import NoValue
from pellucid.eval.stream import Stream
from pellucid.models import UnitSite

EQUAL_TOTAL = "equal_total"
"""How the name of a budget ends that is one for all units together."""

Labels = Bool[np.ndarray, "token label"] | None


@dataclass(frozen=True)
class Arms:
    """Nats of each document of half B, in every arm, and what the rules cover."""

    full: Float[np.ndarray, " document"]
    ablated: Float[np.ndarray, " document"]
    explained: Mapping[str, Float[np.ndarray, " document"]]
    """by budget: `64bits`, or `64bits_equal_total`"""
    lengths: Integer[np.ndarray, " document"]
    share: float
    """units that have a rule"""
    covered: float
    """share of the importance (variance × squared norm written) that they hold"""
    bits: Mapping[str, float]
    """bits of all rules together, by budget"""
    n_units: int
    """units of the sites, also those without a rule"""

    @property
    def tokens(self) -> int:
        return int(self.lengths.sum())

    def score(self, name: str, *, seed: int) -> Interval:
        """Explained loss at a budget, with its interval over documents."""
        lost = self.ablated - self.full
        if lost.sum() <= 0:
            raise NoValue("the loss does not rise where all units stand at their mean")
        return ratio(self.ablated - self.explained[name], lost, seed=seed)


def measure(
    reader: Reader,
    is_a: Bool[np.ndarray, " token"],
    settings: Settings,
    limits: Limits,
    labels: Labels = None,
) -> Arms:
    """Learn rules on half A, splice them in on half B. Raises NoValue where no unit ever moves."""
    stream, vocab = reader.stream, reader.model.vocab_size
    text = Text.of(stream, context=reader.context, vocab_size=vocab, labels=labels)
    harvest, (means, weights) = reader.harvest, _importance(reader, is_a)
    chosen = _most_important(weights, limits.units)
    about = {"text": text, "is_a": is_a, "document": stream.document, "settings": settings}
    learned = {name: _learned(harvest[name], units, about) for name, units in chosen.items()}
    scored = _scored(stream, is_a, limits.tokens)
    seen = Text.of(
        scored.stream,
        context=reader.context,
        vocab_size=vocab,
        labels=None if labels is None else labels[scored.places],
    )
    plans = _plans(learned, weights, text, settings, limits.total)
    run = lambda stands: losses(reader.model, scored, seen, reader.context, stands)
    stands = {
        plan: {n: Stand(means[n], harvest[n].sparse, rules[n]) for n in means}
        for plan, (rules, _) in plans.items()
    }
    ablated = {name: stand.without() for name, stand in next(iter(stands.values())).items()}
    total, n_units = sum(w.sum() for w in weights.values()), sum(map(len, weights.values()))
    return Arms(
        full=run({}),
        ablated=run(ablated),
        explained={plan: run(made) for plan, made in stands.items()},
        lengths=np.diff(scored.stream.offsets),
        share=sum(map(len, chosen.values())) / n_units,
        covered=float(sum(weights[n][u].sum() for n, u in chosen.items()) / total),
        bits={plan: bits for plan, (_, bits) in plans.items()},
        n_units=n_units,
    )


def _learned(harvest: Harvest, units: np.ndarray, about: Mapping[str, Any]) -> list[Learned]:
    """Rules of a site's units, in their order: some at a time, in all processes there are."""
    some = portions(units, harvest.n_tokens)
    found = each([partial(learn, harvest, units=part, **about) for part in some])
    return [one for part in found for one in part]


def _plans(learned, weights, text: Text, settings: Settings, total: int) -> dict[str, tuple]:
    """Rules by site and unit, and their bits together, for every way to spend bits."""
    plans = {}
    for budget in settings.budgets:
        given = {n: {one.unit: budget for one in found} for n, found in learned.items()}
        plans[f"{budget}bits"] = _ruled(learned, given, text)
    middle = sorted(settings.budgets)[len(settings.budgets) // 2]
    # One list of units for all sites: bits go wherever they explain most.
    pooled, owner, importance = [], {}, {}
    for name, found in learned.items():
        for one in found:
            key = len(pooled)
            owner[key], importance[key] = (name, one.unit), float(weights[name][one.unit])
            pooled.append(Learned(key, one.rules, one.errors, one.mean, one.density))
    given = {name: {} for name in learned}
    for key, budget in allocate(pooled, importance, text, total).items():
        name, unit = owner[key]
        given[name][unit] = budget
    plans[f"{middle}bits_{EQUAL_TOTAL}"] = _ruled(learned, given, text)
    return plans


def _ruled(learned, given, text: Text) -> tuple[dict, float]:
    rules = {
        name: {
            one.unit: one.rules[given[name][one.unit]] for one in found if one.unit in given[name]
        }
        for name, found in learned.items()
    }
    return rules, sum(rule.bits(text) for site in rules.values() for rule in site.values())


def _sums(kept: Harvest, is_a: np.ndarray) -> Float[np.ndarray, "power unit"]:
    """Of each unit the sum, and the sum of squares, over half A.

    Of a sparse site only what is active is looked at, in the order of tokens: a 0 adds nothing.
    """
    sums = np.zeros((2, kept.n_units))
    for first in range(0, kept.n_tokens, CHUNK):
        last = min(first + CHUNK, kept.n_tokens)
        if not kept.sparse:
            rows = kept.rows(first, last)[is_a[first:last]].astype(np.float64)
            sums += [rows.sum(0), (rows**2).sum(0)]
            continue
        acts = kept.activations(first, last)
        units, values = acts.indices[0].numpy(), acts.values[0].numpy()
        here = (units >= 0) & is_a[first:last, None]
        unit, value = units[here], values[here].astype(np.float64)
        sums += [np.bincount(unit, weight, kept.n_units) for weight in (value, value**2)]
    return sums


Weights = dict[str, Float[np.ndarray, " unit"]]


def _importance(reader: Reader, is_a: Bool[np.ndarray, " token"]) -> tuple[Weights, Weights]:
    """Means on half A, and variance there × squared norm of what a unit writes, by site.

    A unit that writes no one direction counts as writing 1.
    """
    means, found = {}, {}
    for name, site in reader.sites().items():
        total, squares = _sums(reader.harvest[name], is_a) / is_a.sum()
        means[name] = total
        found[name] = np.maximum(squares - total**2, 0) * _written(site)
    if not sum(w.sum() for w in found.values()) > 0:
        raise NoValue("no unit of the scored sites ever moves")
    return means, found


def _written(site: UnitSite) -> Float[np.ndarray, " unit"] | float:
    write = site.write_directions()
    return 1.0 if write is None else (write.double() ** 2).sum(1).cpu().numpy()


def _most_important(weights: Mapping[str, np.ndarray], most: int | None) -> dict[str, np.ndarray]:
    """Units of each site, ascending, that are among the `most` important of all that ever move."""
    every = np.concatenate(list(weights.values()))
    site = np.repeat(np.arange(len(weights)), [len(w) for w in weights.values()])
    unit = np.concatenate([np.arange(len(w)) for w in weights.values()])
    kept = np.argsort(-every, kind="stable")[:most]
    kept = kept[every[kept] > 0]
    return {name: np.sort(unit[kept[site[kept] == i]]) for i, name in enumerate(weights)}


def _scored(stream: Stream, is_a: np.ndarray, tokens: int) -> Part:
    """About so many tokens of half B: the beginnings of all its documents, equally long."""
    lengths = np.diff(stream.offsets)
    of_b = np.flatnonzero(~is_a[stream.offsets[:-1]])
    longest = np.sort(lengths[of_b])
    # The largest length that keeps within the limit when all documents are cut to it.
    rest = np.arange(len(longest), 0, -1)
    held = np.cumsum(longest) - longest + rest * longest
    fits = int((held <= tokens).sum())
    if fits == len(longest):
        return part(stream, of_b, int(longest[-1]))
    most = (tokens - int(longest[:fits].sum())) // int(rest[fits])
    return part(stream, of_b, max(most, 2))
