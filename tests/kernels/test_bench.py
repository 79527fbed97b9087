"""`pellucid bench kernels` on toy sizes: what it writes and when it fails. Times are never tested.

The part for a GPU runs on the CPU here, from its first comparison to its last goal.
"""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import pellucid
from pellucid import kernels
from pellucid.kernels import bench, reference
from pellucid.kernels.bench import (
    command,
    cpu,
    definitions,
    far,
    goals,
    gpu,
    layers,
    model,
    ops,
    options,
    parity,
    peers,
    rates,
    report,
    select,
    session,
    shapes,
    sweep,
    timing,
    weights,
)
from pellucid.kernels.bench.report import Finding, Record
from pellucid.kernels.bench.shapes import Shape

CPU = torch.device("cpu")


@pytest.fixture
def toy_sizes(monkeypatch):
    monkeypatch.setattr(cpu, "ROWS", 40)
    monkeypatch.setattr(cpu, "D_MODEL", 8)
    monkeypatch.setattr(cpu, "K", 4)
    monkeypatch.setattr(cpu, "WIDTHS", (1024,))


@pytest.fixture
def toy_gpu(monkeypatch):
    """Every size of the run on a GPU, as small as it may be."""
    small = {name: Shape(name, 24, 16, 256, 4) for name in shapes.SHAPES}
    for where in (shapes, gpu):
        monkeypatch.setattr(where, "SHAPES", small)
    monkeypatch.setattr(parity, "CASES", (Shape("odd", 7, 10, 130, 3),))
    for where, sizes in {
        far: {"ROWS": 40, "WIDTH": 128, "K": 4, "UNITS": 64, "D_MODEL": 8},
        rates: {"COPY_BYTES": 1024, "SQUARE": 8, "GATHERS": ((4096, 8),), "GATHERED_BYTES": 1024},
        weights: {"ROWS": 32, "COLUMNS": 16},
        model: {"LAYERS": 1, "D_MODEL": 16, "HEADS": 2, "CONTEXT": 8, "VOCABULARY": 32, "BATCH": 2},
        sweep: {"TOKENS": 16, "D_MODELS": (8,), "KS": (2,), "RATIOS": (8, 16)},
        timing: {"WARMUP": 1},
    }.items():
        for name, value in sizes.items():
            monkeypatch.setattr(where, name, value)
    monkeypatch.setattr(model, "K", 4)


def run_gpu(*words: str) -> int:
    return gpu.run(options.parse(["rounds=2", *words]), CPU)


def test_prints_and_writes_the_cpu_table(toy_sizes, tmp_path, capsys):
    assert bench.main(["rounds=3", "device=cpu", f"json={tmp_path}/t.json"]) == 0
    printed = capsys.readouterr().out
    assert "width 1024: agrees" in printed and "torch.topk" in printed
    written = json.loads((tmp_path / "t.json").read_text())
    (row,) = written["widths"]
    assert set(row["ms"]) == {"top-k", "dense", "dense-masked", "topk_rows", "torch.topk"}
    assert all(low <= median <= high for median, low, high in row["ms"].values())
    assert written["threads"] == torch.get_num_threads() and written["rows"] == 40


def test_a_wrong_layer_fails_on_the_cpu(toy_sizes, monkeypatch, capsys):
    right = cpu.ours
    monkeypatch.setattr(cpu, "ours", lambda *a: 1.01 * right(*a))
    assert bench.main(["rounds=1", "device=cpu"]) == 1
    assert "DISAGREES" in capsys.readouterr().out


def far_findings() -> dict[tuple[str, str], Finding]:
    record = Record({})
    far.run(session.Bench(CPU, 2, (), record))
    assert not record.broken
    return {(finding.op, finding.what): finding for finding in record.findings}


def test_far_rows_are_held_to_what_they_must_be_twice(toy_gpu, monkeypatch):
    found = far_findings()
    assert {op for op, _ in found} == {"topk_rows", "sparse_decode", "bwd_features"}
    assert len(found) == 8 and all(finding.passed for finding in found.values())
    right = kernels.bwd_features

    def misplaced(*args, **kw):
        made = right(*args, **kw)
        return made._replace(d_w_dec=made.d_w_dec.roll(1, 0))

    monkeypatch.setattr(kernels, "bwd_features", misplaced)
    assert not far_findings()["bwd_features", "outermost units' weights"].passed


