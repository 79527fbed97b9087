"""What a node of a circuit writes, as a reader is shown it."""

from types import SimpleNamespace

import pytest
import torch
from support.circuit_cases import case_of
from support.programs import PROGRAMS

from pellucid.eval.circuits.shown import nodes_in

TOKENIZER = SimpleNamespace(token_text="t{}".format)


def test_a_head_shows_what_it_writes_where_it_writes_most():
    program = PROGRAMS["quote"]()
    case = case_of(program)
    found = SimpleNamespace(
        model=case.model,
        nodes=case.nodes,
        circuit=case.circuit,
        searched=case.asked,
        base=case.base("mean", case.asked),
        settings=SimpleNamespace(shown=8),
    )
    (head,), reasons = nodes_in(found, TOKENIZER)
    assert head["id"] == "blocks.0.attention:0" and not reasons
    # At each token the head writes 1 into the channel of what it says there, beyond its mean.
    row = case.asked.tokens[0].tolist()
    said = [program.answer(row[: place + 1]) for place in range(len(row))]
    share = [torch.zeros(3, dtype=torch.double).index_fill(0, torch.tensor(s), 1) for s in said]
    rows = torch.cat(list(case.text))
    mean = torch.stack([(rows == token).double().mean() for token in range(3)])
    away = torch.stack(share) - mean
    most = away[int(away.norm(dim=1).argmax())]
    # The final norm's gain is that of the one large channel, divided by the width.
    gain = float(case.model.norm.weight[0])
    order = most.argsort(descending=True)
    listed = [(token, value) for token, value in head["writes"] if value != 0]
    assert listed[0][0] == f"t{int(order[0])}"
    assert listed[0][1] == pytest.approx(float(most.max()) * gain, rel=1e-4)
