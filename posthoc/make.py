"""`posthoc`: coders fitted to a dense run, spliced into it, and kept as runs of their own."""

import time
from collections.abc import Sequence
from pathlib import Path

import torch

from pellucid.errors import ConfigError, RunError
from pellucid.posthoc.arm import Arm, Spent, compute
from pellucid.posthoc.config import PosthocConfig, expand
from pellucid.posthoc.fit import fit, held_rows, tune
from pellucid.posthoc.keep import keep
from pellucid.posthoc.measure import Fidelity, measure
from pellucid.posthoc.splice import check, splice, spliced_config
from pellucid.run import Run, RunFolder, load

Cell = tuple[int, int | None]
"""k and width."""


def posthoc(
    run_path: Path | str,
    words: Sequence[str],
    out: Path | str | None = None,
    *,
    twin: bool = True,
) -> list[Path]:
    """Fit coders to a dense run, and write the spliced model as a run; the folders written.

    Of several rates, each twice the one before, that with the lowest cross-entropy of the spliced
    model is kept, for each k and width, on training rows that no coder was fitted to: held-out text
    chooses nothing. A grid searches otherwise: see `pellucid.sweep.trials`. With a `twin`, coders of
    which only the encoder is fitted, to a dictionary that stays as it was drawn, are made from the
    same activations, at the same rates, and kept in the folder `frozen` of each run. Raises
    ConfigError for words that are not understood, RunError for a run that is not dense, and for a
    folder that holds something.
    """
    configs, start = expand(words), time.monotonic()
    run = load(run_path, device=_device(configs[0].device))
    check(run.config.model, str(run.folder.path))
    for config in configs:
        spliced_config(run.config.model, config)
    folders = _folders(run, configs, out)
    if twin and configs[0].frozen == "none":
        configs += [config.replace(frozen="decoder") for config in configs]
    arms = [Arm(config, splice(run, config)) for config in configs]
    models = [(arm.config, arm.model) for arm in arms]
    seconds = fit(run, models, lambda number, row: arms[number].rows.append(row))
    for arm, spent in zip(arms, seconds, strict=True):
        arm.seconds = spent
    shared = time.monotonic() - start - sum(seconds)
    for cell, folder in folders.items():
        for frozen in dict.fromkeys(config.frozen for config in configs):
            rates = [
                arm for arm in arms if (_cell(arm.config), arm.config.frozen) == (cell, frozen)
            ]
            beside = frozen != configs[0].frozen
            _finish(run, rates, RunFolder(folder).frozen if beside else folder, shared)
    return list(folders.values())


def _finish(run: Run, rates: list[Arm], folder: Path, shared: float) -> None:
    """Choose among rates, tune, measure and keep; `shared` seconds were spent on all arms."""
    start = time.monotonic()
    arm = _best(run, rates)
    tune(run, arm.config, arm.model, arm.rows.append)
    found = measure(run.model, arm.model, held_rows(run, arm.config, "val", 0))
    spent = compute(run, arm, len(rates))
    own = sum(one.seconds for one in rates) + time.monotonic() - start
    keep(run, arm, found, spent, folder, seconds=shared + own)
    print("\n".join(told(arm.config, found, spent, folder)), flush=True)


def told(config: PosthocConfig, found: Fidelity, spent: Spent, folder: Path) -> list[str]:
    """What a command says of a spliced run."""
    shares = [f"{value:.3f}" if value is not None else "-" for value in found.explained_variance]
    drawn = f"frozen {config.frozen}, " if config.frozen != "none" else ""
    return [
        f"{folder}: {config.kind}, {drawn}{config.rule} k={config.k} lr={config.lr:g}, "
        f"{found.tokens:,} held-out tokens",
        f"  cross-entropy {found.ce:.4f} nats per token unspliced, {found.ce_spliced:.4f} with all "
        f"coders ({found.ce_spliced - found.ce:+.4f}), KL {found.kl:.4f}",
        f"  explained variance by layer {' '.join(shares)}",
        f"  active units {' '.join(f'{a:.1f}' for a in found.active)}, "
        f"dead share {' '.join(f'{d:.3f}' for d in found.dead)}",
        *_threshold(found),
        _cost(spent),
    ]


def _threshold(found: Fidelity) -> list[str]:
    each = " ".join(f"{value:.3g}" for value in found.threshold)
    return [f"  units speak above a threshold, by layer {each}"] if each else []


def _cost(spent: Spent) -> str:
    """What fitting cost, beside what the dense run's own training did."""
    own, ratio, with_all = (
        spent[key] for key in ("flops_of_the_run", "ratio", "ratio_with_all_rates")
    )
    line = f"  {spent['flops']:.3g} floating-point operations to fit, "
    if ratio is None:
        return line + "and none to train the run, which is at step 0"
    line += f"{ratio:.3g} times the {own:.3g} of the run's own training"
    return line + (f"; {with_all:.3g} times with the rates not kept" if with_all != ratio else "")


def _cell(config: PosthocConfig) -> Cell:
    return config.k, config.width


def _best(run: Run, arms: list[Arm]) -> Arm:
    """Of arms that differ in their rate, the one that predicts further training rows best."""
    if len(arms) == 1:
        return arms[0]
    spliced = []
    for arm in arms:
        after = arm.config.steps + arm.config.kl_steps
        arm.chosen_by = measure(run.model, arm.model, held_rows(run, arm.config, "train", after))
        spliced.append(arm.chosen_by.ce_spliced)
    return arms[spliced.index(min(spliced))]


def _folders(run: Run, configs: list[PosthocConfig], out: Path | str | None) -> dict[Cell, Path]:
    """A folder for each k and width; RunError, before anything is fitted, where one is in use."""
    cells, first = list(dict.fromkeys(map(_cell, configs))), configs[0]
    parts = [run.folder.name, first.kind]
    parts += [first.rule] if first.rule != "topk" else []
    parts += [f"frozen-{first.frozen}"] if first.frozen != "none" else []
    parts += ["kl"] if first.kl_steps else []
    base = Path(out) if out else run.folder.path.with_name("-".join(parts))
    paths = [base]
    if len(cells) > 1 or not out:
        named = [f"-k={k}" + (f"-width={width}" if width else "") for k, width in cells]
        paths = [base.with_name(base.name + name) for name in named]
    for path in paths:
        if path.is_file() or (path.exists() and any(path.iterdir())):
            raise RunError(f"{path} is not empty: give a new folder with run=…")
    return dict(zip(cells, paths, strict=True))


def _device(wanted: str) -> str:
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device is 'cuda', but torch finds no GPU; 'cpu' or 'auto' is accepted")
    return "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"
