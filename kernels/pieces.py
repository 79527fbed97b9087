"""The pieces of a backward pass, for layers that `topk_mlp` does not cover.

`csc_build` sorts the slots by unit, `bwd_features` sums the gradients of the weights in that order,
`bwd_input` takes a gradient of the values back to the input. One sort serves any number of
decoders. The backward pass of a crosscoder with decoders w_dec[l], outputs y[l] and one encoder:

    csc = csc_build(indices, width)
    halves = [bwd_features(csc, values, dy=d_y[l], w_dec=w_dec[l]) for l in layers]
    d_values = sum(half.d_values for half in halves)
    encoder = bwd_features(csc, grad_values=d_values, x=x)
    d_x = bwd_input(d_values, indices, w_enc)

A transcoder has one decoder and needs one pass for all its weights, which gives the same bits:

    made = bwd_features(csc, values, dy=d_y, w_dec=w_dec, x=x)

`csc.counts` says how often each unit fired. The result of `bwd_features` is a gradient and has no
gradient of its own: to differentiate through it raises. On a GPU nothing here waits for the device.
"""

from torch import Tensor

from pellucid.kernels.autocast import operator
from pellucid.kernels.checks import check_indices, check_range, check_slots, check_tensors
from pellucid.kernels.csc import Csc, FeatureGradients, sort_by_unit
from pellucid.kernels.paths import serving
from pellucid.kernels.topk import sparse_decode


def csc_build(indices: Tensor, width: int) -> Csc:
    """The slots of int32 indices (rows k) sorted by unit, and by row within a unit; -1 left out.

    Width is the number of units. ValueError for other tensors, or too many slots for int32.
    """
    check_indices("csc_build", indices, "indices", indices)
    if indices.dim() != 2:
        raise ValueError(
            f"csc_build: indices must have 2 dimension(s), got shape {tuple(indices.shape)}"
        )
    if isinstance(width, bool) or not isinstance(width, int) or not 1 <= width < 2**31 - 1:
        raise ValueError(f"csc_build: width must be an int between 1 and 2**31 - 2, got {width!r}")
    return Csc(*_csc_build(indices, width))


def bwd_features(
    csc: Csc,
    values: Tensor | None = None,
    *,
    dy: Tensor | None = None,
    w_dec: Tensor | None = None,
    grad_values: Tensor | None = None,
    x: Tensor | None = None,
) -> FeatureGradients:
    """Gradients of the weights of a sparse layer, summed unit by unit in float32.

    Of its decoder: values (rows k), dy (rows d) the gradient of its output and w_dec (width d)
    give d_w_dec (width d) and d_values (rows k). Of its encoder: x (rows d) gives d_w_enc
    (width d) and d_b_enc (width), with the d_values just found or, without a decoder, with
    grad_values (rows k). What was not asked for is None. ValueError for operands that do not
    belong together.
    """
    _check_features(csc, values, dy, w_dec, grad_values, x)
    made = _bwd_features(csc.offsets, csc.slots, values, grad_values, dy, x, w_dec)
    wanted = dy is not None, x is not None, x is not None, dy is not None
    return FeatureGradients(*[t if want else None for t, want in zip(made, wanted)])


def bwd_input(grad_values: Tensor, indices: Tensor, w_enc: Tensor) -> Tensor:
    """Gradient (rows d) of a layer's input: the sum of grad_values (rows k) times rows of w_enc.

    Indices (rows k) are int32, w_enc is (width d). It is the decoder that has the encoder's rows,
    and differentiable like it. ValueError for shapes, dtypes or devices that do not agree.
    """
    check_slots("bwd_input", grad_values, indices, w_enc)
    return sparse_decode(grad_values, indices, w_enc)


def _check_features(
    csc: Csc,
    values: Tensor | None,
    dy: Tensor | None,
    w_dec: Tensor | None,
    grad_values: Tensor | None,
    x: Tensor | None,
) -> None:
    if not isinstance(csc, Csc):
        raise ValueError(
            f"bwd_features: csc must be what csc_build gives, got {type(csc).__name__}"
        )
    decoder = {"values": values, "dy": dy, "w_dec": w_dec}
    given = {name: t for name, t in decoder.items() if t is not None}
    if len(given) not in (0, 3):
        raise ValueError(
            "bwd_features: values, dy and w_dec belong together, got only " + " and ".join(given)
        )
    if given and grad_values is not None:
        raise ValueError("bwd_features: grad_values is what the decoder finds: give it or w_dec")
    if not given and (grad_values is None or x is None):
        raise ValueError(
            "bwd_features: needs values, dy and w_dec, or grad_values and x, or the first and x"
        )
    encoder = {"grad_values": grad_values, "x": x}
    given |= {name: t for name, t in encoder.items() if t is not None}
    check_tensors("bwd_features", **{name: (t, 2) for name, t in given.items()})
    _check_sizes(csc, given)


def _check_sizes(csc: Csc, given: dict[str, Tensor]) -> None:
    """Rows, slots, d and width agree among the operands and with the sorted slots."""
    slots = given.get("values", given.get("grad_values"))
    rows_of_d = given.get("dy", given.get("x"))
    expected = {
        "values": tuple(slots.shape),
        "grad_values": tuple(slots.shape),
        "dy": (len(slots), rows_of_d.shape[1]),
        "x": (len(slots), rows_of_d.shape[1]),
        "w_dec": (len(csc.counts), rows_of_d.shape[1]),
    }
    for name, tensor in given.items():
        if tuple(tensor.shape) != expected[name]:
            raise ValueError(
                f"bwd_features: {name} must have shape {expected[name]}, got {tuple(tensor.shape)}"
            )
    if csc.slots.numel() != slots.numel() or csc.slots.device != slots.device:
        raise ValueError(
            f"bwd_features: csc holds {csc.slots.numel()} slots on {csc.slots.device}, the "
            f"values {slots.numel()} on {slots.device}: they must come from the same indices"
        )


@operator("pellucid::csc_build")
def _csc_build(indices: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
    made = sort_by_unit(indices, width)
    check_range("csc_build", indices, width)
    return tuple(made)


@operator("pellucid::bwd_features")
def _bwd_features(
    offsets: Tensor,
    slots: Tensor,
    values: Tensor | None,
    grad_values: Tensor | None,
    dy: Tensor | None,
    x: Tensor | None,
    w_dec: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    like = dy if x is None else x
    assert like is not None
    made = serving(like).bwd_features(offsets, slots, values, grad_values, dy, x, w_dec)
    return tuple(like.new_empty(0) if t is None else t for t in made)


@_csc_build.register_fake
def _(indices, width):
    sizes = width + 1, indices.numel(), width
    return tuple(indices.new_empty(size) for size in sizes)


@_bwd_features.register_fake
def _(offsets, slots, values, grad_values, dy, x, w_dec):
    width = offsets.shape[0] - 1
    like = dy if x is None else x
    decoder = (0, 0) if dy is None else (w_dec.shape, values.shape)
    encoder = (0, 0) if x is None else ((width, x.shape[1]), (width,))
    sizes = decoder[0], *encoder, decoder[1]
    return tuple(like.new_empty(size) for size in sizes)


def _keep_nothing(ctx, inputs, output):
    pass


def _refuse(ctx, *grads):
    raise NotImplementedError(
        "pellucid.kernels.bwd_features gives gradients and has no gradient of its own"
    )


_bwd_features.register_autograd(_refuse, setup_context=_keep_nothing)
