"""Who speaks where: counts of active units by token, by document and by unit."""

import numpy as np
from jaxtyping import Float, Integer

from pellucid.eval.moments import flat
from pellucid.models import Activations


class Activity:
    """Running counts for one site, given each unit's threshold (`Moments.threshold`)."""

    def __init__(self, threshold: Float[np.ndarray, " unit"], n_documents: int) -> None:
        self.threshold = threshold
        self.times = np.zeros(len(threshold), dtype=np.int64)
        """tokens each unit was active on"""
        self.strength = np.zeros(len(threshold))
        """sum of |activation| over them"""
        self.by_document = np.zeros(n_documents, dtype=np.int64)
        """active units, summed over the tokens of each document"""
        self.most = 0
        """most units active on one token"""
        self.n = 0

    def add(self, acts: Activations, document: Integer[np.ndarray, " row"]) -> None:
        """Take in one chunk; `document` names the document of each of its tokens."""
        strength = np.abs(flat(acts.values))
        if acts.is_sparse:
            active = flat(acts.indices) >= 0
            unit = flat(acts.indices)[active]
            self.times += np.bincount(unit, minlength=len(self.times))
            self.strength += np.bincount(unit, strength[active], minlength=len(self.times))
        else:
            active = strength > self.threshold
            self.times += active.sum(0)
            self.strength += np.where(active, strength, 0).sum(0, dtype=np.float64)
        per_token = active.sum(1)
        self.by_document += np.bincount(document, per_token, len(self.by_document)).astype(np.int64)
        self.most = max(self.most, int(per_token.max()))
        self.n += len(per_token)

    @property
    def living(self) -> np.ndarray:
        """Units that were active at least once; the others are dead on this text."""
        return self.times > 0

    @property
    def density(self) -> Float[np.ndarray, " unit"]:
        """Share of tokens each unit is active on."""
        return self.times / self.n
