"""The projection of weights against a public replication of weight-sparse training."""

import pytest
import torch
from support.originals import recorded

from pellucid.kernels import weight_topk_
from pellucid.models.constraint import CONSTRAINTS

ORIGINAL = recorded("weight_projection")
CASES = [case for case in ORIGINAL.outputs if case != "density"]


@pytest.mark.parametrize("case", CASES)
def test_the_same_weights_stay(case):
    name, density, per_row = case.split(", ")
    ours, theirs = ORIGINAL.weights[name].clone(), ORIGINAL.outputs[case]
    weight_topk_([ours], float(density), per_row=[int(per_row)], per_column=[0])
    assert torch.equal(ours, theirs)
    assert 0 < int((theirs != 0).sum()) < theirs.numel()


def test_the_density_falls_alike():
    """From 1 % of 1000 steps to 50 %, to a tenth; read off every seven steps."""
    constraint = CONSTRAINTS["weight_topk"].Config(density=0.1, begin=0.01, end=0.5).build()
    theirs = ORIGINAL.outputs["density"].tolist()
    ours = [constraint.density_at(step / 1000) for step in range(0, 1001, 7)]
    assert ours == pytest.approx(theirs, abs=1e-12)
    assert theirs[0] == 1.0 and theirs[-1] == pytest.approx(0.1)
