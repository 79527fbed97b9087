"""The metrics of this family, as the table of `eval/suite.py` lists them."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

import numpy as np
from jaxtyping import Bool

from pellucid.errors import RunError
from pellucid.eval.bootstrap import Interval, mean, ratio
from pellucid.eval.controls import FROZEN, MODELS, NO_PASS, Measure, System, under_controls
from pellucid.eval.halves import halves
from pellucid.eval.reader import Reader
from pellucid.eval.rules import effect, explained_loss, intruder
from pellucid.eval.rules.averages import DRAWS, MIDDLE, NO_UNITS, asked_for, average_of, beside
from pellucid.eval.rules.description_length import description_length
from pellucid.eval.rules.fit import Settings, portions
from pellucid.eval.rules.limits import Limits
from pellucid.eval.rules.predictions import chosen
from pellucid.eval.rules.text import Text
from pellucid.eval.rules.units import Sampled, sampled
from pellucid.eval.score import NO_VALUE, NoValue, Score
from pellucid.eval.workbench import Workbench

FAMILY = "dev"
"""Family of the labels that rules may ask for."""
EXPLAINED, PUSHED = 0.5, 0.8
"""R² and agreement of signs on half B from which on a unit counts as monosemantic."""
TRIALS = 8
"""Intruders that are hidden for each unit."""
OVER_UNITS = "the interval is over units, not documents"


def rule_scores(bench: Workbench) -> list[Score]:
    """How well rules of at most 32, 64 and 128 bits predict units they were not fitted to see."""
    ours = _sampled(bench, bench.reader)
    reference = {site: table.density[table.living] for site, table in ours.items()}
    flags = {site: (_drawn(table), OVER_UNITS) for site, table in ours.items()}
    scores = []
    for asked in asked_for():
        average = partial(average_of, asked=asked, seed=bench.seed)
        measure = lambda system, average=average: {
            site: average(table, reference=reference.get(site))
            for site, table in _sampled(bench, system).items()
        }
        more = {"references": beside(ours, asked, reference), "flags": flags}
        scores += under_controls(bench, asked.name, measure, better="higher", **more)
    return scores


def _drawn(table: Sampled) -> str:
    if len(table.learned) == table.n_units:
        return f"all {table.n_units} units were given rules"
    return f"{len(table.learned)} of {table.n_units} units, drawn by the seed, were given rules"


def _most(bench: Workbench) -> int | None:
    """Units of each site that are drawn; none means all."""
    return bench.rules.sampled


def explained_loss_scores(bench: Workbench) -> list[Score]:
    """The headline: what is left of the loss when rules stand for the units."""
    arms = lambda system: bench.once("arms", system, lambda system: _arms(bench, system))
    plans = list(arms(bench.reader).explained)
    flags = {None: (*_covered(arms(bench.reader), bench.rules), *_of_controls(bench, arms))}
    scores = []
    for plan in plans:
        measure = lambda system, plan=plan: {None: arms(system).score(plan, seed=bench.seed)}
        scores += _of_models(bench, f"explained_loss:{plan}", measure, "higher", flags)
        nats = lambda system, plan=plan: {None: _nats(arms(system), plan, bench.seed)}
        scores += _of_models(bench, f"explained_loss_nats_{plan}", nats, "lower", flags)
    for arm in ("full", "ablated"):
        nats = lambda system, arm=arm: {None: _nats(arms(system), arm, bench.seed)}
        name = "explained_loss_nats_" + ("full" if arm == "full" else "mean_ablated")
        scores += _of_models(bench, name, nats, None, flags)
    return scores


def _of_models(bench: Workbench, name: str, measure: Measure, better, flags) -> list[Score]:
    return under_controls(bench, name, measure, better=better, without=NO_PASS, flags=flags)


def _arms(bench: Workbench, system: System) -> explained_loss.Arms:
    settings = Settings(seed=bench.seed, places=3000)
    is_a = halves(bench.stream, bench.seed)
    return explained_loss.measure(system, is_a, settings, bench.rules, _labels(bench))


def _nats(arms: explained_loss.Arms, arm: str, seed: int) -> Interval:
    nats = getattr(arms, arm) if arm in ("full", "ablated") else arms.explained[arm]
    return ratio(nats, arms.lengths, seed=seed)


def _covered(arms: explained_loss.Arms, limits: Limits) -> tuple[str, ...]:
    said = [f"measured on {arms.tokens:,} tokens of half B; ablation is to the mean of half A"]
    for plan, bits in arms.bits.items():
        of = f" of {limits.total:,}" if plan.endswith(explained_loss.EQUAL_TOTAL) else ""
        said.append(f"{plan}: {bits:,.0f}{of} bits were used, {bits / arms.n_units:.1f} a unit")
    if arms.share < 1:
        most = "" if limits.units is None else f", at most {limits.units:,},"
        said.append(
            f"{arms.share:.1%} of the units{most} which hold {arms.covered:.1%} of what is written, "
            "have rules; the others stand at their mean in both arms"
        )
    return tuple(said)


def _of_controls(bench: Workbench, arms: Callable[[System], explained_loss.Arms]) -> Iterator[str]:
    """What the controls used of the bits that are the same for all, as a sentence."""
    used: dict[str, list[str]] = {}
    for name in (*MODELS, FROZEN):
        with suppress(NoValue, RunError):
            if isinstance(system := bench.controls.get(name), Reader):
                for plan, bits in arms(system).bits.items():
                    used.setdefault(plan, []).append(f"{name} {bits:,.0f}")
    for plan, told in used.items():
        if plan.endswith(explained_loss.EQUAL_TOTAL):
            yield f"{plan}: of as many, controls used: {', '.join(told)}"


def monosemantic_share(bench: Workbench) -> list[Score]:
    """Share of living units whose rule predicts activation and the sign of their effect."""
    ours = _sampled(bench, bench.reader)
    return _of_models(
        bench,
        f"monosemantic_share:{MIDDLE}bits",
        lambda system: _monosemantic(bench, system),
        "higher",
        {site: (_drawn(table), OVER_UNITS) for site, table in ours.items()},
    )


def _monosemantic(bench: Workbench, system: Reader) -> dict[str | None, Interval]:
    text, is_a = _text(bench), halves(bench.stream, bench.seed)
    found = {}
    for name, table in _sampled(bench, system).items():
        passed = []
        for one, fit in zip(table.learned, table.fits[MIDDLE], strict=True):
            if one.density == 0:
                continue
            predicted = fit.r2 >= EXPLAINED
            if predicted:
                values = system.harvest[name].columns([one.unit])[:, 0]
                rule = one.rules[MIDDLE]
                agreed = effect.unit_agreement(system, name, one, rule, text, is_a, values)
                predicted = agreed >= PUSHED
            passed.append(float(predicted))
        found[name] = (
            mean(np.array(passed), seed=bench.seed, what="units")
            if passed
            else Interval(None, None, None, 0, (NO_UNITS,))
        )
    return found


def description_lengths(bench: Workbench) -> list[Score]:
    """Bits a token to write down the active set and its magnitudes."""
    return under_controls(
        bench,
        "description_length",
        lambda system: {
            name: description_length(kept, bench.stream, seed=bench.seed)
            for name, kept in system.harvest.items()
        },
        better=None,
    )


def intruder_scores(bench: Workbench) -> list[Score]:
    """How often a window where a unit is silent is told from four where it fires; chance is 0.2."""
    about = {"embedding": intruder.Embedding(_text(bench)), "most": _most(bench)}

    def measure(system: System) -> dict[str | None, Interval]:
        return {name: _intruders(system, name, seed=bench.seed, **about) for name in system.sites()}

    flags = dict.fromkeys(bench.reader.sites(), ("chance is 0.2", OVER_UNITS))
    return under_controls(bench, "intruder", measure, better="higher", flags=flags)


def _intruders(
    system: System, name: str, *, embedding: intruder.Embedding, most: int | None, seed: int
) -> Interval:
    kept, signed = system.harvest[name], system.sites()[name].signed
    least = system.end_to_end.moments[name].threshold(signed=signed)
    found, units = [], chosen(kept.n_units, most, seed)
    for some in portions(units, kept.n_tokens):
        for unit, values in zip(some, kept.columns(some).T, strict=True):
            strength = np.abs(values)
            places = np.flatnonzero(strength > least[unit])
            about = {"trials": TRIALS, "seed": [seed, int(unit)]}
            found.append(intruder.found(embedding, places, strength[places], **about))
    told = [one for one in found if one is not None]
    if not told:
        none = NO_VALUE + "no sampled unit fires, and is silent, often enough"
        return Interval(None, None, None, 0, (none,))
    drawn = "" if len(units) == kept.n_units else f", drawn from {kept.n_units}"
    flag = f"{len(told)} of {len(units)} units fire often enough to be judged{drawn}"
    interval = mean(np.array(told), seed=seed, what="units")
    return interval._replace(flags=(*interval.flags, flag))


def _text(bench: Workbench) -> Text:
    about = {"context": bench.reader.context, "vocab_size": bench.vocab_size}
    return Text.of(bench.stream, labels=_labels(bench), **about)


def _labels(bench: Workbench) -> Bool[np.ndarray, "token label"] | None:
    """States before and after each token that the text up to it decides: those of one family."""
    table = bench.labels
    if isinstance(table, str):
        return None
    kept = [label.prefix and label.serves(FAMILY) for label in table.labels]
    if not any(kept):
        return None
    return np.concatenate([table.before[:, kept], table.after[:, kept]], axis=1)


def _sampled(bench: Workbench, system: System) -> dict[str, Sampled]:
    """What units drawn from each site have learned, for the rules' own scores and more."""
    settings, is_a = Settings(seed=bench.seed, places=3000), halves(bench.stream, bench.seed)
    # Chance is the run's: a control is held against it too.
    draws = lambda system: DRAWS if system is bench.reader else 0
    learn = lambda system: sampled(
        system, _text(bench), is_a, settings, most=_most(bench), draws=draws(system)
    )
    return bench.once("rules", system, learn)
