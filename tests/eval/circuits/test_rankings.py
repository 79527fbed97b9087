"""Attribution as the ranking of a search, and as where its masks start."""

from dataclasses import replace

import pytest
import torch
from support.asked_programs import asked_of, means_of
from support.programs import PROGRAMS

from pellucid.errors import UserError
from pellucid.eval.circuits import find as finding
from pellucid.eval.circuits import rankings
from pellucid.eval.circuits.attribution import node_scores
from pellucid.eval.circuits.find import find
from pellucid.eval.circuits.nodes import nodes_of
from pellucid.eval.circuits.settings import Settings


@pytest.fixture
def about():
    program = PROGRAMS["quote"]()
    nodes = nodes_of(program.model, "parts")
    return program.model, nodes, asked_of(program), means_of(program, nodes)


@pytest.mark.parametrize(("ranking", "steps"), [("eap", 1), ("eap_ig", 5)])
def test_attribution_alone_ranks_the_nodes(about, ranking, steps, monkeypatch):
    monkeypatch.setattr(rankings, "trained_masks", None)  # no mask is trained
    settings = Settings(target=0.05, ranking=ranking, rounds=0)
    circuit = find(*about, settings, seed=0)
    assert torch.equal(circuit.scores, node_scores(*about, steps=steps)) and not circuit.censored
    # The one head that says which quote was read.
    assert about[1].names(circuit.kept.nonzero()[:, 0].tolist()) == ["blocks.0.attention:0"]


def test_masks_may_start_from_attribution(about, monkeypatch):
    """In its order, above 0, and for a third of the steps."""
    scores, seen = node_scores(*about, steps=5), []

    def masks(*given, start):
        seen.append((given[4].steps, start))
        return start[None]

    monkeypatch.setattr(rankings, "trained_masks", masks)
    settings = Settings(target=0.05, ranking="started", steps=30)
    find(*about, settings, seed=0)
    ((steps, start),) = seen
    assert steps == 10 and (start.min(), start.max()) == (-1.0, 1.0)
    assert torch.equal(start.argsort(stable=True), scores.argsort(stable=True))


def test_where_masks_start_is_where_they_are_told(about):
    start = torch.linspace(-1, 1, len(about[1]), dtype=torch.float64)
    settings = Settings(steps=0, bias=0.1, noise=0.0)
    (mask, *_) = finding.ranked(*about, replace(settings, ranking="masks"), 0)
    (moved, *_) = rankings.trained_masks(*about, settings, 0, start=start)
    assert torch.allclose(moved - mask, 0.1 * start) and moved.min() >= 0


def test_a_ranking_that_there_is_not_is_refused():
    with pytest.raises(UserError, match=r"ranking 'acdc' is unknown: masks, eap, eap_ig, started"):
        Settings(ranking="acdc")
