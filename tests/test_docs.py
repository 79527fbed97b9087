"""The pages of `docs/` run: what they show is what happens."""

import re
from pathlib import Path

import pytest
import torch
from support.planted_parts import SAYS_1, planted, planted_case

from pellucid import kernels
from pellucid.cli import main
from pellucid.eval.circuits.battery import Repeats
from pellucid.eval.circuits.settings import PROFILES, Settings
from pellucid.eval.suite import METRICS
from pellucid.experiments import run_config
from pellucid.report import comparison
from pellucid.report.reading import read_run
from pellucid.run import RunFolder
from pellucid.sweep import load_grid
from pellucid.train import train

DOCS = Path(__file__).parents[1] / "docs"


def blocks(page: str) -> list[str]:
    """The Python blocks of a page, in order."""
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), flags=re.DOTALL)


@pytest.fixture(scope="module")
def small_run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "run"
    words = "data=generated data.n_documents=120 data.vocab_size=300 d_model=16 context=32"
    words += " attention.n_heads=2 mlp.width=64 mlp.k=4 train.steps=8 train.eval_tokens=512"
    assert train(run_config(["tiny", *words.split(), "train.device=cpu"]), folder) == 0
    return folder


def test_the_notebook_page_runs_from_top_to_bottom(small_run, capsys):
    names: dict = {"RUN": small_run}
    for code in blocks("notebook.md"):
        exec(compile(code, "docs/notebook.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "blocks.0.mlp: 64 mlp units, linear-given-active-set" in printed
    assert "(4, 32, 4) (4, 32, 16)" in printed
    # Patching each active unit moved the logits.
    moved = re.findall(r"^\d+ ([\d.e-]+)$", printed, flags=re.MULTILINE)
    assert moved and max(map(float, moved)) > 0


def test_the_page_of_the_kernels_runs_from_top_to_bottom(capsys):
    torch.manual_seed(0)
    names: dict = {}
    for code in blocks("kernels.md"):
        exec(compile(code, "docs/kernels.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "cpu: library calls" in printed
    assert "torch.Size([64, 32]) torch.Size([64, 8]) torch.int32 torch.Size([256, 32])" in printed
    # The pieces are the gradients of a loss whose gradient of the output is `grad`.
    decode = names["sparse_decode"]
    latents, w_dec = (names[n].detach().requires_grad_() for n in ("latents", "w_dec"))
    wanted = torch.autograd.grad(
        decode(latents, names["units"], w_dec), (latents, w_dec), names["grad"]
    )
    torch.testing.assert_close(names["decoder"].d_values, wanted[0])
    torch.testing.assert_close(names["decoder"].d_w_dec, wanted[1])
    torch.testing.assert_close(names["effect"], wanted[0])


def test_the_page_of_the_kernels_names_every_operation():
    page = (DOCS / "kernels.md").read_text()
    assert [name for name in kernels.__all__ if f"`{name}(" not in page and name != "path"] == []


def described() -> set[str]:
    """Names of metrics in headings, first cells of tables and first words of paragraphs.

    `_zero` behind `targeted_ablation_mean` stands for `targeted_ablation_zero`.
    """
    found: set[str] = set()
    for page in sorted((DOCS / "metrics").glob("*.md")):
        for entry in re.findall(r"^(#+ .*|\| `[^|]*|\*\*`.*?`)", page.read_text(), re.MULTILINE):
            whole = ""
            for name in re.findall(r"`([\w…]+)", entry):
                whole = whole.rpartition("_")[0] + name if name.startswith("_") else name
                found.add(whole)
    return found - {"…"}


def test_every_metric_has_its_place_on_a_page_of_its_family():
    """By its name, whatever the numbers in it; a `…` stands for any part of a name."""
    any_number = lambda name: re.sub(r"\d+", "1", name.removesuffix("_quick"))
    told = [any_number(name).replace("…", r"\w+") for name in described()]
    missing = [n for n in METRICS if not any(re.fullmatch(t, any_number(n)) for t in told)]
    assert missing == []


def test_the_page_of_the_levers_runs_from_top_to_bottom(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("levers.md")
    (tmp_path / "quiet.py").write_text(code)
    size = "data=generated data.n_documents=120 data.vocab_size=300 d_model=16 context=32"
    size += " attention.n_heads=2 mlp.width=64 train.steps=4 train.eval_tokens=512 train.device=cpu"
    page = (DOCS / "levers.md").read_text()
    for command in re.findall(r"^pellucid (.*)$", page, flags=re.MULTILINE):
        words = command.split()
        assert main([*words, *size.split()] if words[0] == "train" else words) == 0
    names = ("dense", "sparse", "control", "taught", "quiet")
    manifests = {name: RunFolder(Path("runs") / name).read_manifest() for name in names}
    origins = {name: manifest["origin"] for name, manifest in manifests.items()}
    assert origins["dense"] == origins["quiet"] == "scratch"
    assert (
        origins["sparse"]["init_from"]["weights_sha256"]
        == (origins["control"]["init_from"]["weights_sha256"])
    )
    assert origins["control"]["init_from"]["held_out"]["gap"] == 0
    assert origins["taught"]["teacher"]["run"] == "dense"
    heads = comparison._heads([read_run(RunFolder(Path("runs") / name)) for name in names])
    assert [head["group"] for head in heads] == ["A", "B", "B", "C", "D"]
    assert manifests["quiet"]["losses"][0]["sites"] == ["blocks.0.mlp", "blocks.1.mlp"]


def test_the_page_of_circuits_runs_from_top_to_bottom(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    few = Settings(steps=4, drawn=4, pairs=2, rounds=1, exact=4, shown=4)
    monkeypatch.setitem(PROFILES, "quick", few)
    monkeypatch.setattr("pellucid.eval.circuits.run.ROWS", 20)
    monkeypatch.setattr("webbrowser.open", lambda page: True)
    page = (DOCS / "circuits.md").read_text()
    (pairs,) = re.findall(r"```json\n(.*?)```", page, flags=re.DOTALL)
    (tmp_path / "loops.jsonl").write_text(pairs)
    size = "data=generated data.n_documents=120 data.vocab_size=300 d_model=16 context=256"
    size += " attention.n_heads=2 mlp.width=64 mlp.k=4 train.steps=4 train.batch=2"
    size += " train.eval_tokens=512 train.device=cpu"
    for command in re.findall(r"^pellucid (.*)$", page, flags=re.MULTILINE):
        words = command.split()
        # A model of four steps does no task.
        more = {"train": size.split(), "circuit": ["--force", "--no-controls"]}.get(words[0], [])
        assert main([*words, *more]) == 0
    found = set(RunFolder(Path("runs/topk")).read_circuits())
    assert found == {"single_double_quote", "loops", "var_if@32"}
    capsys.readouterr()
    (code,) = blocks("circuits.md")
    exec(compile(code, "docs/circuits.md", "exec"), {"RUN": Path("runs/topk")})
    assert re.match(r"\d+ of \d+ \[", capsys.readouterr().out)


def test_the_page_of_the_controls_of_circuits_runs():
    def find(*_):
        return planted_case(planted(SAYS_1), ["blocks.0.mlp:0"]).circuit

    few = Repeats(random_circuits=4, halves=4, fractions=2, draws=1)
    case = planted_case(planted(SAYS_1), ["blocks.0.mlp:0"], repeats=few, find=find)
    names = {"case": case}
    (code,) = blocks("circuit-controls.md")
    exec(compile(code, "docs/circuit-controls.md", "exec"), names)
    assert {"ablation_zero", "nonsense_mapping"} <= {check.name for check in names["checks"]}
    assert names["size"]["nodes"] == 1


def strange_grids(text: str, known: set[str]) -> list[str]:
    """Folders of grids that a text speaks of and nobody has made: neither by the name of one that
    ships, nor by a name or an `--out` that stands before."""
    found, known = [], set(known)
    for named, out, spoken in re.findall(
        r'name="([^"]+)"|--out grids/([\w.=,@+-]*\w)|grids/([\w.=,@+-]*\w)', text
    ):
        known |= {named or out} - {""}
        if spoken and spoken not in known:
            found.append(spoken)
    return found


def test_folders_of_grids_are_those_that_a_sweep_makes():
    sources = {path.stem: path.read_text() for path in (DOCS.parent / "experiments").glob("*.py")}
    grids = [stem for stem, text in sources.items() if re.search(r"^grid = ", text, re.MULTILINE)]
    known = {load_grid(stem).name for stem in grids}
    assert {"mlp-fillings", "h3-minimal"} <= known
    strange = {page.name: strange_grids(page.read_text(), known) for page in DOCS.rglob("*.md")}
    assert {page: names for page, names in strange.items() if names} == {}


def test_a_folder_that_no_sweep_makes_is_found():
    known = {"mlp-fillings"}
    assert strange_grids("`pellucid compare grids/mlp_fillings`:", known) == ["mlp_fillings"]
    made = "pellucid sweep mlp_fillings --out grids/again, pellucid compare grids/again."
    assert strange_grids(made, known) == [] and strange_grids(made[-24:], known) == ["again"]
    assert strange_grids('Grid(name="own") … grids/own/cells/…, grids/mlp-fillings', known) == []
