"""Who judges what a steered model says: an n-gram of the training tokens, for every model alike.

A judge has to be none of those whose scores are held against each other: a dense run would judge
itself to be fluent, and be kind to models that predict as it does.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from pellucid.eval.causal.passes import Edits, chunks
from pellucid.eval.ngram import NGram
from pellucid.eval.reader import LN2
from pellucid.eval.score import NoValue
from pellucid.eval.workbench import Workbench
from pellucid.models import intervene

ORDER = 5
"""Tokens of the n-gram that judges."""
SAID = f"fluency by a {ORDER}-gram, for every model alike: a dense run would judge itself"

Judge = Callable[[Integer[Tensor, "prompt token"]], Float[Tensor, "prompt vocab"]]


def judge_of(bench: Workbench) -> Judge:
    """The one judge of a run and of all its controls."""
    fitted = bench.fitted_ngram(ORDER)
    return lambda prompts: by_ngram(fitted, prompts)


@torch.no_grad()
def next_log_probs(
    model: nn.Module, prompts: Integer[Tensor, "prompt token"], edits: Edits | None = None
) -> Float[Tensor, "prompt vocab"]:
    """What a model says after prompts of equal length, as log-probabilities in nats."""
    device, found = next(model.parameters()).device, []
    with intervene(model, edits or {}):
        for at in chunks(model, prompts):
            found.append(model(prompts[at].to(device)).logits[:, -1].float().log_softmax(-1).cpu())
    log_p = torch.cat(found)
    if not log_p.isfinite().all():
        raise NoValue("the model predicts NaN or infinity on the prompts")
    return log_p


def by_ngram(
    ngram: NGram, prompts: Integer[Tensor, "prompt token"]
) -> Float[Tensor, "prompt vocab"]:
    """What an n-gram says after prompts, by asking it for every token."""
    vocab = np.arange(ngram.vocab_size)
    found = []
    for prompt in prompts[:, 1 - ngram.order :].numpy():
        rows = np.concatenate([np.tile(prompt, (len(vocab), 1)), vocab[:, None]], axis=1)
        # The n-gram never looks further back than a row is long.
        found.append(ngram.log2_probs(rows.ravel())[ngram.order - 1 :: ngram.order] * LN2)
    return torch.from_numpy(np.stack(found)).float()
