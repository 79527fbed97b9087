"""Layers against the authors' own, weights copied across: outputs and gradients by both paths."""

from collections.abc import Callable

import pytest
from support.originals import Values, recorded
from support.parity import check_layer
from torch import Tensor

from pellucid.models.filling import Filling
from pellucid.models.mlp import MLPS


def bilinear(values: Values) -> dict[str, Tensor]:
    (w_in, w_up), (b_in, b_up) = values["w.weight"].chunk(2), values["w.bias"].chunk(2)
    ours = {"w_in": w_in, "w_up": w_up, "b_in": b_in, "b_up": b_up}
    return ours | {"w_out": values["p.weight"].T, "b_out": values["p.bias"]}


def mixture_of_decoders(values: Values) -> dict[str, Tensor]:
    return {
        "w_gate": values["gate"],
        "b_gate": values["gate_bias"],
        "w_scale": values["W_cond"].T,
        "w_in": values["W_enc"].T,
        "b_in": values["b_enc"],
        "w_out": values["W_dec"],
        "b_out": values["b_dec_out"],
    }


def linear_experts(values: Values) -> dict[str, Tensor]:
    w_in, w_out = values["experts"].flatten(1, 2)
    return {
        "w_query": values["router/Dense_0/kernel"].T,
        "w_score": values["router/DenseGeneral_0/kernel"].flatten(1).T,
        "w_in": w_in,
        "w_out": w_out,
    }


def topk(values: Values) -> dict[str, Tensor]:
    """An autoencoder: what is subtracted before its encoder is part of our encoder's bias."""
    encoder, before = values["encoder.weight"], values["pre_bias"]
    return {
        "w_enc": encoder,
        "b_enc": values["latent_bias"] - encoder @ before,
        "w_dec": values["decoder.weight"].T,
        "b_dec": before,
    }


def batch_topk(values: Values) -> dict[str, Tensor]:
    """An autoencoder too, whose encoder has no bias of its own."""
    before = values["b_dec"]
    return {
        "w_enc": values["W_enc"].T,
        "b_enc": -values["W_enc"].T @ before,
        "w_dec": values["W_dec"],
        "b_dec": before,
    }


def jumprelu(values: Values) -> dict[str, Tensor]:
    """The original leaves the exponential out of its gradient to the thresholds' logarithms."""
    log_threshold = values["jumprelu.log_threshold"]
    if values.shapes is not None:
        log_threshold = log_threshold * recorded("jumprelu").weights["jumprelu.log_threshold"].exp()
    return {
        "w_enc": values["W_enc"].T,
        "b_enc": values["b_enc"],
        "w_dec": values["W_dec"],
        "b_dec": values["b_dec"],
        "log_threshold": log_threshold,
    }


def solu(values: Values) -> dict[str, Tensor]:
    return {
        "w_in": values["W_in"].T,
        "b_in": values["b_in"],
        "gain": values["ln.w"],
        "shift": values["ln.b"],
        "w_out": values["W_out"],
        "b_out": values["b_out"],
    }


def build(tag: str, **fields) -> Callable[[], Filling]:
    return lambda: MLPS[tag].Config(**fields).build(8)


CASES = {
    "bilinear_mlp": (build("bilinear", width=12, bias=True), bilinear, 3),
    "mxd": (build("mxd", experts=16, width=12, k=4), mixture_of_decoders, 4),
    "linear_experts": (
        build("linear_experts", channels=3, experts=16, k=2, d_key=6),
        linear_experts,
        4,
    ),
    # A gradient of the encoder alone is not recorded: half of ours goes through the bias.
    "topk": (build("topk", width=24, k=4), topk, 1),
    "jumprelu": (build("jumprelu", width=24, k=4, bandwidth=0.5), jumprelu, 4),
    # Ours divides the constant of the norm by the square of the width.
    "solu": (build("solu", width=12, eps=1e-5 * 12**2), solu, 4),
}


@pytest.mark.parametrize("name", list(CASES))
def test_layers_write_what_the_originals_do(name):
    make, naming, gradients = CASES[name]
    check_layer(name, make(), naming, gradients=gradients)


def test_a_batch_shares_its_active_units_as_in_the_original():
    layer = MLPS["batch_topk"].Config(width=24, k=4).build(8)
    check_layer("batch_topk", layer, batch_topk, gradients=1, training=True)


def test_one_weight_that_is_off_by_a_thousandth_is_noticed():
    def off(values: Values) -> dict[str, Tensor]:
        ours = mixture_of_decoders(values)
        ours["w_scale"] = ours["w_scale"] + 1 / 1024
        return ours

    with pytest.raises(AssertionError, match="mxd: outputs: the largest difference is"):
        check_layer("mxd", CASES["mxd"][0](), off, gradients=4, tolerance=1e-5)
