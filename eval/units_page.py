"""`units.json`: statistics of each site, and contexts and promoted tokens of each shown unit."""

from typing import Any, Protocol

import numpy as np
import torch

from pellucid.eval.contexts import Context, Contexts
from pellucid.eval.reader import Reader
from pellucid.eval.stream import Stream
from pellucid.eval.unit_statistics import living_kurtosis
from pellucid.models import UnitSite

FORMAT = 1
PROMOTED = 10
"""Tokens listed that a unit promotes, and as many that it suppresses."""
DENSITY_EDGES = np.arange(-6, 0.01, 0.25)
"""log10 of the share of tokens a unit is active on; rarer units count in the first bin."""


class Vocabulary(Protocol):
    """What is needed of a tokenizer."""

    def token_text(self, token: int) -> str: ...


def pack(
    reader: Reader, tokenizer: Vocabulary, *, checkpoint: int, data_fingerprint: str, split: str
) -> dict[str, Any]:
    """What `units.json` holds. Contexts' values keep three significant digits."""
    vocab_size = reader.model.vocab_size
    return {
        "format": FORMAT,
        "checkpoint": checkpoint,
        "data_fingerprint": data_fingerprint,
        "split": split,
        "n_tokens": len(reader.stream.tokens),
        "vocab": [tokenizer.token_text(token) for token in range(vocab_size)],
        "sites": [_site(reader, site) for site in reader.sites().values()],
    }


def _site(reader: Reader, site: UnitSite) -> dict[str, Any]:
    contexts = reader.sightings.contexts[site.name]
    return {
        "name": site.name,
        "kind": site.kind,
        "layer": site.layer,
        "n_units": site.n_units,
        "signed": site.signed,
        "exactness": site.exactness,
        "stats": _statistics(reader, site.name),
        "n_shown": len(contexts.units),
        "choice": contexts.choice,
        "units": _units(reader, site, contexts),
    }


def _statistics(reader: Reader, name: str) -> dict[str, Any]:
    activity = reader.sightings.activity[name]
    kurtosis = living_kurtosis(reader.end_to_end.moments[name], activity)
    rarity = np.log10(activity.density[activity.living])
    counts, _ = np.histogram(np.clip(rarity, DENSITY_EDGES[0], DENSITY_EDGES[-1]), DENSITY_EDGES)
    return {
        "mean_active": float(activity.by_document.sum() / activity.n),
        "max_active": activity.most,
        "living": int(activity.living.sum()),
        "living_share": float(activity.living.mean()),
        "kurtosis": float(kurtosis.mean()) if len(kurtosis) else None,
        "density_histogram": {"edges": DENSITY_EDGES.tolist(), "counts": counts.tolist()},
    }


def _units(reader: Reader, site: UnitSite, contexts: Contexts) -> list[dict[str, Any]]:
    activity, moments = reader.sightings.activity[site.name], reader.end_to_end.moments[site.name]
    promotes, suppresses = written_tokens(reader, site, contexts.units)
    return [
        {
            "unit": int(unit),
            "density": _short(activity.density[unit]),
            "mean": _short(activity.strength[unit] / max(1, activity.times[unit])),
            "max": _short(moments.largest[unit]),
            "kurtosis": _short(moments.kurtosis[unit]),
            "mass": {band: _short(share) for band, share in contexts.shares(i).items()},
            "promotes": promotes[i],
            "suppresses": suppresses[i],
            "contexts": [_context(reader.stream, found) for found in contexts.of(i)],
        }
        for i, unit in enumerate(contexts.units)
    ]


def _context(stream: Stream, found: Context) -> dict[str, Any]:
    end = found.first + len(found.values)
    return {
        "band": found.band,
        "document": stream.names[stream.document[found.position]],
        "tokens": stream.tokens[found.first : end].tolist(),
        "values": [_short(value) for value in found.values],
        "center": found.position - found.first,
    }


@torch.no_grad()
def written_tokens(reader: Reader, site: UnitSite, units: np.ndarray) -> tuple[list, list]:
    """Per unit the tokens whose logits it raises most and lowers most, as [token, logit].

    Only tokens that occur in the text: those that training never saw share one direction, which
    every unit lowers, and would fill the list.
    """
    directions = site.write_directions()
    if directions is None or len(units) == 0:
        return [[] for _ in units], [[] for _ in units]
    logits = reader.model.direct_logits(
        directions[torch.as_tensor(units, device=directions.device)]
    )
    seen = torch.as_tensor(np.unique(reader.stream.tokens).astype(np.int64), device=logits.device)
    logits = logits[:, seen].float()
    most = min(PROMOTED, logits.shape[1])
    return _listed(*logits.topk(most), seen), _listed(*logits.topk(most, largest=False), seen)


def _listed(
    values: torch.Tensor, places: torch.Tensor, seen: torch.Tensor
) -> list[list[list[Any]]]:
    pairs = zip(seen[places].tolist(), values.tolist(), strict=True)
    return [[[t, _short(v)] for t, v in zip(*pair, strict=True)] for pair in pairs]


def _short(value: float) -> float | int | None:
    """Three significant digits; null for what is not a number."""
    if not np.isfinite(value):
        return None
    return float(f"{value:.3g}") if value else 0
