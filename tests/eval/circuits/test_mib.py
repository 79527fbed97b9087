"""CPR and CMD on curves made by hand, and faithfulness on a planted model."""

import pytest
import torch
from support.asking import asked_of
from support.programs import PROGRAMS

from pellucid.eval.circuits.bases import resampled
from pellucid.eval.circuits.mib import SHARES, areas, measure
from pellucid.eval.circuits.nodes import nodes_of
from pellucid.eval.circuits.objective import margins_of


def test_areas_of_curves_made_by_hand():
    assert areas(SHARES, [1.0] * 10) == pytest.approx((0.999, 0.0))
    assert areas(SHARES, list(SHARES)) == pytest.approx(((1 - 1e-6) / 2, 0.999**2 / 2))
    # Too high counts for CPR, and against CMD.
    assert areas([0.0, 0.5, 1.0], [0.0, 1.5, 1.0]) == pytest.approx((1.0, 0.375 + 0.125))
    # By the sums of the benchmark's code: trapezoids of |1 - f| at the points.
    f = [0.0, 0.1, 0.1, 0.3, 0.5, 0.8, 1.2, 1.1, 0.9, 1.0]
    steps = zip(SHARES, SHARES[1:], f, f[1:], strict=False)
    cpr, cmd = 0.0, 0.0
    for low, high, a, b in steps:
        cpr += (high - low) * (a + b) / 2
        cmd += (high - low) * (abs(1 - a) + abs(1 - b)) / 2
    assert areas(SHARES, f) == pytest.approx((cpr, cmd))


def test_the_ranking_of_the_program_is_faithful_and_the_reverse_is_not():
    program = PROGRAMS["induction"]()
    model, asked = program.model, asked_of(program, pairs=12)
    nodes = nodes_of(model, "parts")
    base = resampled(model, nodes, asked.tokens, asked.partner, asked.last)
    mine = {f"{site}:{unit}" for site, unit in program.nodes}
    scores = torch.tensor([float(name in mine) for name in nodes.names()])
    good, bad = (measure(model, nodes, asked, s, base) for s in (scores, -scores))
    sizes = [int(share * len(nodes)) for share in SHARES]
    assert [size for size, _ in good["points"]] == sizes
    # The two heads are all that the task needs: with both of them, f is 1 whatever else is kept.
    for size, faithful in good["points"]:
        assert faithful == pytest.approx(1.0, abs=1e-3) if size >= 2 else faithful < 0.25, size
    assert good["cpr"] > bad["cpr"] + 0.5 and good["cmd"] < 0.25 < bad["cmd"]
    assert bad["points"][-1][1] == pytest.approx(1.0)


def test_faithfulness_is_the_share_of_the_margin_by_hand():
    program = PROGRAMS["quote"]()
    model, asked = program.model, asked_of(program, pairs=6)
    nodes = nodes_of(model, "parts")
    base = resampled(model, nodes, asked.tokens, asked.partner, asked.last)
    scores = torch.linspace(1, 0, len(nodes))
    found = measure(model, nodes, asked, scores, base)

    def margin(kept: int) -> float:
        share = (torch.arange(len(nodes)) < kept).double()
        with torch.no_grad():
            seen = margins_of(model, nodes, asked, share, base)
        return float(torch.where(asked.wants_first, seen, -seen).mean())

    for size, faithful in found["points"]:
        wanted = (margin(size) - margin(0)) / (margin(len(nodes)) - margin(0))
        assert faithful == pytest.approx(wanted, abs=1e-9)


def test_a_model_that_its_nodes_do_not_change_has_no_faithfulness():
    program = PROGRAMS["quote"]()
    model, asked = program.model, asked_of(program, pairs=6)
    nodes = nodes_of(model, "parts")
    itself = torch.arange(len(asked))
    found = measure(
        model,
        nodes,
        asked,
        torch.zeros(len(nodes)),
        resampled(model, nodes, asked.tokens, itself, asked.last),
    )
    assert found["cpr"] is found["cmd"] is found["points"] is None
    assert "are the same" in found["reason"]
