"""Compiled programs hidden in superposition: more features than dimensions, many in each unit.

What a program reads gets directions of a smaller stream that are not at right angles, but
independent, and is read by their duals: so it does not disturb itself. All else shares these
dimensions: tokens and places nobody asks for, what decoys read and write, and features of tokens and
places that are there for no purpose. Together they are more than the dimensions; they disturb each
other, and leak a little into all that the program reads. Channels of heads, and neurons, are shared
in the same way.
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from support.compiled import LARGE
from support.programs import Program
from torch import Tensor
from torch.nn.functional import normalize

from pellucid.models import Transformer

FREE = 6
"""Dimensions of the stream that the program leaves to all else, or up to 3 more."""
DISTRACTORS = 24
PRESENT = 0.125
"""Share of the distractors that a token has, and a place."""
LEAK, LEAK_OUT = 5e-5, 0.05
"""How much of anything else is read in place of what the program reads, at most, and in place of a
logit. Scores multiply what they read by 4000, where 40 decide, or by 60, where 0.03 does; steps
multiply it by 112, where 0.5 does."""
TOUCH, GIVE, SCORE = 0.03, 0.1, 1e-3
"""How much of a distractor a neuron reads, how much of a neuron or of a head's value a distractor
gets, and how much of a product of two distractors a score."""


def superposed(program: Program, *, seed: int = 0) -> Program:
    """The same program in a stream of fewer dimensions than it has features."""
    rng = torch.Generator().manual_seed(seed)
    plain = program.model
    leaks = needed(program)
    d_model = -(-(len(leaks) + FREE) // 4) * 4
    config = replace(plain.config, d_model=d_model)
    model = Transformer(config, vocab_size=plain.vocab_size).double().eval().requires_grad_(False)
    order = sorted(range(plain.config.d_model), key=lambda c: (c not in leaks, c))
    n = len(order) + DISTRACTORS
    # The first is the constant that sets the norm.
    write, read = crowded(n, d_model, list(leaks.values()), rng, first_apart=True)
    place = torch.tensor([*order, *range(len(order), n)]).argsort()
    _Hidden(plain, model, write[place], read[place], rng).fill()
    return replace(program, model=model)


def needed(program: Program) -> dict[int, float]:
    """The channels that parts of the program or logits read, and how much may leak into each.

    The constant and the number of the position are among them, because they are large.
    """
    model = program.model
    parts = torch.zeros(model.config.d_model).bool()
    for site, unit in program.nodes:
        module = model.get_submodule(site)
        if site.endswith("mlp"):
            parts |= module.w_in[unit] != 0
            continue
        for matrix in (module.w_q, module.w_k, module.w_v):
            parts |= (matrix.unflatten(0, (-1, module.d_head))[unit] != 0).any(0)
    logits = (model.head.weight != 0).any(0)
    both = (parts | logits).index_fill(0, torch.tensor([0, 1]), True).nonzero()[:, 0].tolist()
    return {channel: LEAK if parts[channel] else LEAK_OUT for channel in both}


def crowded(
    n: int, dims: int, leaks: list[float], rng: torch.Generator, *, first_apart: bool = False
) -> tuple[Float[Tensor, "n dims"], Float[Tensor, "n dims"]]:
    """Directions of n features in fewer dimensions, and what reads each of them.

    The first are independent, as many as `leaks`, which say how much of any other is read as them;
    `first_apart`: the very first is at a right angle to the rest of them.
    """
    k = len(leaks)
    basis, dual = skewed(dims, rng, first_apart=first_apart)
    own = normalize(torch.randn(n - k, dims - k, generator=rng).double(), dim=-1)
    leaked = torch.tensor(leaks).double() * (2 * torch.rand(n - k, k, generator=rng).double() - 1)
    write = torch.cat([basis[:k], leaked @ basis[:k] + own @ basis[k:]])
    return write, torch.cat([dual[:k], own @ dual[k:]])


def skewed(
    dims: int, rng: torch.Generator, *, first_apart: bool = False
) -> tuple[Float[Tensor, "dims dims"], Float[Tensor, "dims dims"]]:
    """Independent directions, none at a right angle to another, and their duals."""
    noise = torch.randn(dims, dims, generator=rng).double() * 0.5 / dims**0.5
    if first_apart:
        noise[0] = noise[:, 0] = 0
    turn = torch.linalg.qr(torch.randn(dims, dims, generator=rng).double())[0]
    basis = (torch.eye(dims).double() + noise) @ turn
    return basis, torch.linalg.inv(basis).T


class _Hidden:
    """Writes a model's weights in other directions, distractors beside them."""

    def __init__(self, plain: Transformer, model: Transformer, write, read, rng):
        self.plain, self.model, self.rng = plain, model, rng
        channels = plain.config.d_model
        self.write, self.read = write[:channels], read[:channels]
        self.more_write, self.more_read = write[channels:], read[channels:]

    def fill(self) -> None:
        """All weights."""
        model, plain = self.model, self.plain
        for name, parameter in model.named_parameters():
            gain = LARGE / model.config.d_model**0.5
            parameter.fill_(gain if "norm" in name else 0.0)
        for made, old in ((model.embedding, plain.embedding), (model.position, plain.position)):
            there = torch.rand(len(old.weight), DISTRACTORS, generator=self.rng) < PRESENT
            made.weight.copy_(old.weight @ self.write + there.double() @ self.more_write)
        model.head.weight.copy_(plain.head.weight @ self.read)
        for made, old in zip(model.blocks, plain.blocks, strict=True):
            for head in range(old.attention.config.n_heads):
                self._scores(made.attention, old.attention, head)
                self._moves(made.attention, old.attention, head)
            self._neurons(made.mlp, old.mlp)

    def _some(self, rows: int) -> Tensor:
        """Distractors by number, drawn with replacement."""
        return torch.randint(DISTRACTORS, (rows,), generator=self.rng)

    def _scores(self, made, old, head: int) -> None:
        """Queries in directions of their own, keys in the duals; distractors fill what is left."""
        here, there = (slice(head * m.d_head, (head + 1) * m.d_head) for m in (made, old))
        q, k = old.w_q[there], old.w_k[there]
        used = (q != 0).any(1)
        q, k = q[used] * (made.d_head / old.d_head) ** 0.5, k[used]
        rest = made.d_head - len(q)
        basis, dual = skewed(made.d_head, self.rng)
        q = torch.cat([q @ self.read, SCORE * self.more_read[self._some(rest)]])
        k = torch.cat([k @ self.read, self.more_read[self._some(rest)]])
        made.w_q[here], made.w_k[here] = basis.T @ q, dual.T @ k

    def _moves(self, made, old, head: int) -> None:
        """As many distractors as the head has channels are moved beside what it moved before."""
        here, there = (slice(head * m.d_head, (head + 1) * m.d_head) for m in (made, old))
        v, o = old.w_v[there], old.w_o[:, there]
        used = (v != 0).any(1)
        v, o = v[used] @ self.read, o[:, used].T @ self.write
        leaks = [LEAK] * len(v)
        write, read = crowded(len(v) + made.d_head, made.d_head, leaks, self.rng)
        v = torch.cat([v, self.more_read[self._some(made.d_head)]])
        o = torch.cat([o, GIVE * self.more_write[self._some(made.d_head)]])
        made.w_v[here], made.w_o[:, here] = write.T @ v, o.T @ read

    def _neurons(self, made, old) -> None:
        """Each reads three distractors beside what it read before, and writes to three."""
        width = len(old.w_in)
        read, written = (self._some(3 * width).view(width, 3) for _ in range(2))
        made.w_in.copy_(old.w_in @ self.read + TOUCH * self.more_read[read].sum(1))
        made.w_out.copy_(old.w_out @ self.write + GIVE * self.more_write[written].sum(1))
        made.b_in.copy_(old.b_in)
