"""Every feed-forward filling on as many tokens, at most a minute of training each on one CPU core.

`pellucid sweep mlp_fillings`. It exercises the machinery; after 0.2M tokens nothing is learned from
which a claim about an architecture could follow, and no arm is tuned.
"""

from pellucid.models.mlp import MLPS
from pellucid.sweep import Grid

# The slowest filling takes half a second a step of 2,048 tokens, where the other core works, too.
grid = Grid(
    name="mlp-fillings",
    base="tiny train.steps=100 train.eval_every=50 train.checkpoint_every=50",
    axes={"filling": [f"mlp={tag}" for tag in MLPS if tag != "dense"]},
    baselines={"dense": "mlp=dense"},
    seeds=(0, 1, 2),
    endpoints=("bits_per_byte",),
    suite="smoke",
)
