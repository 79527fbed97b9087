"""A grid is its cells: every combination once, and a sentence for what is no grid."""

import time

import pytest

from pellucid.errors import UserError
from pellucid.experiments import run_config
from pellucid.sweep import Grid, GridError, load_grid

AXES = {"k": ["mlp.k=8", "mlp.k=16"], "rate": ["", "train.lr=0.001"]}


def grid(**changes) -> Grid:
    return Grid(**{"name": "g", "axes": AXES, "seeds": (0, 1)} | changes)


def test_cells_are_all_combinations_with_every_seed():
    cells = grid(base="tiny train.steps=7", baselines={"dense": "mlp=dense"}).cells()
    assert len(cells) == 2 * 2 * 2 + 2
    found = {(c.config.model.mlp.k, c.config.train.lr, c.seed) for c in cells[:8]}
    assert found == {(k, lr, s) for k in (8, 16) for lr in (0.001, 0.003) for s in (0, 1)}
    assert all(cell.config.train.steps == 7 for cell in cells)
    assert all(cell.config == run_config(cell.words) for cell in cells)
    assert len({cell.name for cell in cells}) == len(cells)
    assert cells[3].name == "mlp.k=8,train.lr=0.001-seed1"
    assert cells[-1].arm == "baseline: dense" and cells[-1].config.model.mlp.width is None


def test_a_baseline_may_be_matched():
    cells = grid(
        base="tiny mlp.k=16", axes={}, baselines={"dense": "match=dense by=active"}
    ).cells()
    assert [cell.config.model.mlp.width for cell in cells] == [1024, 1024, 522, 522]


def test_long_names_end_in_a_hash():
    words = "mlp.k=8 train.lr=0.001 train.steps=100 train.batch=4 train.beta1=0.8 train.beta2=0.9"
    names = [c.name for c in grid(axes={"a": [words, words + " train.clip=2.0"]}).cells()]
    assert len(set(names)) == 4 and all(len(name) < 80 for name in names)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seeds": (0, 1, 0)}, "different ones are accepted"),
        ({"seeds": ()}, "different ones are accepted"),
        ({"axes": {"k": ["mlp.k=8", "mlp.k=8"]}}, "are the same run"),
        ({"axes": {"k": ["", "mlp.k=32"]}}, "are the same run"),
        ({"axes": {"k": ["mlp.q=8"]}}, "k = 'mlp.q=8'.*mlp.q is not a field"),
        ({"axes": {"k": "mlp.k=8"}}, "a list of words is accepted"),
        ({"endpoints": ("a", "b", "c")}, "at most 2 are accepted"),
        ({"endpoints": ("bits_per_bite",)}, "no metric of the suite quick.*bits_per_byte"),
        ({"endpoints": ("explained_loss:64bits",)}, "no metric of the suite quick"),
        ({"margins": {"living_share": 0.1}}, "margins give 'living_share' 0.1"),
        ({"endpoints": ("induction",), "suite": "full", "margins": {"induction": 0}}, "above 0"),
        ({"suite": "huge"}, "suite is 'huge'; smoke, quick, standard, full are accepted"),
        ({"name": "a/b"}, "letters, digits"),
        ({"axes": {"baseline": ["", "mlp.k=8"]}}, "an axis is named baseline"),
        ({"axes": {"trial": ["", "mlp.k=8"]}}, "an axis is named trial"),
        (
            {"baselines": {"a b": "mlp=dense", "a,b": "mlp=dense mlp.width=64"}},
            r"\[baseline: a,b\] and \[baseline: a b\] would share the folder a,b-seed0",
        ),
        ({"baselines": {"mlp.k=8,train.lr=0.001": "mlp=dense"}}, "would share the folder"),
        (
            {
                "baselines": {"dense": "mlp=dense"},
                "posthoc": {"a b": "kind=sae k=2 width=24", "a_b": "kind=sae k=4 width=24"},
            },
            r"\[baseline: a_b\] and \[baseline: a b\] would share the folder posthoc-a_b-seed0",
        ),
        ({"baselines": {"d": "match=foo"}}, "baseline d: match = 'foo'"),
    ],
)
def test_what_is_no_grid_is_refused(changes, said):
    with pytest.raises(GridError, match=said):
        grid(**changes).cells()


def test_an_endpoint_may_be_a_part_of_a_metric():
    assert grid(suite="standard", endpoints=("explained_loss:64bits", "bits_per_byte")).cells()


def test_grids_are_read_from_files(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("from pellucid.sweep import Grid\ngrid = Grid(name='mine', seeds=(3,))\n")
    assert load_grid(str(file)).cells()[0].seed == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1", "holds no `grid"),
        ("import nothing_of_that_name", "ModuleNotFoundError"),
        ("1 +", "SyntaxError"),
    ],
)
def test_files_that_hold_no_grid_are_refused(tmp_path, text, said):
    file = tmp_path / "mine.py"
    file.write_text(text)
    with pytest.raises(UserError, match=said):
        load_grid(str(file))


def test_a_name_that_does_not_ship_is_refused():
    with pytest.raises(GridError, match="there is no grid nothing"):
        load_grid("nothing")


@pytest.mark.slow
def test_a_thousand_cells_open_at_once():
    lrs = [f"train.lr={0.001 + i * 1e-5:.6f}" for i in range(50)]
    begun = time.monotonic()
    cells = grid(axes={"k": ["mlp.k=8", "mlp.k=16"], "lr": lrs}, seeds=range(10)).cells()
    assert len(cells) == 1000
    print(f"{time.monotonic() - begun:.1f} s for a thousand cells")
