"""Layers against recordings of the original implementations."""

from support.originals import Naming, fill, recorded, same, same_gradients

from pellucid.models.filling import Filling


def check_layer(
    name: str,
    layer: Filling,
    naming: Naming,
    *,
    gradients: int,
    tolerance: float = 1e-13,
    training: bool = False,
) -> None:
    """What the layer writes for the original's inputs, with the original's weights."""
    original = recorded(name)
    layer = layer.double().train(training)
    fill(layer, naming(original.weights))
    for path in (layer.split, layer):
        layer.zero_grad()
        x = original.inputs["x"].clone().requires_grad_()
        y = path(x)[0]
        same(f"{name}: outputs", y, original.output, tolerance)
        (y * original.inputs["probe"]).sum().backward()
        same(f"{name}: gradient of the inputs", x.grad, original.gradients["x"], 20 * tolerance)
        same_gradients(layer, naming(original.gradients), gradients, 20 * tolerance)
