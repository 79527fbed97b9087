"""A ladder of dense models: each rung a run of its own, interpolated and never extrapolated."""

import json

import pytest
from support.grids import BASE

from pellucid.cli import main
from pellucid.errors import ConfigError
from pellucid.experiments import matching, run_config
from pellucid.experiments.ladder import RUNGS, LadderError, rung, size_at
from pellucid.sweep import Grid, GridError, by_loss
from pellucid.sweep.by_loss import compared
from pellucid.sweep.folder import GridFolder
from pellucid.sweep.run import sweep

LADDER = {100.0: 3.0, 200.0: 2.5, 400.0: 2.2, 1600.0: 2.0}


def test_sizes_are_interpolated_in_their_logarithm():
    assert size_at(2.5, LADDER) == pytest.approx(200)
    assert size_at(2.35, LADDER) == pytest.approx((200 * 400) ** 0.5)
    assert size_at(2.05, LADDER) == pytest.approx(400 * 4**0.75)
    assert size_at(3.0, LADDER) == pytest.approx(100)
    assert size_at(2.0, LADDER) == pytest.approx(1600)


@pytest.mark.parametrize(
    ("bits", "ladder", "said"),
    [
        (1.9, LADDER, r"outside of the ladder's 2.0000 … 3.0000: add a rung larger than 1,600"),
        (3.1, LADDER, "add a rung smaller; nothing is extrapolated"),
        (float("nan"), LADDER, "nothing is extrapolated"),
        (2.5, {1.0: 3.0, 2.0: 2.0, 4.0: 1.0}, "the ladder has 3 rungs; 4 or more are accepted"),
        (2.5, LADDER | {800.0: 2.3}, r"of 800 parameters \(2.3000 bits per byte\) is no better"),
    ],
)
def test_what_a_ladder_cannot_say_it_refuses(bits, ladder, said):
    with pytest.raises(LadderError, match=said):
        size_at(bits, ladder)


def test_a_rung_is_dense_and_keeps_what_it_shares_with_its_target():
    words = ["tiny", "mlp=topk", "mlp.k=8", "d_model=64", "train.steps=70", "attention=bilinear"]
    target, found = run_config(words), run_config(rung(words, 1.5))
    assert found.model.d_model == 96 and found.model.mlp.width == 384
    assert type(found.model.mlp).__qualname__ == "DenseMLP.Config"
    assert type(found.model.attention).__qualname__.startswith("Softmax")
    assert found.train.steps == target.train.steps == 70 and found.data == target.data
    with pytest.raises(LadderError, match="match=dense is"):
        rung(words, 1.0, "topk")


def test_a_baseline_by_loss_is_a_ladder_of_cells():
    grid = Grid(name="l", base="tiny", seeds=(0, 1), baselines={"dense": "match=dense by=loss"})
    names = [f"dense x{share:g}" for share in RUNGS]
    assert list(grid.baselines) == names
    baselines = [cell for cell in grid.cells() if "baseline" in cell.values]
    assert [cell.values["baseline"] for cell in baselines[::2]] == names
    sizes = [cell.config.model.d_model for cell in baselines[::2]]
    assert sizes == sorted(set(sizes)) and len(sizes) == 5
    own = Grid(name="l", baselines={"d": "match=dense by=loss rungs=4,0.5,1,2 train.lr=0.001"})
    assert list(own.baselines) == ["d x0.5", "d x1", "d x2", "d x4"]
    assert own.cells()[-1].config.train.lr == 0.001
    for rungs in ("1,2,4", "1,1,2,4", "1,2,4,x", "1,2,4,-1"):
        with pytest.raises(GridError, match="l, baselines: .*accepted"):
            Grid(name="l", baselines={"d": f"match=dense by=loss rungs={rungs}"})


def test_one_run_alone_cannot_be_matched_by_loss(capsys):
    with pytest.raises(ConfigError, match="by = 'loss' is found by training: give a grid"):
        matching.match(["tiny"], "dense", "loss")
    assert main(["train", "tiny", "match=dense", "by=loss"]) == 2
    assert "match=dense by=loss" in capsys.readouterr().err


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A ladder whose smallest rung is tiny, and dense arms in the place of something new."""
    out = tmp_path_factory.mktemp("ladder") / "out"
    base = BASE.replace("mlp.k=4", "mlp=dense").split()
    words = [w for w in base if "revive" not in w and w != "mlp.width=64"]
    grid = Grid(
        name="l",
        base=" ".join([*words, "train.steps=200"]),
        axes={"width": ["mlp.width=60", "d_model=128 mlp.width=512"]},
        seeds=(0,),
        baselines={"dense": "match=dense by=loss rungs=0.25,0.5,1,2"},
    )
    assert sweep(grid, out, workers=2) == 0
    return out


@pytest.mark.slow
def test_an_arm_stands_beside_the_dense_model_that_is_as_good(swept):
    out = swept
    near, far = compared(out)  # in the grid's own order
    # A dense model that is a little narrower than a rung is about as good as that rung.
    assert near.own * 0.5 < near.parameters < near.own * 2 and near.seeds == 1
    assert far.parameters is None and "add a rung larger" in far.reason
    held = json.loads((out / by_loss.FILE).read_text())
    assert held["arms"][0]["parameters"] == near.parameters
    assert "is as good; it has" in near.line and "no dense model is known" in far.line


@pytest.mark.slow
def test_a_rung_that_is_not_trained_to_its_end_is_not_used(swept, tmp_path):
    folder = GridFolder(swept)
    name = next(path.name for path in folder.cells.iterdir() if "x0.5" in path.name)
    manifest = folder.run(name).manifest_file
    scores, kept = folder.run(name).scores_file, manifest.read_text()
    held = scores.read_text()
    scores.unlink()
    manifest.write_text(json.dumps({k: v for k, v in json.loads(kept).items() if k != "finished"}))
    try:
        assert f"{name} is begun: not trained to its end" in compared(swept)[0].reason
    finally:
        scores.write_text(held)
        manifest.write_text(kept)
