"""docs/architectures.md is what its command writes, and shows what was measured."""

import json

from support.tree import ROOT

from pellucid.experiments import architectures


def test_the_page_of_architectures_is_what_its_command_writes():
    written = (ROOT / "docs" / "architectures.md").read_text()
    command = "python -m pellucid.experiments.architectures"
    assert architectures.page() == written, f"`{command}` writes the page anew"
    assert command in written


def test_the_page_of_architectures_takes_what_was_measured(tmp_path):
    """Cells of one filling that has results, and of one that has none."""
    trained = {"variant": "mlp=topk", "loss": 4.1234, "bigram": 4.5}
    timed = {"variant": "mlp=topk", "step_ms": 30.0, "dense_ms": 20.0, "over_justified": 1.25}
    for name, row in (("first_steps", trained), ("models", timed)):
        (tmp_path / f"{name}.json").write_text(json.dumps({"rows": [row]}))
    assert "Above the bigram table" not in architectures.page(tmp_path)
    (tmp_path / "first_steps.json").write_text(json.dumps({"rows": [trained | {"bigram": 4.1}]}))
    assert "table after these steps: `mlp=topk`.\n" in architectures.page(tmp_path)
    (tmp_path / "first_steps.json").write_text(json.dumps({"rows": [trained]}))
    rows = {line.split(" | ")[0]: line for line in architectures.page(tmp_path).splitlines()}
    assert rows["| `mlp=topk`"].endswith("| 4.123 (4.500) | 1.50, 1.25 |")
    assert rows["| `mlp=solu`"].endswith("| not measured | not measured |")


def test_parameters_and_operations_are_relative_to_the_dense_model():
    config = architectures.model_with("mlp=solu")
    assert config.replace(mlp=architectures.model_with("mlp=dense").mlp) == (
        architectures.model_with("mlp=dense")
    )
    assert "| 1.00, 1.00 | 1.00, 1.00 |" in architectures.page().split("`mlp=solu`")[1]
