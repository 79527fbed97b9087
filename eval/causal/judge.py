"""Who judges what a steered model says: a matched dense run where there is one, else an n-gram."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from pellucid.eval.causal.passes import Edits, chunks
from pellucid.eval.ngram import NGram
from pellucid.eval.reader import LN2, Reader
from pellucid.eval.score import NoValue
from pellucid.eval.workbench import Workbench
from pellucid.models import intervene

ORDER = 5
"""Tokens of the n-gram that judges where there is no dense run."""

Judge = Callable[[Integer[Tensor, "prompt token"]], Float[Tensor, "prompt vocab"]]


def judge_of(bench: Workbench) -> tuple[Judge, str]:
    """The judge, and a sentence that says who it is."""
    dense = bench.controls["dense_neurons"]
    if isinstance(dense, Reader):
        return lambda prompts: next_log_probs(dense.model, prompts), "fluency by the dense run"
    fitted = bench.fitted_ngram(ORDER)
    return lambda prompts: by_ngram(fitted, prompts), f"fluency by a {ORDER}-gram, not a dense run"


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
