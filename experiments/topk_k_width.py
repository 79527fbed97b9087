"""Top-k's k and width, against the dense model whose step takes as long on this machine.

`pellucid sweep topk_k_width`. All arms see as many tokens; the dense baseline is timed in turns with
the base (k 32, width 1,024), once for the grid.
"""

from pellucid.sweep import Grid

grid = Grid(
    name="topk-k-width",
    base="tiny mlp.k=32 mlp.width=1024 train.steps=400 train.eval_every=200",
    axes={
        "k": [f"mlp.k={k}" for k in (8, 16, 32, 64)],
        "width": [f"mlp.width={width}" for width in (512, 1024, 2048)],
    },
    baselines={"dense": "match=dense by=step_time"},
    seeds=(0, 1, 2),
    endpoints=("bits_per_byte", "living_share"),
    suite="smoke",
)