@pytest.mark.parametrize(
    "word, named",
    [
        ("rouns=3", "rounds=N"),
        ("rounds", "rounds=N"),
        ("rounds=0", "whole number from 1 on, got '0'"),
        ("rounds=x", "whole number from 1 on, got 'x'"),
        ("seed=-1", "whole number from 0 on, got '-1'"),
        ("json=", "json=PATH"),
        ("json=/nowhere/at/all.json", "a folder that exists"),
        ("json=/", "a file in a folder that exists, got '/'"),
        ("device=tpu", "cpu, cuda"),
        ("shapes=S1,S9", "S1, T1"),
        ("part=encode", "parity, select"),
        ("model=yes", "0, 1"),
    ],
)
def test_bad_words(word, named, capsys):
    assert bench.main([word]) == 2
    printed = capsys.readouterr().out
    assert printed.startswith("bench kernels: ") and printed.count("\n") == 1 and named in printed


def test_words_of_the_gpu_are_refused_on_the_cpu(capsys):
    assert bench.main(["device=cpu", "part=layer"]) == 2
    assert "'part=layer' is for a run on a GPU" in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there(capsys):
    assert bench.main(["device=cuda"]) == 2
    assert "PyTorch finds no GPU" in capsys.readouterr().out


def test_a_gpu_gets_the_gpus_run(monkeypatch):
    asked = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        gpu, "run", lambda asked_for, device: asked.append((asked_for, device)) or 1
    )
    assert bench.main(["shapes=T1,S1", "sweep=1"]) == 1
    ((seen, device),) = asked
    assert (device.type, seen.rounds, seen.shapes, seen.sweep) == ("cuda", 20, ["T1", "S1"], True)
    monkeypatch.setattr(cpu, "run", lambda asked_for: 7)
    assert bench.main(["device=cpu"]) == 7


def test_the_whole_run(toy_gpu, tmp_path, capsys):
    """Every part, and a JSON file in which each number is finite and each gap has its reason."""
    path = tmp_path / "all.json"
    assert run_gpu("model=1", "sweep=1", "shapes=S1,T1,S3", f"json={path}") == 0
    written = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert written["faults"] == {} and written["broken"] == []
    figures = written["figures"]
    for key, figure in figures.items():
        if figure["reason"] is None:
            numbers = [
                n
                for v in figure.values()
                if v is not None
                for n in (v if isinstance(v, list) else [v])
            ]
            assert numbers and all(math.isfinite(n) and n >= 0 for n in numbers), key
        else:
            assert figure["reason"] and figure["ms"] is None, key
    for stage in ("forward", "backward", "whole"):
        for name in ("ours", "dense", "dense, topk, scatter"):
            low, median, high = (figures[f"layer/S1/{name}/{stage}"]["ms"][i] for i in (1, 0, 2))
            assert 0 < low <= median <= high
    for key in ("rates/copy", "select/S3/topk_rows/whole", "decode/T1/zipf/embedding_bag/whole"):
        assert figures[key]["tb_s"] > 0
    assert figures["select/S1/topk_rows again/whole"]["ms"]
    assert figures["model/small/top-k, 16 d/rate"]["tokens_s"] > 0
    assert figures["sweep/d8/k2/width 16/dense/whole"]["ms"]
    verdicts = {goal["goal"]: goal["verdict"] for goal in written["goals"]}
    assert verdicts["whole layer, S1, dense / ours"] != "not measured"
    printed = capsys.readouterr().out
    assert printed.index("agreement with") < printed.index("rates of") < printed.index("in short")
    assert "by width / k" in printed and "d     8 k   2: 8: " in printed


