"""The price of monosemanticity: a tuned, controlled frontier of architectures.

`pellucid sweep h2`. Endpoints, declared here: bits per byte, and explained loss at 64 bits a unit in
equal total bits, each arm less dense GELU on the same seeds, Holm-corrected. Everything else is
exploratory. Every arm has the active width of a dense model of 4 · d, or the published settings of its
kind, and the same budget of tuning. The dense ladder stands beside them: the frontier shows explained
loss at each arm's bits per byte, and interpolates nothing. Coders of all layers of the dense arm's runs,
at rates of as many points, are baselines of their own group: they begin from a trained model.

The text is what is installed here besides the standard library (`python+site`), which alone is too
small for one epoch: figures of two machines are of different data, and are not ranked together.
"""

from pellucid.sweep import Grid, Tuning

STEPS, TRIAL = 3662, 1221
"""60M and 20M tokens in steps of 16,384."""
LADDER = (96, 128, 192, 320)
CODER = f"k=32 width=4096 steps={TRIAL} batch=64 lr=5e-4,1e-3,2e-3,4e-3"

grid = Grid(
    name="h2",
    base=(
        "tiny data=python+site data.vocab_size=2048 n_layers=4 d_model=256 context=256 "
        f"train.batch=64 train.steps={STEPS}"
    ),
    axes={
        "arm": [
            "mlp=dense mlp.activation=swiglu",
            "mlp=relu_l1 mlp.width=1024",
            "mlp=solu mlp.width=1024",
            *(f"mlp=topk mlp.width=4096 mlp.k={k}" for k in (16, 32, 64)),
            "mlp=batch_topk mlp.width=4096 mlp.k=32",
            "mlp=jumprelu mlp.width=4096 mlp.k=32",
            "mlp=bilinear",
            "mlp=moe mlp.router=moe_x",
            "mlp=monet mlp.split=vertical",
            "mlp=peer",
            "mlp=linear_experts",
            "mlp=codebook",
            "mlp=dense constraint=weight_topk constraint.density=0.0625",
        ]
    },
    baselines={
        "dense": "mlp=dense mlp.activation=gelu",
        **{f"dense d{d}": f"mlp=dense mlp.activation=gelu d_model={d}" for d in LADDER},
    },
    posthoc={
        "sae": f"kind=sae {CODER}",
        "transcoder": f"kind=transcoder {CODER}",
        "cross-layer transcoder, KL": f"kind=crosslayer_transcoder {CODER} kl_steps=200",
    },
    seeds=(0, 1, 2, 3, 4),
    endpoints=("bits_per_byte", "explained_loss:64bits_equal_total"),
    suite="standard",
    tune=Tuning(seeds=(100,), words=f"train.steps={TRIAL}"),
)
