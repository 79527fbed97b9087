"""How far the last tokens of the prompts alone solve a task: what no circuit is needed for.

A table from the last k tokens to the answer, learnt from other prompts of the same generator. It
knows the task's own templates, which no n-gram of the training text does. Answers that a prompt
copies are beyond it.
"""

import numpy as np
from jaxtyping import Float

from pellucid.eval.capability.answers import last_tokens, wins
from pellucid.eval.tasks import TaskBatch

LONGEST = 3


def solvable(
    seen: TaskBatch, scored: TaskBatch, tokens: int = LONGEST
) -> Float[np.ndarray, " pair"]:
    """Margin accuracy on `scored` of the table of the last 1 … `tokens` tokens of `seen`.

    The longest ending that was seen decides, by how often A and B followed it; an ending that was
    never seen, or followed by both alike, counts half.
    """
    votes = {k: _votes(seen, k) for k in range(1, tokens + 1)}
    margins = [
        [_margin(votes, row) for row in last_tokens(side.numpy(), last.numpy(), tokens).tolist()]
        for side, last in ((scored.tokens_a, scored.last_a), (scored.tokens_b, scored.last_b))
    ]
    after_a, after_b = np.array(margins, dtype=float)
    if scored.one_vs_rest:
        return wins(after_a - after_b)
    return 0.5 * (wins(after_a) + wins(-after_b))


def _votes(batch: TaskBatch, k: int) -> dict[tuple[int, ...], int]:
    """How often A followed each ending of k tokens, less how often B did."""
    votes: dict[tuple[int, ...], int] = {}
    for tokens, last, vote in (
        (batch.tokens_a, batch.last_a, 1),
        (batch.tokens_b, batch.last_b, -1),
    ):
        for row in last_tokens(tokens.numpy(), last.numpy(), k).tolist():
            votes[tuple(row)] = votes.get(tuple(row), 0) + vote
    return votes


def _margin(votes: dict[int, dict[tuple[int, ...], int]], row: list[int]) -> int:
    for k in sorted(votes, reverse=True):
        ending = tuple(row[len(row) - k :])
        if ending in votes[k]:
            return votes[k][ending]
    return 0
