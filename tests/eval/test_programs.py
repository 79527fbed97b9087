"""The compiled programs compute what they are said to, by the parts that they are said to."""

import itertools

import numpy as np
import pytest
import torch
from support.compiled import EMBED, LOGITS, rotated_stream
from support.programs import PROGRAMS
from support.superposed import DISTRACTORS, needed, superposed

from pellucid.models import record


def rows_of(program, n=200, seed=0):
    rng = np.random.default_rng(seed)
    return torch.tensor([program.draw(rng) for _ in range(n)])


def said(model, rows):
    return model(rows).logits.argmax(-1)


def answers(program, rows):
    """What should be said at each place, -1 where anything may be."""
    listed = [[program.answer(row[: p + 1]) for p in range(len(row))] for row in rows.tolist()]
    return torch.tensor([[-1 if a is None else a for a in row] for row in listed])


@pytest.mark.parametrize("mlp", ["dense", "topk"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_says_what_its_reference_says(name, mlp):
    program = PROGRAMS[name](mlp=mlp)
    rows = rows_of(program)
    wanted = answers(program, rows)
    asked = wanted >= 0
    assert (said(program.model, rows)[asked] == wanted[asked]).all()
    assert asked.sum() > 150 and len(wanted[asked].unique()) >= 3


@pytest.mark.parametrize("name", ["histogram", "induction", "quote"])
def test_programs_are_right_on_every_short_row(name):
    program = PROGRAMS[name](context=6)
    letters = 3 if name != "induction" else 4
    rows = torch.tensor([[0, *rest] for rest in itertools.product(range(1, letters + 1), repeat=5)])
    assert torch.equal(said(program.model, rows), answers(program, rows))


def test_depth_is_right_on_every_short_row():
    program = PROGRAMS["depth"](context=8)
    rows = [[0, *rest] for rest in itertools.product((1, 2, 3), repeat=7)]
    levels = lambda row: np.cumsum([(t == 1) - (t == 2) for t in row])
    rows = torch.tensor([row for row in rows if 0 <= min(levels(row)) <= max(levels(row)) <= 3])
    assert len(rows) > 200
    assert torch.equal(said(program.model, rows), answers(program, rows))


@pytest.mark.parametrize("name", PROGRAMS)
def test_margins_are_wide(name):
    program = PROGRAMS[name]()
    rows = rows_of(program)
    wanted = answers(program, rows)
    first, second = program.model(rows).logits.topk(2, dim=-1).values.unbind(-1)
    assert (first - second)[wanted >= 0].min() > 0.5


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_circuit_is_the_neurons_and_heads_that_matter(name):
    """Without a part of the circuit answers change somewhere; without any other part none does."""
    program = PROGRAMS[name]()
    rows = rows_of(program, 100)
    asked = answers(program, rows) >= 0
    whole = program.model(rows).logits[asked]
    for site, unit in sorted(program.candidates()):
        without = ablated(program.model, rows, site, unit)[asked]
        changed = (without.argmax(-1) != whole.argmax(-1)).any()
        if (site, unit) in program.nodes:
            assert not torch.allclose(without, whole, atol=0.1), (site, unit)
            assert changed or site.endswith("mlp"), (site, unit)
        else:
            assert torch.allclose(without, whole, atol=1e-6), (site, unit)


def ablated(model, rows, site, unit):
    """Logits with one head writing nothing, or one neuron silent."""
    if site.endswith("mlp"):
        mlp = model.get_submodule(site)
        out = mlp.w_out if hasattr(mlp, "w_out") else mlp.w_dec
        part = (unit, slice(None))
    else:
        attention = model.get_submodule(site)
        out, width = attention.w_o, attention.d_head
        part = (slice(None), slice(unit * width, (unit + 1) * width))
    kept = out[part].clone()
    out[part] = 0
    logits = model(rows).logits
    out[part] = kept
    return logits


@pytest.mark.parametrize("name", PROGRAMS)
def test_decoys_are_active(name):
    program = PROGRAMS[name]()
    rows = rows_of(program, 20)
    decoys = program.candidates() - program.nodes
    with record(program.model, ["blocks.0.mlp"]) as trace:
        program.model(rows)
    active = (trace["blocks.0.mlp"].to_dense() > 0).any(0).any(0)
    neurons = [unit for site, unit in decoys if site == "blocks.0.mlp"]
    assert len(neurons) >= 4 and active[neurons].all()


@pytest.mark.parametrize("name", PROGRAMS)
def test_edges_run_forward_from_the_embedding_to_the_logits(name):
    program = PROGRAMS[name]()
    order = lambda node: (
        {EMBED: (-1, ""), LOGITS: (99, "")}.get(node)
        or (
            int(node[0].split(".")[1]),
            node[0],
        )
    )
    assert all(order(source) < order(target) for source, target in program.edges)
    starts, ends = ({edge[side] for edge in program.edges} for side in (0, 1))
    assert program.nodes <= starts & ends and program.nodes < program.candidates()


@pytest.mark.parametrize("name", PROGRAMS)
def test_turning_the_stream_changes_no_logit_and_every_channel(name):
    program = PROGRAMS[name]()
    rows = rows_of(program, 30)
    with record(program.model, ["blocks.0.stream"]) as trace:
        logits = program.model(rows).logits
        channels = trace["blocks.0.stream"].values.clone()
    turned = rotated_stream(program.model, seed=1)
    with record(turned, ["blocks.0.stream"]) as trace:
        torch.testing.assert_close(turned(rows).logits, logits, atol=1e-6, rtol=1e-6)
        assert (trace["blocks.0.stream"].values - channels).abs().amax((0, 1)).min() > 1
    torch.testing.assert_close(said(turned, rows), logits.argmax(-1))


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_in_superposition_says_the_same_in_fewer_dimensions(name):
    program = PROGRAMS[name]()
    hidden = superposed(program, seed=1).model
    rows = rows_of(program, 100)
    wanted = answers(program, rows)
    logits = hidden(rows).logits
    assert (logits.argmax(-1)[wanted >= 0] == wanted[wanted >= 0]).all()
    # Distractors are there, and do disturb it.
    assert 0.05 < (logits - program.model(rows).logits)[wanted >= 0].abs().max() < 1
    assert len(needed(program)) < hidden.config.d_model < len(needed(program)) + DISTRACTORS
    # What logits read stands at no right angles, and in no dimension of its own.
    read = torch.nn.functional.normalize(hidden.head.weight, dim=-1)
    read = read[hidden.head.weight.any(-1)]
    cosines = (read @ read.T - torch.eye(len(read))).abs()
    assert cosines.max() > 0.1 and read.abs().max() < 0.9