@pytest.mark.parametrize(
    "part", ["parity", "select", "decode", "backward", "layer", "weights", "model", "sweep"]
)
def test_one_part_alone(part, toy_gpu, tmp_path, capsys):
    path = tmp_path / "part.json"
    assert run_gpu(f"part={part}", "shapes=S2", f"json={path}") == 0
    written = json.loads(path.read_text())
    shown = {key.split("/")[0] for key in written["figures"]} - {"parity", "rates"}
    more = {"select": {"encode"}, "decode": {"decoder"}, "parity": set()}
    wanted = {part} | more.get(part, set()) if part != "parity" else set()
    assert shown == wanted
    assert "not measured" in capsys.readouterr().out
    assert {g["measured"] for g in written["goals"] if g["verdict"] == "not measured"} == {None}


def test_an_operation_that_disagrees_is_not_timed(toy_gpu, monkeypatch, tmp_path, capsys):
    right = kernels.sparse_decode
    monkeypatch.setattr(kernels, "sparse_decode", lambda *args: 1.02 * right(*args))
    path = tmp_path / "wrong.json"
    assert run_gpu("part=decode", "shapes=S1", f"json={path}") == 1
    written = json.loads(path.read_text())
    assert "sparse_decode" in written["faults"]
    figure = written["figures"]["decode/S1/uniform/sparse_decode"]
    assert figure["ms"] is None and "withheld" in figure["reason"]
    assert "decode/S1/uniform/sparse_decode/whole" not in written["figures"]
    assert written["figures"]["decode/S1/uniform/embedding_bag/whole"]["ms"]
    assert "sparse_decode FAILS" in capsys.readouterr().out


def test_a_run_without_time_says_what_it_left(toy_gpu, tmp_path):
    path = tmp_path / "late.json"
    asked = options.parse(["rounds=1", "part=decode", "shapes=S1", f"json={path}"])
    asked.limit = -1
    assert gpu.run(asked, CPU) == 0
    assert "no time left" in json.loads(path.read_text())["figures"]["decode/S1"]["reason"]


def test_rows_of_the_timed_size_are_compared_too(toy_gpu, monkeypatch, tmp_path):
    """An operation that is wrong in large batches only has its figure withheld."""
    right = kernels.topk_mlp

    def wrong(x, *args):
        y, values, indices = right(x, *args)
        return (y * (1.05 if len(x) == 24 else 1), values, indices)

    monkeypatch.setattr(kernels, "topk_mlp", wrong)
    path = tmp_path / "large.json"
    assert run_gpu("part=layer", "shapes=S1", f"json={path}") == 1
    written = json.loads(path.read_text())
    assert "sampled rows" in written["faults"]["topk_mlp"]
    assert "withheld" in written["figures"]["layer/S1/ours"]["reason"]
    assert written["figures"]["layer/S1/dense/whole"]["ms"]


def test_an_operation_that_breaks_is_said(toy_gpu, monkeypatch, tmp_path):
    def broken(*_, **__):
        raise RuntimeError("no such\nkernel")

    monkeypatch.setattr(kernels, "topk_rows", broken)
    path = tmp_path / "broken.json"
    assert run_gpu("part=select", "shapes=S1", f"json={path}") == 1
    written = json.loads(path.read_text())
    assert "no such kernel" in written["faults"]["topk_rows"]
    assert written["figures"]["select/S1/torch.topk/whole"]["ms"]


def test_what_does_not_fit_leaves_the_rest(toy_gpu, monkeypatch, tmp_path):
    def full(*_, **__):
        raise torch.OutOfMemoryError("much too large")

    monkeypatch.setattr(layers, "naive", full)
    path = tmp_path / "full.json"
    assert run_gpu("part=layer", "shapes=S1", f"json={path}") == 0
    figures = json.loads(path.read_text())["figures"]
    assert figures["layer/S1/dense, topk, scatter"] == {"ms": None, "reason": "out of memory"}
    assert figures["layer/S1/ours/whole"]["ms"]


@pytest.mark.parametrize(
    "harm, op",
    [
        (lambda values, indices: (values, indices.flip(1)), "topk_rows"),
        (lambda values, indices: (values * 1.001, indices), "topk_rows"),
    ],
)
def test_parity_sees_a_wrong_selection(harm, op, toy_gpu, monkeypatch):
    right = kernels.topk_rows
    monkeypatch.setattr(kernels, "topk_rows", lambda *a, **kw: harm(*right(*a, **kw)))
    assert op in faults_of(op)


