"""Every configuration that ships, compiled ahead of time: no stack, few registers, wide loads.

The pinned Triton compiles for Hopper here; `make test-all` adds Ampere and Blackwell, and the oldest
Triton that is supported, from the folder that PELLUCID_TRITON names.
"""

import json
import os
import subprocess
import sys

import pytest

from pellucid.kernels.gpu import shipped


def compiled(arch: int, cache, *, triton: str = "") -> list[dict]:
    """What the command prints: one object a configuration."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(cache)
    if triton:
        paths = [triton, environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    command = [sys.executable, "-m", "pellucid.kernels.gpu.shipped", str(arch)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def assert_shippable(made: list[dict], arch: int) -> None:
    assert [m["name"] for m in made] == [e.name for e in shipped.shipped(arch=arch)]
    assert {m["arch"] for m in made} == {arch}
    assert [(m["name"], m["complaints"]) for m in made if m["complaints"]] == []
    assert sum(m["wide_loads"] > 0 for m in made) > len(made) / 2


def test_every_configuration_may_ship_on_hopper(tmp_path):
    made = compiled(90, tmp_path)
    assert_shippable(made, 90)
    assert {m["matrix"] for m in made} == {"", "wgmma"}


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "instruction"), [(80, "mma.sync"), (100, "tcgen05.mma")])
def test_every_configuration_may_ship_on_other_architectures(tmp_path, arch, instruction):
    made = compiled(arch, tmp_path)
    assert_shippable(made, arch)
    assert {m["matrix"] for m in made} == {"", instruction}


@pytest.mark.slow
def test_every_configuration_may_ship_with_the_oldest_triton(tmp_path):
    folder = os.environ.get("PELLUCID_TRITON")
    if not folder:
        pytest.skip("PELLUCID_TRITON names no folder with Triton 3.6: `make test-all` makes one")
    assert_shippable(compiled(90, tmp_path, triton=folder), 90)


def test_the_gate_complains_of_what_may_not_ship():
    entry = shipped.Shipped("bad", None, {}, gathers=True, multiplies=True, registers=64)
    made = shipped.Compiled("bad", 90, 65, 8, 10**6, 0, 1, "mma.sync")
    assert shipped.complaints(entry, made) == [
        "uses 8 bytes of stack",
        "uses 65 registers, 64 allowed",
        "takes 1000000 bytes of shared memory",
        "loads no 16 bytes at a time",
        "adds atomically",
        "does not multiply by wgmma",
    ]
