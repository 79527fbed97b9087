"""Edge-level pruning: of the weights between a circuit's nodes, as few as still do the task."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pellucid.eval.circuits.circuit import Placed
from pellucid.eval.circuits.edge_sizes import TRIED
from pellucid.eval.circuits.eliminate import leaner, shortest
from pellucid.eval.circuits.gates import LACKS, Edges, edges_of, loss_of, predicted
from pellucid.eval.circuits.path_sets import MOST, Paths, count
from pellucid.eval.circuits.paths import reason

STEPS = 100
LR = 0.03
WEIGHT_DECAY = 1e-3
TEMPERATURE = 0.2
"""Of the sigmoid through which a gate's step is differentiated."""
FIRST, NOISE = 0.2, 0.01
"""Masks start between 0 and this value, in the order of their first-order effects."""
PENALTIES = (0.1, 1.0)
"""What keeping all edges costs beside the loss, in nats; the best of them is taken."""
TRIES = 256
"""Sets of edges that are left out of the shortest cut in each round, to see whether they can go."""


class Step(torch.autograd.Function):
    """1 where a mask is above 0, else 0, with the gradient of `sigmoid(mask / TEMPERATURE)`."""

    @staticmethod
    def forward(ctx, mask: Tensor) -> Tensor:
        ctx.save_for_backward(mask)
        return (mask > 0).to(mask.dtype)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        (mask,) = ctx.saved_tensors
        soft = (mask / TEMPERATURE).sigmoid()
        return grad * soft * (1 - soft) / TEMPERATURE


def prune(placed: Placed, seed: int, *, steps: int = STEPS) -> dict[str, Any]:
    """The fewest edges between a circuit's nodes whose loss is within the circuit's target.

    Masks over the weights are learned as those over nodes are (arXiv 2511.13653); an edge that is
    left out carries weight x mean of its source. Edges are ranked by their masks and, for
    comparison, by their first-order effects; each ranking is cut at the target, and what the
    shortest cut can spare is left out, too. Between heads and neurons alone no masks are trained:
    edges are ranked by the effect of leaving each out, by which its target reads what the source
    writes at its base. Where all edges together miss the target, all are kept and `censored` says
    so. Gives `edges`, `sizes` (`pruned_edges`, None where no edges are known, or they are too
    many), `reasons`, `loss` and `censored`. Where a part of the model has no edges the size is that
    of the others alone, and the reason for `pruned_edges` says so.
    """
    target = placed.circuit.target
    edges = edges_of(placed.model, placed.nodes, placed.circuit.kept)
    if not edges.links:
        return _of_parts(placed, edges.reasons)
    why = {"pruned_edges": LACKS + "; ".join(edges.unknown)} if edges.unknown else {}
    pruner = _Pruner(placed, edges)
    fits = lambda kept: pruner.loss_with(kept) <= target
    guess = predicted(placed, edges).abs()
    rankings = [guess]
    if len(edges):
        rankings += [pruner.learned(guess, penalty, seed, steps) for penalty in PENALTIES]
    orders = [scores.argsort(descending=True, stable=True) for scores in rankings]
    cuts = [shortest(order, fits) for order in orders]
    kept = leaner(min(cuts, key=len), fits, TRIES)
    loss = pruner.loss_with(kept)
    listed = edges.listed(placed.nodes, kept.cpu(), {})
    return _written(listed, len(kept), why, loss=loss, censored=loss > target)


def _of_parts(placed: Placed, reasons: tuple[str, ...]) -> dict[str, Any]:
    """The fewest edges between heads and neurons: those of the largest effects, as few as will do."""
    none = lambda why: _written([], None, {"pruned_edges": why}, loss=None, censored=False)
    if (strange := reason(placed.model, placed.nodes, "; ".join(reasons))) is not None:
        return none(strange)
    if (n_edges := count(placed.nodes, placed.circuit)) > MOST:
        return none(f"{n_edges} edges between heads and neurons; at most {MOST} are pruned")
    target = placed.circuit.target
    with placed.asked.norms(placed.model):
        paths = Paths.of(placed, TRIED)
        every = torch.arange(n_edges)
        loss_with = lambda kept: paths.loss(every[~torch.isin(every, kept)])
        fits = lambda kept: loss_with(kept) <= target
        kept = leaner(shortest(every, fits), fits, TRIES)
        loss = loss_with(kept)
    listed = paths.listed(kept.tolist())
    return _written(listed, len(kept), {}, loss=loss, censored=loss > target)


def _written(
    edges: list[dict[str, Any]],
    size: int | None,
    reasons: dict[str, str],
    *,
    loss: float | None,
    censored: bool,
) -> dict[str, Any]:
    sizes = {"pruned_edges": size}
    return {
        "edges": edges,
        "sizes": sizes,
        "reasons": reasons,
        "loss": loss,
        "censored": censored,
    }


class _Pruner:
    """The edges of one circuit, and its loss with some of them."""

    def __init__(self, placed: Placed, edges: Edges):
        self.about = placed, edges
        self.like, self.n_edges = next(placed.model.parameters()).detach(), len(edges)

    @torch.no_grad()
    def loss_with(self, kept: Tensor) -> float:
        """The loss with these edges alone, in nats."""
        share = self.like.new_zeros(self.n_edges)
        share[kept] = 1.0
        return float(loss_of(*self.about, share))

    def learned(
        self, guess: Float[Tensor, " edge"], penalty: float, seed: int, steps: int
    ) -> Float[Tensor, " edge"]:
        """Masks after training; between equal masks the first-order effect decides."""
        rank = guess.argsort(stable=True).argsort(stable=True).to(guess) / len(guess)
        noise = torch.randn(len(guess), generator=torch.Generator().manual_seed(seed))
        mask = (FIRST * rank + NOISE * noise.abs().to(guess)).requires_grad_()
        optimizer = torch.optim.AdamW([mask], lr=LR, betas=(0.9, 0.95), weight_decay=WEIGHT_DECAY)
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = LR * (1 - step / steps)
            with torch.enable_grad():
                kept = Step.apply(mask)
                loss = loss_of(*self.about, kept) + penalty * kept.mean()
                mask.grad = torch.autograd.grad(loss, mask)[0]
            nn.utils.clip_grad_norm_([mask], 1.0)
            optimizer.step()
            with torch.no_grad():
                mask.clamp_(-1, 1)
        return mask.detach() + 1e-3 * rank
