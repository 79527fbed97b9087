"""The checks of shapes find a wrong shape, leave the rest alone, and can be compiled."""

import jaxtyping
import pytest
import torch
from jaxtyping import Float
from support.shapes import checked
from torch import Tensor

import pellucid


def product(
    x: Float[Tensor, "*batch d"], w: Float[Tensor, "d unit"] | None
) -> Float[Tensor, "*batch unit"]:
    return x @ w


def plain(x: int) -> int:
    return x


def test_a_wrong_shape_is_an_error():
    function = checked(product)
    assert function(torch.ones(2, 3), torch.ones(3, 4)).shape == (2, 4)
    with pytest.raises(jaxtyping.TypeCheckError, match="w"):
        function(torch.ones(2, 3), torch.ones(2, 4))


def test_a_function_without_shapes_is_left_alone():
    assert checked(plain) is plain


def test_a_checked_function_compiles_whole():
    compiled = torch.compile(checked(product), backend="eager", fullgraph=True)
    w = torch.arange(12.0).reshape(3, 4)
    assert torch.equal(compiled(torch.ones(2, 3), w), torch.ones(2, 3) @ w)
    assert torch.equal(compiled(torch.ones(5, 3), w), torch.ones(5, 3) @ w)


def test_the_package_is_under_the_checks(monkeypatch, tmp_path):
    """A module that appears in the package is checked on import."""
    source = (
        "from jaxtyping import Float\nfrom torch import Tensor\n"
        "def same(x: Float[Tensor, 'a a']) -> Float[Tensor, 'a a']:\n    return x\n"
    )
    (tmp_path / "planted.py").write_text(source)
    monkeypatch.setattr(pellucid, "__path__", [*pellucid.__path__, str(tmp_path)])
    import pellucid.planted as planted

    with pytest.raises(jaxtyping.TypeCheckError):
        planted.same(torch.ones(2, 3))
