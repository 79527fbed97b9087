"""One weight: what it does is what happens without it, and mistakes are told in a sentence."""

import pytest
import torch
import torch.nn.functional as F
from support.small import small_model

from pellucid.errors import UserError
from pellucid.eval.circuits.single_weight import effects, lines, named
from pellucid.models.position import POSITIONS


@pytest.fixture
def rows() -> torch.Tensor:
    return torch.randint(0, 61, (5, 13), generator=torch.Generator().manual_seed(4))


def costs(model: torch.nn.Module, rows: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        logits = model(rows[:, :-1]).logits
    return F.cross_entropy(logits.transpose(1, 2), rows[:, 1:], reduction="none")


def test_effects_are_those_of_the_model_without_the_weight(rows):
    model, other = small_model("dense"), small_model("dense")
    with torch.no_grad():
        other.blocks[0].mlp.w_in[3, 5] = 0.0
    before = {name: value.clone() for name, value in model.state_dict().items()}
    weight = float(model.blocks[0].mlp.w_in[3, 5].detach())
    found = effects(model, "blocks.0.mlp.w_in", (3, 5), rows, most=7)
    plain, change = costs(model, rows), costs(other, rows) - costs(model, rows)
    assert found.weight == weight and found.mean == pytest.approx(float(change.mean()))
    assert found.share == pytest.approx(float((change.abs() > 1e-3).double().mean()))
    order = change.abs().flatten().argsort(descending=True)[:7]
    assert [(each.row, each.place - 1) for each in found.tokens] == [
        (int(i) // 12, int(i) % 12) for i in order
    ]
    for each in found.tokens:
        assert each.change == pytest.approx(float(change[each.row, each.place - 1]))
        assert each.cost == pytest.approx(float(plain[each.row, each.place - 1]))
        shown = rows[each.row, max(0, each.place - 8) : each.place].tolist()
        assert each.text == f"{' '.join(map(str, shown))} ⟦{int(rows[each.row, each.place])}⟧"
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_weight_that_only_one_position_reads_changes_nothing_before_it(rows):
    model = small_model("dense", position=POSITIONS["learned"].Config())
    found = effects(model, "position.weight", (6, 2), rows, most=60)
    assert {each.place for each in found.tokens} == set(range(7, 13))


@pytest.mark.parametrize(
    ("name", "index", "message"),
    [
        ("blocks.0.mlp.w_no", (0, 0), "no parameter 'blocks.0.mlp.w_no'; there are .*w_in"),
        ("blocks.0.mlp.w_in", (48, 0), r"shape \(48, 16\) and no weight at 48,0"),
        ("blocks.0.mlp.w_in", (3,), "2 numbers from 0"),
        ("blocks.0.mlp.w_in", (0, 0), r"w_in\[0, 0\] is 0"),
    ],
)
def test_a_weight_that_is_not_there_is_a_sentence(rows, name, index, message):
    model = small_model("dense")
    with torch.no_grad():
        model.blocks[0].mlp.w_in[0, 0] = 0.0
    with pytest.raises(UserError, match=message):
        effects(model, name, index, rows)


def test_the_name_of_a_weight_is_read_as_it_is_typed():
    assert named("blocks.0.mlp.w_enc:3,5") == ("blocks.0.mlp.w_enc", (3, 5))
    assert named("norm.weight:7") == ("norm.weight", (7,))
    for text in ("blocks.0.mlp.w_enc", "w:3,", "w:-1,2", "w:a,b"):
        with pytest.raises(UserError, match="blocks.0.mlp.w_enc:3,5"):
            named(text)


def test_lines_show_the_weight_and_the_tokens_in_their_context(make_run):
    run = make_run("topk")
    printed = lines(run, "blocks.1.mlp.w_dec:2,3")
    weight = float(run.model.blocks[1].mlp.w_dec[2, 3].detach())
    assert printed[0].startswith(
        f"blocks.1.mlp.w_dec[2,3] = {weight:.4g}; without it a token costs"
    )
    assert 1 <= len(printed) - 1 <= 10
    sizes = [abs(float(line.split()[0])) for line in printed[1:]]
    assert sizes == sorted(sizes, reverse=True)
    assert all("⟦" in line and "\n" not in line for line in printed[1:])
    with pytest.raises(UserError, match="no parameter"):
        lines(run, "blocks.9.mlp.w_dec:2,3")
