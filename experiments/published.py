"""What published results say of each filling: short, with their arXiv ids, and not measured here."""

CHESS = "Chess board states (2503.07639), validation loss / coverage / reconstruction: "

PUBLISHED = {
    "mlp=dense": f"The reference everywhere. {CHESS}.213/.356/.608 with GELU, .215/.312/.581 with "
    "ReLU. Circuits of its neurons are reported to be as sparse as those of autoencoders' features "
    "(2601.22594).",
    "mlp=topk": "Relatives trained from scratch report small losses (2407.10969, 2506.21468). The rule "
    "is that of sparse autoencoders (2406.04093), where dead units need a cure.",
    "mlp=abs_topk": "The rule of weight-sparse transformers at every inner vector (2511.13653); "
    "alone in the hidden layer no result is published.",
    "mlp=batch_topk": "For autoencoders: a better reconstruction than top-k at an equal number of "
    "active units (2412.06410).",
    "mlp=jumprelu": "For autoencoders: the best reconstruction of its time at an equal number of "
    "active units (2407.14435).",
    "mlp=skip_topk": "Fitted to a trained MLP: a lower reconstruction loss than transcoders without "
    "the linear part, features rated no less interpretable (2501.18823). From scratch: nothing.",
    "mlp=skip_batch_topk": "See `mlp=skip_topk` and `mlp=batch_topk`; together nothing is published.",
    "mlp=sae_batch_topk": "Fitted to a trained model: a better reconstruction than top-k autoencoders "
    "at an equal mean number of active units (2412.06410). From scratch: nothing.",
    "mlp=sae": "Autoencoders are fitted to trained models (2406.04093); frozen random ones come close "
    "to them on common metrics (2602.14111). From scratch: nothing.",
    "mlp=solu": "Neurons rated interpretable by blinded people rise from 35 % to 60 % at little "
    f"loss (Elhage et al. 2022). {CHESS}.216/.306/.343, below dense.",
    "mlp=bilinear": "Equal epochs: 1.337 nats on TinyStories beside 1.321 for SwiGLU; equal time: "
    "1.337 and 1.336 (2410.08417). A second group finds features of rank two less often.",
    "mlp=relu_l1": "Over 95 % of hidden units silent at little loss, 2B parameters 20.5 % faster "
    "forward with kernels for a GPU (2603.23198).",
    "mlp=spark": "8 % of the neurons active, 2.5 times fewer operations, 1.79 times faster decoding "
    "on a CPU (2506.06644).",
    "mlp=q_sparse": "About 40 % zeros in all inputs match dense; the best share of zeros in full "
    "precision is 45.6 % (2407.10969).",
    "mlp=linear_experts": "At equal operations, 1e17 to 6e18 on SlimPajama, a better perplexity "
    "than MLP, SwiGLU, PEER and MoE (2606.07414).",
    "mlp=mxd": "Fitted to a trained MLP: a better loss at every k than transcoders, probing and "
    "steering on a par (2505.21364). From scratch: nothing is published.",
    "mlp=codebook": "Fine-tuned models of up to 410M lose less than 5 % of their accuracy; codes "
    "predict simple features more precisely than neurons (2310.17230).",
    "mlp=moe": f"{CHESS}.212/.424/.734 for Switch, .211/.428/.840 for MoE-X up-cycled from a dense "
    "model, .398/.657 of the latter two from scratch: the only ones above dense.",
    "mlp=monet": "0-shot average at 1.3B: .484 for LLaMA, .478 vertical, .463 horizontal "
    f"(2412.04139). {CHESS}.210/.312/.528 horizontal, .212/.283/.482 vertical.",
    "mlp=peer": "At equal operations on C4 a lower perplexity than dense and coarse experts "
    f"(2407.04153). {CHESS}.214/.323/.426, below dense.",
    "mlp=memory": "Answers questions of fact like dense models of more than twice the compute "
    "(2412.09764).",
    "attention=softmax": "The reference everywhere; a learned sink makes attending to nothing "
    "explicit (2511.13653).",
    "attention=headwise": "29M parameters: a validation loss 2.5 % higher when scalars mix the "
    "heads, 8 % when nothing does (2603.07461).",
    "attention=subspace": "Part of CRATE: see `stream=crate` (2306.01129, 2410.16443).",
    "attention=bilinear": "With bilinear MLPs, 500M parameters need about 4 % more text for an "
    "equal loss (Riggs 2026; the author's range is -10 to 15 %).",
    "attention=codebook": "See `mlp=codebook`: one codebook for each head is its authors' choice "
    "(2310.17230).",
    "attention=gated": "Hard gates, trained after the fact, keep few edges at about the loss of the "
    "whole model (2512.05865).",
    "position=rope": "The standard of today's models (2104.09864).",
    "position=learned": "GPT-2's.",
    "position=none": "Extrapolates to longer texts better than the others on small tasks (2305.19466).",
    "norm=rms": "As good as layer norm, and cheaper (1910.07467).",
    "norm=layer": "GPT-2's (1607.06450).",
    "stream=residual": "The reference everywhere.",
    "stream=topk_stream": "Single channels can be followed over depth and training, and steer; a "
    "modest loss (2506.21468).",
    "stream=dual_stream": "29M parameters: 2.5 % above dense with mixed heads, and 8 % with "
    "independent ones (2603.07461).",
    "stream=crate": "Half the parameters of a GPT-2 layer, a higher loss at equal depth, neurons "
    "explained better by up to 103 % (2410.16443).",
    "stream=crosslayer": "Cross-layer transcoders are fitted to trained models, for shorter circuits. "
    "From scratch: nothing.",
    "stream=crosslayer_batch_topk": "See `stream=crosslayer` and `mlp=batch_topk`; together nothing is "
    "published.",
    "head=unembed": "The reference everywhere.",
    "head=backpack": "170M parameters match the loss of GPT-2's 124M; editing a sense controls "
    "topics and reduces gender bias (2305.16765).",
    "head=concept": "Concept accuracy .94 to .99, perplexity worse than without the bottleneck "
    "(2412.07992); with an ε path the bottleneck is none until it is edited.",
    "site_sparsity=abs_topk": "Part of weight-sparse transformers: see `constraint=weight_topk` "
    "(2511.13653).",
    "gradient_rule=routed": "What is to be forgotten gathers in the declared units, and leaves with "
    "them at a small loss on the rest (2410.04332, 2512.05648).",
    "constraint=weight_topk": "Circuits of a sixteenth of the edges at an equal loss, which costs "
    "100 to 1000 times the compute of dense training (2511.13653). Pruning also finds small "
    "circuits for a nonsense task (Drori 2026).",
}
"""By `slot=tag`."""
