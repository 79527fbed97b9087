"""The transformer, its slots and its units.

Axes are called the same everywhere: `batch token unit slot d_model head query key vocab`.
"""

from pellucid.models.account import Account, account
from pellucid.models.activations import Activations
from pellucid.models.config import ModelConfig
from pellucid.models.edits import Edit, ablate, add, mix, patch, scale, set_to
from pellucid.models.transformer import Output, Transformer
from pellucid.models.units import Trace, UnitSite, UnknownSite, intervene, record, unwrap

__all__ = [
    "Account",
    "Activations",
    "Edit",
    "ModelConfig",
    "Output",
    "Trace",
    "Transformer",
    "UnitSite",
    "UnknownSite",
    "ablate",
    "account",
    "add",
    "intervene",
    "mix",
    "patch",
    "record",
    "scale",
    "set_to",
    "unwrap",
]