def test_parity_sees_the_wrong_one_of_two_equals(toy_gpu, monkeypatch):
    """The highest index in place of the lowest."""
    right = kernels.topk_rows

    def last(x, k, **how):
        values, indices = right(x.flip(1), k, **how)
        return values.flip(1), (x.shape[1] - 1 - indices).flip(1)

    monkeypatch.setattr(kernels, "topk_rows", last)
    assert "indices, tied rows" in {f.what for f in failures_of("topk_rows")}


def test_parity_sees_weights_that_stay_by_mistake(toy_gpu, monkeypatch):
    right = kernels.weight_topk_
    monkeypatch.setattr(kernels, "weight_topk_", lambda w, keep: right(w, keep=keep + 1))
    assert faults_of("weight_topk_") == {"weight_topk_"}


def test_parity_sees_bits_that_do_not_repeat(toy_gpu, monkeypatch):
    right, calls = kernels.sddmm, []

    def drifts(*args):
        calls.append(args)
        return right(*args) * (1 + 1e-3 * (len(calls) % 2))

    monkeypatch.setattr(kernels, "sddmm", drifts)
    assert "second run" in " ".join(f.what for f in failures_of("sddmm"))


def test_parity_sees_a_wrong_gradient(toy_gpu, monkeypatch):
    right = kernels.topk_mlp

    def wrong(x, w_enc, b_enc, w_dec, k):
        y, values, indices = right(x, w_enc, b_enc, w_dec, k)
        return y + 0.05 * (w_enc - w_enc.detach()).sum(), values, indices

    monkeypatch.setattr(kernels, "topk_mlp", wrong)
    assert {"d_w_enc", "the halves' d_w_enc"} <= {f.what for f in failures_of("topk_mlp")}


def failures_of(op: str) -> list[Finding]:
    record = Record({})
    parity.run(session.Bench(CPU, 2, (), record), {op: definitions.CHECKS[op]})
    return [finding for finding in record.findings if not finding.passed]


def faults_of(op: str) -> set[str]:
    return {finding.op for finding in failures_of(op)}


def test_peers_are_named_where_they_are_not_installed(toy_gpu, tmp_path):
    path = tmp_path / "peers.json"
    run_gpu("part=decode", "shapes=S1", f"json={path}")
    figures = json.loads(path.read_text())["figures"]
    for key in ("decode/S1/uniform/OpenAI", "decoder/S1/zipf/sparsify"):
        assert "not installed" in figures[key]["reason"]


def test_a_peer_is_timed_if_it_is_right(toy_gpu, monkeypatch):
    """Loaded by its file alone: the package around it cannot be imported."""
    record = Record({})
    run = session.Bench(CPU, 2, (), record, dtype=torch.float32)
    right = {"flashinfer": lambda: lambda x, k: x.topk(k, sorted=False)}
    wrong = {"rtopk": lambda: lambda x, k: x.topk(k, largest=False)}
    for name, make in (right | wrong).items():
        monkeypatch.setattr(peers, name, make)
    assert set(peers.selectors(run, "select/S1")) == {"FlashInfer top_k"}
    assert "float64" in record.figures["select/S1/RTop-K"]["reason"]


