"""Top-k sparse activation as differentiable operations. Import as `pellucid.kernels`.

For any sparse layer, autoencoder or transcoder: `topk_mlp` is a whole layer, `encode_topk` and
`sparse_decode` are its two halves (together the same bits), `topk_rows` selects alone, `keep_topk`
sets all else to 0, `sddmm` takes products at named places, `weight_topk_` cuts weight matrices to
their largest entries in place, and `path(device)` names the code that a device runs. `csc_build`,
`bwd_features` and `bwd_input` are the parts of a backward pass, for layers of another shape. Rows
are tokens; indices are int32; an unused slot holds value 0 and index -1. An encoder may choose
units nearly exactly: `modes.py` says how, `agreement.py` how nearly.
"""

__version__ = "0.0.0"  # transformers reads this from a top-level `kernels`: not Hugging Face's

if __name__ == "kernels":  # reached by the bare name, because the root is on sys.path: step aside
    import importlib.machinery
    import importlib.util
    import os
    import sys

    _root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    _elsewhere = [entry for entry in sys.path if os.path.abspath(entry or ".") != _root]
    _spec = importlib.machinery.PathFinder.find_spec("kernels", _elsewhere)
    if _spec and _spec.loader:
        sys.modules["kernels"] = _module = importlib.util.module_from_spec(_spec)
        _spec.loader.exec_module(_module)
else:
    from pellucid.kernels import cells
    from pellucid.kernels.paths import path
    from pellucid.kernels.pieces import bwd_features, bwd_input, csc_build
    from pellucid.kernels.topk import (
        encode_topk,
        keep_topk,
        sddmm,
        sparse_decode,
        topk_mlp,
        topk_rows,
    )
    from pellucid.kernels.weight_topk import weight_topk_

    __all__ = [
        "bwd_features",
        "bwd_input",
        "csc_build",
        "encode_topk",
        "keep_topk",
        "path",
        "sddmm",
        "sparse_decode",
        "topk_mlp",
        "topk_rows",
        "weight_topk_",
    ]

    cells.register()
