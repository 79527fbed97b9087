"""`pellucid bench kernels`: reads the words, and runs the part of the machine there is."""

from pathlib import Path

import torch

from pellucid.kernels.bench import cpu, options

ROUNDS = {"cpu": 9, "cuda": 20}


def main(words: list[str]) -> int:
    """Measure and print; words: `options.WORDS`, and on a GPU `options.GPU_WORDS`.

    Returns 0; 1 if an operation disagrees with its definition or breaks; 2 for a wrong word.
    """
    try:
        asked = options.parse(words)
        device = _device(asked.device, words)
    except ValueError as error:
        print(f"bench kernels: {error}")
        return 2
    file = Path(asked.json).absolute()
    if asked.json and (file.is_dir() or not file.parent.is_dir()):
        print(f"bench kernels: json must name a file in a folder that exists, got {asked.json!r}")
        return 2
    asked.rounds = asked.rounds or ROUNDS[device.type]
    if device.type == "cpu":
        return cpu.run(asked)
    from pellucid.kernels.bench import gpu

    return gpu.run(asked, device)


def _device(name: str, words: list[str]) -> torch.device:
    """The GPU if there is one and no other device is asked for."""
    there = torch.cuda.is_available()
    device = torch.device(name or ("cuda" if there else "cpu"))
    if device.type == "cuda" and not there:
        raise ValueError("device=cuda: PyTorch finds no GPU here; device=cpu runs without one")
    if device.type == "cpu" and (wrong := options.gpu_words(words)):
        raise ValueError(f"{wrong[0]!r} is for a run on a GPU, and this one is on the CPU")
    return device
