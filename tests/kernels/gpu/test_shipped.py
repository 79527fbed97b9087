"""Every configuration that ships, compiled ahead of time: no stack, few registers, wide loads.

Of each kernel some are compiled for Hopper by the pinned Triton in `make test`; `make test-all`
compiles all of them, for Ampere and Blackwell as well, and by the oldest Triton that is supported,
from the folder that PELLUCID_TRITON names.
"""

import json
import os
import subprocess
import sys
from collections import defaultdict

import pytest

from pellucid.kernels.gpu import shipped


def compiled(arch: int, cache, *names: str, triton: str = "") -> list[dict]:
    """What the command prints: one object a configuration."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(cache)
    if triton:
        paths = [triton, environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    command = [sys.executable, "-m", "pellucid.kernels.gpu.shipped", str(arch), *names]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def assert_shippable(made: list[dict], arch: int, names: list[str] | None = None) -> None:
    assert [m["name"] for m in made] == (names or [e.name for e in shipped.shipped(arch=arch)])
    assert {m["arch"] for m in made} == {arch}
    assert [(m["name"], m["complaints"]) for m in made if m["complaints"]] == []
    assert sum(m["wide_loads"] > 0 for m in made) > len(made) / 2


def test_some_of_each_kernels_configurations_may_ship_on_hopper(tmp_path):
    """The first, the last, and every sixth of those between."""
    of_kernel = defaultdict(list)
    for entry in shipped.shipped(arch=90):
        of_kernel[entry.kernel].append(entry.name)
    chosen = {name for names in of_kernel.values() for name in [*names[::6], names[-1]]}
    names = [entry.name for entry in shipped.shipped(arch=90) if entry.name in chosen]
    made = compiled(90, tmp_path, *names)
    assert_shippable(made, 90, names)
    assert {m["matrix"] for m in made} == {"", "wgmma"}


def test_what_does_not_ship_is_not_compiled(tmp_path):
    with pytest.raises(AssertionError, match="nothing that ships for 90 is named decode bf16 d=7"):
        compiled(90, tmp_path, "decode bf16 d=512", "decode bf16 d=7")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arch", "instruction"), [(80, "mma.sync"), (90, "wgmma"), (100, "tcgen05.mma")]
)
def test_every_configuration_may_ship(tmp_path, arch, instruction):
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