def test_a_peers_file_is_loaded_without_its_package(tmp_path, monkeypatch):
    package = tmp_path / "sparsify"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('data sets are missing')\n")
    (package / "xformers.py").write_text(
        "def xformers_embedding_bag(indices, weight, per_sample_weights):\n"
        "    return (weight[indices.long()] * per_sample_weights[..., None]).sum(1)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    peers.module.cache_clear()
    record = Record({})
    found = peers.decoders(session.Bench(CPU, 2, (), record, dtype=torch.float32), "decode/S1")
    peers.module.cache_clear()
    assert set(found) == {"sparsify"}
    assert record.figures["decode/S1/OpenAI"]["reason"] == "sparse_autoencoder is not installed"


def test_drawn_indices():
    """Units of a row differ; zipf prefers a few, uniform none; and large draws go in pieces."""
    torch.manual_seed(0)
    uniform = shapes.draw_indices(500, 64, 8, "uniform", CPU)
    zipf = shapes.draw_indices(500, 64, 8, "zipf", CPU)
    for indices in (uniform, zipf):
        assert indices.dtype == torch.int32 and indices.shape == (500, 8)
        assert bool((indices.diff(dim=1) > 0).all())
        assert int(indices.min()) >= 0 and int(indices.max()) < 64
    shares = [
        i.flatten().long().bincount(minlength=64).sort().values / 500 for i in (uniform, zipf)
    ]
    assert float(shares[0].max()) < 0.25 < 0.85 < float(shares[1][-1])


def test_sets_of_inputs_fit():
    assert shapes.n_sets(1) == 3 and shapes.n_sets(shapes.INPUT_BYTES) == 1
    assert shapes.n_sets(10 * shapes.INPUT_BYTES) == 1


@pytest.fixture
def fake_cuda(monkeypatch):
    """What the code asks of CUDA, answered by a clock that counts calls and a meter of memory."""
    calls, level = [], iter(range(100, 1000, 100))

    class Event:
        def __init__(self, enable_timing):
            self.at = None

        def record(self):
            calls.append("mark")
            self.at = len(calls)

        def elapsed_time(self, end):
            return float(end.at - self.at)

    fakes = {
        "Event": Event,
        "synchronize": lambda: calls.append("wait"),
        "get_device_properties": lambda _: SimpleNamespace(total_memory=1600),
        "memory_allocated": lambda: next(level),
        "reset_peak_memory_stats": lambda: calls.append("reset"),
        "max_memory_allocated": lambda: 1100,
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    return calls


def test_a_gpu_is_timed_by_its_events(fake_cuda, monkeypatch):
    """Marks lie around what is timed, nothing waits in between, and the cache is emptied before."""
    watch = timing.DeviceClock(CPU)
    assert watch.filler.numel() == 100
    monkeypatch.setattr(watch.filler, "zero_", lambda: fake_cuda.append("settle"))
    monkeypatch.setattr(timing, "clock", lambda _: watch)
    work = {"_ready": lambda _: None, "run": lambda _: fake_cuda.extend(["work"] * 3)}
    times = timing.interleaved({"a": work}, 2, CPU)
    once = ["settle", "mark", "mark", "work", "work", "work", "mark"]
    assert fake_cuda == once * 2 * (timing.WARMUP + 2) + ["wait"]
    assert times["a"] == {"run": [4.0, 4.0, 4.0], "whole": [4.0, 4.0, 4.0]}


def test_the_peak_is_beyond_what_was_there(fake_cuda):
    inputs = shapes.layer_inputs(Shape("s", 4, 8, 16, 2), CPU, torch.float32)
    assert layers.peak_bytes(layers.dense, inputs) == 1000
    assert fake_cuda == ["wait", "reset", "wait"]


def test_only_the_layers_beside_ours_are_compiled(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda layer, dynamic: ("compiled", layer, dynamic))
    plain = layers.eager(Shape("s", 4, 8, 16, 2))
    made = layers.compiled(plain, torch.device("cuda"))
    assert made["dense"] == ("compiled", layers.dense, False)
    assert {name for name, layer in made.items() if layer is plain[name]} == set(layers.OURS)
    assert layers.compiled(plain, CPU) == plain


def test_variants_take_turns():
    """First again at the end of each round, untimed stages aside, and values handed on."""
    calls = []
    variants = {
        "a": {"_ready": lambda number: ("a", number), "run": calls.append},
        "b": {"one": lambda number: ("b", number), "two": calls.append},
    }
    times = timing.interleaved(variants, 2, CPU)
    rounds = timing.WARMUP + 2
    assert calls == [(name, n) for n in range(rounds) for name in ("a", "b", "a")]
    assert {name: set(stages) for name, stages in times.items()} == {
        "a": {"run", "whole"},
        "b": {"one", "two", "whole"},
        "a again": {"run", "whole"},
    }
    assert timing.spread([5.0, 1.0, 2.0, 3.0, 4.0]) == pytest.approx([3.0, 1.8, 4.2])


def test_saved_bytes_are_those_of_the_hidden_layer():
    shape = Shape("s", 24, 16, 256, 4)
    inputs = shapes.layer_inputs(shape, CPU, torch.float32)
    assert layers.saved_bytes(layers.dense, inputs) == 24 * 256 * 4
    assert layers.saved_bytes(layers.eager(shape)["ours"], inputs) == 24 * 4 * (4 + 4)


def test_recall_counts_active_units_only():
    wanted = torch.tensor([[1, 2, -1], [0, 3, 4]])
    assert select.recall(wanted, torch.tensor([[2, -1], [3, 4]]), 5) == pytest.approx(3 / 5)
    assert select.recall(wanted, wanted, 5) == 1


def test_weights_the_usual_way():
    weights_ = torch.tensor([[3.0, -4.0], [0.5, 1.0]])
    weights.by_scatter(weights_, 2)
    assert weights_.tolist() == [[3, -4], [0, 0]]


def test_goals_are_judged_by_what_was_measured():
    record = Record({})
    goals.judge(record)
    assert {goal["verdict"] for goal in record.goals} == {"not measured"}
    for stage in ("whole", "forward", "backward"):
        record.time(f"layer/S1/ours/{stage}", [1.0, 1.0, 1.0])
        record.time(f"layer/S1/dense/{stage}", [2.6, 2.6, 2.6])
    record.time("select/S1/topk_rows/whole", [1.0, 1.0, 1.0], share=0.5)
    record.time("select/S1/torch.topk/whole", [13.0, 13.0, 13.0])
    goals.judge(record)
    found = {goal["goal"]: goal for goal in record.goals}
    assert found["whole layer, S1, dense / ours"]["verdict"] == "met"
    assert found["forward, S1, dense / ours"]["verdict"] == "aim met"
    assert found["backward, S1, dense / ours"]["verdict"] == "not met"
    # Twelve times as fast, but the share of the bandwidth that belongs to the aim is missing.
    assert found["topk_rows, S1, torch.topk / ours"]["verdict"] == "met"
    assert found["whole layer, T1, dense / ours"]["verdict"] == "not measured"
    assert len(goals.lines(record)) > len(record.goals)


def test_numbers_that_are_not_finite_become_null(tmp_path):
    record = Record({}, f"{tmp_path}/r.json")
    record.value("a", "mb", math.inf)
    record.found(Finding("op", "case", "what", math.nan, 1.0))
    record.save()
    written = json.loads((tmp_path / "r.json").read_text(), parse_constant=pytest.fail)
    assert written["figures"]["a"]["mb"] is None
    assert written["parity"][0]["passed"] is False and "op" in written["faults"]
    assert report.finite({1: (1.0, -math.inf)}) == {"1": [1.0, None]}


def test_operations_are_found_by_name(monkeypatch):
    assert ops.get("sddmm") is kernels.sddmm
    assert ops.missing("no_such_op") == "pellucid.kernels has no no_such_op"
    monkeypatch.setattr(kernels, "moded", lambda x, mode="a": (x, mode), raising=False)
    assert ops.get("moded:b")(1) == (1, "b")
    assert ops.missing("sparse_decode:b") == "sparse_decode has no mode='b'"


def test_it_needs_torch_and_triton_only(tmp_path):
    """Everything else that the project depends on may be missing."""
    blocked = "accelerate datasets einops jaxtyping jinja2 rich safetensors tokenizers".split()
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({blocked!r}));"
        "from pellucid.kernels import bench; from pellucid.kernels.bench import gpu;"
        "sys.exit(bench.main(['part=none']))"
    )
    root = str(Path(pellucid.__file__).parent.parent)
    search = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": search},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (2, "")
    assert "part must be one of" in done.stdout


def test_reference_and_command_are_those_that_are_tested():
    assert definitions.reference is reference and bench.main is command.main
