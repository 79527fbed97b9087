"""How long it takes to score a site's units against labels: `python -m pellucid.eval.concepts.bench`.

Made-up units and labels, in the sizes named; choice and scoring of unit, threshold and sign are part
of what is timed, writing the harvest is not.
"""

import argparse
from time import perf_counter

import numpy as np

from pellucid.eval.concepts.counts import count
from pellucid.eval.concepts.picks import best, f1_of
from pellucid.eval.concepts.thresholds import at_fractions, tops
from pellucid.eval.harvest import About, Harvest


def made_up(tokens: int, units: int, active: int, *, seed: int = 0) -> Harvest:
    """Units of which `active` are on at each token, or all of them, with both signs, if 0."""
    rng = np.random.default_rng(seed)
    made = Harvest(About(n_units=units, signed=active == 0), sparse=active > 0)
    for first in range(0, tokens, 1024):
        n = min(1024, tokens - first)
        if active:
            chosen = np.sort(rng.integers(0, units // active, (n, active)), axis=1)
            chosen = chosen + np.arange(active) * (units // active)
            values = rng.exponential(size=chosen.size).astype(np.float32)
            made._add_active(chosen.ravel(), values, np.full(n, active))
        else:
            made.add_rows(rng.standard_normal((n, units), dtype=np.float32))
    return made.close()


def score(harvest: Harvest, labels: np.ndarray, half: np.ndarray) -> np.ndarray:
    """F1 on half B of the best setting of each label on half A."""
    thresholds = at_fractions(tops(harvest, np.flatnonzero(half == 0)))
    columns = np.concatenate([np.ones((len(labels), 1), dtype=bool), labels], axis=1)
    counts = count(harvest, thresholds, columns, half)
    held = np.stack([labels[half == h].sum(0) for h in (0, 1)])
    found = np.stack([f1_of(counts[h : h + 1], held[h : h + 1])[0] for h in (0, 1)])
    best(found[0], thresholds)
    flat = found.reshape(2, -1, labels.shape[1])
    return np.take_along_axis(flat[1], flat[0].argmax(0)[None], 0)[0]


def main() -> None:
    """Print the seconds taken at the sizes on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in {"units": 20_000, "labels": 60, "tokens": 200_000, "active": 64}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    sizes = parser.parse_args()
    rng = np.random.default_rng(1)
    harvest = made_up(sizes.tokens, sizes.units, sizes.active)
    labels = rng.random((sizes.tokens, sizes.labels)) < rng.uniform(0.01, 0.3, sizes.labels)
    half = (np.arange(sizes.tokens) // 1000 % 2).astype(np.int8)
    start = perf_counter()
    score(harvest, labels, half)
    seconds = perf_counter() - start
    kind = f"{sizes.active} active on a token" if sizes.active else "all active"
    print(
        f"{sizes.units} units ({kind}), {sizes.labels} labels, {sizes.tokens} tokens: {seconds:.1f} s"
    )


if __name__ == "__main__":
    main()
