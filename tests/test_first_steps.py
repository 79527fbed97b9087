"""The table of fillings keeps what it found, and goes on where it was interrupted."""

import json

import pytest

from pellucid.errors import UserError
from pellucid.experiments import first_steps, kept, run_config
from pellucid.experiments.first_steps import Trial
from pellucid.models import ModelConfig
from pellucid.settings.fields import declared


@pytest.fixture
def tried(monkeypatch) -> list[str]:
    """The names that were trained, by a stand-in that knows every result."""
    names: list[str] = []

    def trial(name, config, folder):
        if name == "mlp=solu" and "mlp=solu" not in names:
            names.append(name)
            raise SystemExit(75)
        names.append(name)
        return Trial(name, loss=4.0, bigram=4.1, alive=1.0, ablation_cost=0.06)

    monkeypatch.setattr(first_steps, "trial", trial)
    return names


def test_an_interrupted_table_goes_on_where_it_was(tried, tmp_path):
    words = ["only=dense,topk,mlp=solu", f"json={tmp_path / 'found.json'}"]
    with pytest.raises(SystemExit):
        first_steps.main(words)
    assert tried == ["mlp=dense", "mlp=topk", "mlp=solu"]
    assert first_steps.main(words) == 0
    assert tried[3:] == ["mlp=solu"]
    rows = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert [row["variant"] for row in rows] == ["mlp=dense", "mlp=topk", "mlp=solu"]


def test_a_filling_is_tried_again_once_its_files_or_settings_are_others(
    tried, tmp_path, monkeypatch
):
    words = ["only=dense,topk", f"json={tmp_path / 'found.json'}"]
    first_steps.main(words)
    first_steps.main([*words, "train.lr=1e-3"])
    assert tried == ["mlp=dense", "mlp=topk"] * 2
    plain = kept._files
    other = tmp_path / "topk.py"
    other.write_text("changed")
    monkeypatch.setattr(
        kept,
        "_files",
        lambda classes: {other if p.name == "topk.py" else p for p in plain(classes)},
    )
    first_steps.main([*words, "train.lr=1e-3"])
    assert tried[4:] == ["mlp=topk"]


def test_a_streams_digest_knows_the_halves_that_it_brings():
    config = run_config(["tiny", "stream=crate"]).model
    owned = [config.stream.owned(half).builds for half in ("attention", "mlp")]
    assert {p.name for p in kept._files(owned)} >= {"ista.py", "subspace.py", "softmax.py"}
    other = run_config(["tiny", "stream=crate", "seed=1"])
    digests = {kept.digest("stream", c) for c in (run_config(["tiny", "stream=crate"]), other)}
    assert len(digests) == 2


def test_every_filling_but_the_plain_ones_can_be_tried():
    names = {name for name, _ in first_steps.configurations([], [])}
    expected = {
        f"{slot}={tag}"
        for slot in first_steps.SLOTS
        for tag in declared(ModelConfig)[slot].table
        if first_steps.PLAIN.get(slot) != tag
    }
    assert names == expected
    assert {"gradient_rule=routed", "position=none"} < names and "position=rope" not in names
    with pytest.raises(UserError, match="only=nothing is no filling"):
        [*first_steps.configurations([], ["nothing"])]
