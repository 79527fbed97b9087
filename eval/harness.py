"""A run under EleutherAI's lm-evaluation-harness (extra `harness`).

    import lm_eval
    from pellucid.eval.harness import adapter
    lm_eval.simple_evaluate(model=adapter(pellucid.load("runs/x")), tasks=["my_task"])

What the harness asks is answered by `Answers`, which needs nothing of it; `adapter` joins that to
the harness's own class. Nothing else imports this file.
"""

import importlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from pellucid.data.tokenizer import Tokenizer
from pellucid.errors import UserError
from pellucid.eval.capability.likelihood import token_log_probs
from pellucid.models.generate import generate
from pellucid.run import Run

MOST_NEW = 256
"""Tokens that are generated where a task does not say how many."""
NO_EXTRA = "the adapter needs lm-evaluation-harness: pip install 'pellucid[harness]'"


def adapter(run: Run) -> Any:
    """A `lm_eval.api.model.TemplateLM` that answers for a run; UserError without the extra."""
    try:
        base = importlib.import_module("lm_eval.api.model").TemplateLM
    except ModuleNotFoundError:
        raise UserError(NO_EXTRA) from None
    made = type("PellucidLM", (Answers, base), {})
    return made(run.model, run.tokenizer, context=run.config.model.context)


class Answers:
    """Log-likelihoods and continuations, as the harness asks for them. Logarithms are natural."""

    def __init__(self, model: nn.Module, tokenizer: Tokenizer, *, context: int) -> None:
        super().__init__()
        self.model, self.tokens, self.context = model, tokenizer, context

    @property
    def eot_token_id(self) -> int:
        return self.tokens.eot

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **_: Any
    ) -> list[int]:
        """The tokens of a text; nothing is added, whatever is asked."""
        return self.tokens.encode(string)

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], **_: Any
    ) -> list[tuple[float, bool]]:
        """(Σ log p of a continuation, whether it is what the model would take) of each request.

        A context that is too long loses its beginning. UserError for a continuation that is.
        """
        rows, counts = [], []
        for _text, before, continuation in requests:
            self._check(continuation)
            # The harness gives the eot itself where there is no context.
            start = [] if before[:1] == [self.tokens.eot] else [self.tokens.eot]
            rows.append([*start, *before, *continuation][-self.context - 1 :])
            counts.append(len(continuation))
        found = token_log_probs(self.model, rows, context=self.context)
        ends = [scored[len(scored) - count :] for scored, count in zip(found, counts)]
        return [(float(end[:, 0].sum()), bool(end[:, 1].all())) for end in ends]

    def loglikelihood_rolling(self, requests: Sequence[Any], **_: Any) -> list[float]:
        """Σ log p of each whole text, every token once, in windows as full as they can be."""
        return [self._rolling(self.tokens.encode(request.args[0])) for request in requests]

    def generate_until(self, requests: Sequence[Any], **_: Any) -> list[str]:
        """The text that follows each context, up to the first stop that its task names."""
        return [self._until(*request.args) for request in requests]

    def _rolling(self, tokens: list[int]) -> float:
        pieces = list(windows([self.tokens.eot, *tokens], self.context))
        found = token_log_probs(self.model, [row for row, _ in pieces], context=self.context)
        sums = [one[len(one) - fresh :, 0].sum() for one, (_, fresh) in zip(found, pieces)]
        return float(sum(sums))

    def _until(self, text: str, settings: dict[str, Any]) -> str:
        stops = settings.get("until") or []
        stops = [stops] if isinstance(stops, str) else list(stops)
        n_new = min(int(settings.get("max_gen_toks", MOST_NEW)), self.context - 1)
        prompt = [self.tokens.eot, *self.tokens.encode(text)][-(self.context - n_new) :]
        # The harness means greedy unless a task asks to sample.
        heat = float(settings.get("temperature", 0)) if settings.get("do_sample") else 0.0
        device = next(self.model.parameters()).device
        rows = generate(self.model, torch.tensor([prompt], device=device), n_new, temperature=heat)
        new = rows[0, len(prompt) :].tolist()
        new = new[: new.index(self.tokens.eot)] if self.tokens.eot in new else new
        written = self.tokens.decode(new)
        ends = [written.index(stop) for stop in stops if stop and stop in written]
        return written[: min(ends)] if ends else written

    def _check(self, continuation: list[int]) -> None:
        if len(continuation) > self.context:
            raise UserError(
                f"a continuation has {len(continuation)} tokens; at most the context, "
                f"{self.context}, fit"
            )


def windows(tokens: list[int], context: int) -> Iterator[tuple[list[int], int]]:
    """Rows of up to context + 1 tokens, and how many of each row's last are scored there.

    Every token but the first is scored once; the last row reuses earlier tokens as its context.
    """
    done = 1
    while done < len(tokens):
        end = min(done + context, len(tokens))
        yield tokens[max(0, end - context - 1) : end], end - done
        done = end
