"""`weight_topk_` on tensors spread over processes, against the same tensors whole: bit for bit.

`python sharded_weights.py FOLDER RANK WORLD`: one process of a group that meets in FOLDER.
"""

import sys

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

from pellucid.kernels import weight_topk_

# More rows than processes and fewer, rows that do not divide, and vectors.
SHAPES = [(9, 31), (1, 40), (16, 8), (2, 5), (33, 3), (23,), (1,), (5, 4, 3)]
ROWS = (Shard(0),)


def tensors(seed: int, dtype: torch.dtype, shapes=SHAPES) -> list[torch.Tensor]:
    """Coarse values: every threshold falls among ties, which lie in all processes."""
    generator = torch.Generator().manual_seed(seed)
    return [(torch.randn(s, generator=generator) * 2).round().div(2).to(dtype) for s in shapes]


def compare(mesh, whole, *words, placements=ROWS, **named) -> None:
    """The same call on whole and on spread tensors."""
    spread = [distribute_tensor(tensor.clone(), mesh, placements) for tensor in whole]
    weight_topk_(spread, *words, **named)
    before = [tensor.clone() for tensor in whole]
    weight_topk_(whole, *words, **named)
    assert any(not torch.equal(a, b) for a, b in zip(before, whole, strict=True))
    for a, b in zip(spread, whole, strict=True):
        a = a.full_tensor()
        bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[b.itemsize]
        assert torch.equal(a.view(bits), b.view(bits)), (words, named, b.shape)


def main(folder: str, rank: int, world: int) -> None:
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world
    )
    mesh = init_device_mesh("cpu", (world,))
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        compare(mesh, tensors(1, dtype), 0.3)
    matrices = [shape for shape in SHAPES if len(shape) == 2]
    for seed in range(3):
        make = lambda dtype=torch.float32, seed=seed: tensors(seed, dtype, matrices)
        compare(mesh, make(), 0.1)
        compare(mesh, make(), [20, 1, 127, 3, 40], per_row=2)
        compare(mesh, make(), 0.2, per_column=[4, 0, 16, 2, 1])
        compare(mesh, make(torch.bfloat16), 1, per_row=[3, 1, 0, 2, 1], per_column=1)
        compare(mesh, make(), 2, scope="row")
        compare(mesh, make(), 0.4, scope="column")
        compare(mesh, make(), 0.4, placements=(Replicate(),))
    replicas = init_device_mesh("cpu", (1, world))
    compare(replicas, tensors(1, torch.float32), 0.3, placements=(Replicate(), Shard(0)))
    refused(mesh)
    sharded_model(mesh)
    dist.destroy_process_group()
    print("equal")


def refused(mesh) -> None:
    spread = distribute_tensor(torch.ones(4, 4), mesh, [Shard(1)])
    try:
        weight_topk_([torch.ones(3, 3), spread], 2)
    except ValueError as error:
        assert "weights[1] must be replicated, or sharded on dimension 0" in str(error)
    else:
        raise AssertionError("columns in different processes were accepted")


def sharded_model(mesh) -> None:
    """Parameters of `fully_shard`, beside a plain tensor."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(7, 5), torch.nn.Linear(5, 3))
    whole = [parameter.detach().clone() for parameter in model.parameters()]
    fully_shard(model, mesh=mesh)
    plain = torch.arange(6.0)
    weight_topk_([*model.parameters(), plain], 0.5)
    weight_topk_(whole, 0.5)
    for a, b in zip(model.parameters(), whole, strict=True):
        assert torch.equal(a.full_tensor(), b)
    assert plain.tolist() == [0, 0, 0, 3, 4, 5]


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
