"""The configurations that ship, and what the compiler makes of each: no GPU is needed to know.

A module of kernels lists its configurations as `SHIPPED`. `python -m pellucid.kernels.gpu.shipped`
compiles all of them ahead of time and prints one JSON object a line, for the architecture named
(90 by default: Hopper); words select modules, or configurations by their names.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

MODULES: tuple[str, ...] = (
    *("rows", "decode", "sddmm", "split", "features"),
    *("groupmax", "fp8", "quantise", "units"),
    *("weight_digits", "weight_lines", "weight_topk"),
)
"""Modules of this package that list configurations."""

SHARED_LIMIT = {80: 163 * 1024, 90: 227 * 1024, 100: 227 * 1024}
"""Bytes of shared memory that one program may take, by architecture."""


UNFUSED = {"enable_fp_fusion": False}
"""A compiler's option for kernels that add floats: it may not contract a product and a sum, which
would depend on what stands beside them and on the version."""


@dataclass(frozen=True)
class Shipped:
    """One kernel with everything the compiler must know.

    `signature` gives each argument in order: a Triton type such as `*bf16`, `i32` or
    `tensordesc<bf16[128,64]>`, or a constant's value for `tl.constexpr` arguments. Pointers and the
    integers named in `aligned` are taken as multiples of 16, as they are at run time.
    """

    name: str
    kernel: Any
    signature: Mapping[str, Any]
    warps: int = 4
    stages: int = 2
    aligned: tuple[str, ...] = ()
    registers: int = 128  # two programs of eight warps on a multiprocessor
    gathers: bool = False  # must load 16 bytes at a time
    multiplies: bool = False  # must use the architecture's matrix instruction
    options: Mapping[str, Any] = field(default_factory=dict)
    arch: int | None = None  # where it ships; None: everywhere


@dataclass(frozen=True)
class Compiled:
    """What came out: registers and stack bytes of a thread, shared bytes, and what the PTX holds."""

    name: str
    arch: int
    registers: int
    stack: int
    shared: int
    wide_loads: int
    atomics: int
    matrix: str


def shipped(modules: tuple[str, ...] = MODULES, arch: int = 90) -> Iterator[Shipped]:
    """Every configuration of the named modules that ships for an architecture."""
    for module in modules:
        entries = import_module(f"pellucid.kernels.gpu.{module}").SHIPPED
        yield from (entry for entry in entries if entry.arch in (None, arch))


def compile_ahead(entry: Shipped, arch: int) -> Compiled:
    """Compile one configuration; raises what Triton or the assembler raises."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    types = {k: v if isinstance(v, str) else "constexpr" for k, v in entry.signature.items()}
    constants = {(i,): v for i, v in enumerate(entry.signature.values()) if not isinstance(v, str)}
    divisible = [["tt.divisibility", 16]]
    attributes = {
        (i,): divisible
        for i, (name, kind) in enumerate(types.items())
        if kind.startswith("*") or name in entry.aligned
    }
    source = ASTSource(entry.kernel, signature=types, constexprs=constants, attrs=attributes)
    options = {"num_warps": entry.warps, "num_stages": entry.stages} | dict(entry.options)
    made = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)
    ptx = made.asm["ptx"]
    registers, stack = _resources(made.asm["cubin"])
    return Compiled(
        name=entry.name,
        arch=arch,
        registers=registers,
        stack=stack,
        shared=made.metadata.shared,
        wide_loads=len(re.findall(r"ld\.global[.\w]*\.v(?:4\.b32|2\.b64|4\.f32)", ptx)),
        atomics=_atomics(ptx),
        matrix=_matrix(ptx),
    )


def _atomics(ptx: str) -> int:
    """Atomic instructions, but not those on integers in shared memory: exact in any order."""
    found = re.findall(r"\b(?:atom|red)\.[\w.:]+", ptx)
    return sum(not re.search(r"\.shared\b.*\.[usb](?:32|64)$", name) for name in found)


def _matrix(ptx: str) -> str:
    for word in ("tcgen05.mma", "wgmma", "mma.sync"):
        if word in ptx:
            return word
    return ""


def _resources(cubin: bytes) -> tuple[int, int]:
    import triton

    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        done = subprocess.run(
            [tool, "--dump-resource-usage", file.name], check=True, capture_output=True, text=True
        )
    usage = re.search(r"REG:(\d+) STACK:(\d+)", done.stdout)
    if usage is None:
        raise RuntimeError(f"cuobjdump printed no resource usage: {done.stdout[:300]}")
    return int(usage[1]), int(usage[2])


def complaints(entry: Shipped, made: Compiled) -> list[str]:
    """Why a compiled configuration may not ship; empty where it may."""
    wanted = {80: "mma.sync", 90: "wgmma", 100: "tcgen05.mma"}[made.arch]
    checks = {
        f"uses {made.stack} bytes of stack": made.stack > 0,
        f"uses {made.registers} registers, {entry.registers} allowed": made.registers
        > entry.registers,
        f"takes {made.shared} bytes of shared memory": made.shared > SHARED_LIMIT[made.arch],
        "loads no 16 bytes at a time": entry.gathers and not made.wide_loads,
        "adds atomically": made.atomics > 0,
        f"does not multiply by {wanted}": entry.multiplies and made.matrix != wanted,
    }
    return [sentence for sentence, failed in checks.items() if failed]


def main(words: list[str]) -> int:
    """Compile what is named and print what came out; 1 where something may not ship, 2 for no name."""
    arch = int(next((word for word in words if word.isdecimal()), "90"))
    modules = tuple(word for word in words if word in MODULES) or MODULES
    names = {word for word in words if not word.isdecimal() and word not in MODULES}
    entries = [entry for entry in shipped(modules, arch) if not names or entry.name in names]
    if unknown := names - {entry.name for entry in entries}:
        said = f"nothing that ships for {arch} is named {', '.join(sorted(unknown))}"
        print(said, file=sys.stderr)
        return 2
    failed = False
    for entry in entries:
        made = compile_ahead(entry, arch)
        wrong = complaints(entry, made)
        failed |= bool(wrong)
        print(json.dumps(asdict(made) | {"complaints": wrong}), flush=True)
    return int(failed)


if __name__ == "__main__":
    os.environ.pop("TRITON_INTERPRET", None)
    sys.exit(main(sys.argv[1:]))
