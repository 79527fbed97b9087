"""Attribution: against path patching by hand, the definition of EAP-IG, and compiled programs."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from support.asking import asked_of, auroc
from support.path_patching import Edge, Taken
from support.programs import PROGRAMS
from support.small import small_model
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from pellucid.eval.circuits import edge_sizes
from pellucid.eval.circuits.attribution import clean, node_scores
from pellucid.eval.circuits.bases import means, resampled, zeros
from pellucid.eval.circuits.circuit import Circuit, Placed
from pellucid.eval.circuits.nodes import nodes_of
from pellucid.eval.circuits.objective import Asked, Readout, margins_of
from pellucid.eval.circuits.path_effects import edge_scores, effects
from pellucid.eval.circuits.paths import edges as every_edge
from pellucid.eval.circuits.paths import parts_of
from pellucid.models import ModelConfig, Transformer, record
from pellucid.models.attention import ATTENTIONS
from pellucid.models.mlp import MLPS
from pellucid.models.position import POSITIONS


@pytest.fixture(scope="module")
def model() -> Transformer:
    config = ModelConfig(
        n_layers=2,
        d_model=8,
        context=6,
        mlp=MLPS["dense"].Config(activation="relu", width=4),
        attention=ATTENTIONS["softmax"].Config(n_heads=2),
        position=POSITIONS["learned"].Config(),
    )
    made = Transformer(config, vocab_size=9, seed=3).double().eval()
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=0.5, generator=torch.Generator().manual_seed(len(name)))
    return made


@pytest.fixture(scope="module")
def asked() -> Asked:
    tokens = torch.randint(0, 9, (6, 6), generator=torch.Generator().manual_seed(0))
    first, second = torch.tensor([3, 4, 5] * 2), torch.tensor([1, 2, 7] * 2)
    return Asked(tokens, torch.full((6,), 5), first, second, torch.arange(6) < 3)


def loss_by_hand(logits: np.ndarray, asked: Asked) -> float:
    """−½ [log p(A | x⁺) + log p(B | x⁻)], from the logits of all positions."""
    ends, rows = logits[:, -1], np.arange(len(asked))
    a, b = ends[rows, asked.first.numpy()], ends[rows, asked.second.numpy()]
    right = np.where(asked.wants_first.numpy(), a - b, b - a)
    return float(np.log1p(np.exp(-right)).mean())


def test_the_model_by_hand_is_the_model(model, asked):
    taken = Taken(model)
    logits, _, edges = taken.run(taken.embed(asked.tokens.numpy()))
    with torch.no_grad():
        assert np.allclose(logits, model(asked.tokens).logits.numpy(), atol=1e-10)
    listed = {edge.name for edge in every_edge(parts_of(nodes_of(model, "parts")))}
    assert listed == set(edges) and len(edges) == len(listed)


def test_effects_of_edges_are_path_patching_by_hand(model, asked):
    """Exactly, at zero: every part reads a stream without what one other part wrote, a head by its
    queries, its keys or its values alone."""
    nodes, taken = nodes_of(model, "parts"), Taken(model)
    embedded = taken.embed(asked.tokens.numpy())
    logits, written, _ = taken.run(embedded)
    found = effects(model, nodes, asked, zeros(nodes), every_edge(parts_of(nodes)))
    assert {through for _, target, through in found if "attention" in target} == set("qkv")
    for edge, effect in found.items():
        source = edge[0]
        value = embedded.mean((0, 1)) - embedded if source == "embed" else -written[source]
        without, _, _ = taken.run(embedded, {edge: value})
        wanted = loss_by_hand(without, asked) - loss_by_hand(logits, asked)
        assert effect == pytest.approx(wanted, abs=1e-10), edge


def by_hand(
    model: Transformer, asked: Asked, change: Mapping[str, np.ndarray], steps: int
) -> dict[Edge, float]:
    """EAP-IG of every edge by its equation (arXiv 2403.17806, eq. 4): (z'_u - z_u) · the mean over
    k = 1 … m of ∂L(z' + k/m (z - z')) / ∂z_v, slopes by central differences."""
    taken, h = Taken(model), 1e-6
    here = taken.embed(asked.tokens.numpy())
    there = taken.embed(asked.tokens[asked.partner].numpy())
    found: dict[Edge, float] = {}
    for k in range(1, steps + 1):
        point = there + k / steps * (here - there)
        _, _, edges = taken.run(point)
        for edge in edges:
            step = h * change[edge[0]]
            up, down = (taken.run(point, {edge: sign * step})[0] for sign in (1, -1))
            slope = (loss_by_hand(up, asked) - loss_by_hand(down, asked)) / (2 * h)
            found[edge] = found.get(edge, 0.0) + slope / steps
    return found


@pytest.mark.parametrize("steps", [1, 4])
def test_edge_scores_are_eap_ig_by_its_definition(model, asked, steps):
    nodes, taken = nodes_of(model, "parts"), Taken(model)
    base = resampled(model, nodes, asked.tokens, asked.partner, asked.last)
    embedded = taken.embed(asked.tokens.numpy())
    other = asked.partner.numpy()
    written = taken.run(embedded)[1]
    change = {name: value[other] - value for name, value in written.items()}
    # A head's base is that of the values it moves, under the attention of the prompt itself.
    with (
        torch.no_grad(),
        record(model, nodes.sites + ("blocks.0.attention", "blocks.1.attention")) as seen,
    ):
        model(asked.tokens)
    for layer in (0, 1):
        at = f"blocks.{layer}.attention"
        v = seen[f"{at}.v"].values.numpy()
        for head in (0, 1):
            mine = slice(4 * head, 4 * head + 4)
            moved = seen[at].values.numpy()[:, head] @ (v[other] - v)[..., mine]
            change[f"{at}:{head}"] = moved @ taken.w[f"{at}.w_o"][:, mine].T
    found = edge_scores(model, nodes, asked, base, steps)
    wanted = by_hand(model, asked, change, steps)
    assert found.keys() == wanted.keys()
    for edge, score in found.items():
        assert score == pytest.approx(wanted[edge], rel=1e-4, abs=1e-8), edge


@pytest.mark.parametrize("mlp", ["dense", "topk", "moe"])
@pytest.mark.parametrize("grain", ["channels", "parts"])
def test_node_scores_are_brute_force_to_first_order(mlp, grain, tokens):
    """A node moved a little towards its base, against its score at a step of one."""
    model = small_model(mlp)
    nodes = nodes_of(model, grain)
    ends = torch.tensor([23, 20, 23, 22])
    answers = torch.tensor([3, 4, 3, 4]), torch.tensor([5, 6, 5, 6])
    asked = Asked(tokens[[0, 1, 2, 0]], ends, *answers, torch.arange(4) < 2)
    base = means(model, nodes, [tokens])
    scores = node_scores(model, nodes, asked, base)
    assert scores.count_nonzero() > len(nodes) / 4
    for node in scores.abs().argsort(descending=True)[:: len(nodes) // 12].tolist():
        share = torch.ones(2, len(nodes), dtype=torch.float64)
        share[:, node] += torch.tensor([-1e-4, 1e-4])
        with torch.no_grad():
            less, more = asked.loss(margins_of(model, nodes, asked, share, base))
        slope = float(less - more) / 2e-4
        assert slope == pytest.approx(float(scores[node]), rel=1e-3, abs=1e-8), nodes.names([node])


def test_node_scores_between_prompts_are_those_of_the_definition(model, asked):
    """EAP-IG of neurons, with gradients by an independent path: steps of the neuron's own value."""
    nodes = nodes_of(model, "parts")
    base = resampled(model, nodes, asked.tokens, asked.partner, asked.last)
    found = node_scores(model, nodes, asked, base, 3)
    taken, h = Taken(model), 1e-6
    here = taken.embed(asked.tokens.numpy())
    there = here[asked.partner.numpy()]
    written = taken.run(here)[1]
    edges = taken.run(here)[2]
    for name in ("blocks.0.mlp:1", "blocks.1.mlp:2"):
        change = written[name][asked.partner.numpy()] - written[name]
        wanted = 0.0
        for k in (1, 2, 3):
            point = there + k / 3 * (here - there)
            ends = [
                taken.run(point, {e: sign * h * change for e in edges if e[0] == name})[0]
                for sign in (1, -1)
            ]
            wanted += (loss_by_hand(ends[0], asked) - loss_by_hand(ends[1], asked)) / (6 * h)
        assert float(found[nodes.number(name)]) == pytest.approx(wanted, rel=1e-4, abs=1e-9)


def test_one_pass_is_the_last_of_many_and_no_pass_is_refused(model, asked):
    nodes = nodes_of(model)
    base = clean(model, nodes, asked.tokens)
    assert node_scores(model, nodes, asked, base, 2).abs().max() < 1e-12
    with pytest.raises(ValueError, match="steps is 0"):
        node_scores(model, nodes, asked, base, 0)


def speaking(program, asked: Asked) -> set[str]:
    """The parts that do anything on the prompts, and the two ends."""
    names = [name for name in program.model.sites() if name.endswith((".mlp", ".v"))]
    with torch.no_grad(), record(program.model, names) as trace:
        program.model(asked.tokens)
    found = {"embed", "logits"}
    for site, acts in trace.items():
        loud = acts.to_dense().abs().amax((0, 1)) > 1e-3
        if site.endswith(".v"):
            loud = loud.view(2, -1).any(1)
        name = site.removesuffix(".v")
        found |= {f"{name}:{unit}" for unit in loud.nonzero()[:, 0].tolist()}
    return found


@pytest.mark.parametrize("name", PROGRAMS)
def test_edges_of_compiled_programs_are_found(name):
    """All edges of parts that speak, ranked by their effects: those of the program come first."""
    program = PROGRAMS[name]()
    asked = asked_of(program, pairs=32, shortest=4)
    nodes = nodes_of(program.model, "parts")
    base = means(program.model, nodes, [asked.tokens], [asked.last])
    sure = Readout(10.0)
    loud = speaking(program, asked)
    end = lambda node: node[0] if node[0] in ("embed", "logits") else f"{node[0]}:{node[1]}"
    true = {(end(a), end(b)) for a, b in program.edges}
    chosen = [e for e in every_edge(parts_of(nodes)) if {e.source.name, e.target.name} <= loud]
    found: dict[tuple[str, str], float] = {}
    for (source, target, _), effect in effects(
        program.model, nodes, asked, base, chosen, readout=sure
    ).items():
        found[source, target] = max(found.get((source, target), 0.0), abs(effect))
    there = true & found.keys()
    assert len(there) >= 0.8 * len(true)
    size = lambda edges: [found[edge] for edge in edges]
    assert auroc(size(there), size(found.keys() - true)) >= 0.95


BEFORE, HEAD = "blocks.0.attention:0", "blocks.1.attention:0"
"""Of induction: the head that tells which token stood before, and the one that matches it."""


def into_induction(soften: float = 1.0):
    """What induction's second head is asked with, and all edges that lead into it."""
    program = PROGRAMS["induction"]()
    attention = program.model.blocks[1].attention
    with torch.no_grad():
        attention.w_q *= soften
    asked = asked_of(program, pairs=24)
    nodes = nodes_of(program.model, "parts")
    base = means(program.model, nodes, [asked.tokens])
    into = [edge for edge in every_edge(parts_of(nodes)) if edge.target.name == HEAD]
    return (program.model, nodes, asked, base), into


def test_what_attention_is_moved_by_and_what_it_moves_are_told_apart():
    """Induction matches keys to queries: its first head is read by keys, and by nothing else."""
    about, into = into_induction()
    found = effects(*about, into, readout=Readout(10.0))
    assert found[BEFORE, HEAD, "k"] > 0.5
    assert abs(found[BEFORE, HEAD, "q"]) < 1e-9 and abs(found[BEFORE, HEAD, "v"]) < 1e-9
    assert found["embed", HEAD, "q"] > 0.5 and found["embed", HEAD, "v"] > 0.5


@pytest.mark.parametrize("steps", [1, 5])
def test_first_order_effects_find_the_edge_into_the_keys(steps):
    """Where attention is not so sure that its slope is 0."""
    about, _ = into_induction(soften=1e-3)
    found = edge_scores(*about, steps=steps)
    into = {edge: abs(score) for edge, score in found.items() if edge[1] == HEAD}
    heard = sorted((e for e in into if e[0] != "embed"), key=into.get, reverse=True)
    assert heard[0] == (BEFORE, HEAD, "k") and into[heard[0]] > 10 * into[heard[1]]
    assert max(into[BEFORE, HEAD, "q"], into[BEFORE, HEAD, "v"]) < 1e-6 * into[heard[0]]


def test_effect_edges_of_a_program_are_its_own():
    program = PROGRAMS["induction"]()
    asked = asked_of(program, pairs=24)
    nodes = nodes_of(program.model, "parts")
    base = means(program.model, nodes, [asked.tokens])
    kept = torch.tensor([n in {f"{s}:{u}" for s, u in program.nodes} for n in nodes.names()])
    circuit = Circuit("induction", kept, kept.double(), 0.0, 0.15, Readout(10.0))
    found = edge_sizes.measure(Placed(program.model, nodes, circuit, asked, base))
    assert found["sizes"]["static_edges"] is None and found["sizes"]["effect_edges"] == 8
    ends = lambda edge: (edge["source"], edge["target"], edge["through"])
    listed = {ends(e) for e in found["edges"] if abs(e["effect"]) > 0.0015}
    own = {("embed", head, by) for head in (BEFORE, HEAD) for by in "qkv"}
    assert listed == own | {(BEFORE, HEAD, "k"), (HEAD, "logits", None)}
    assert all(e["weight"] is None for e in found["edges"])
    assert "stream" in found["reasons"]["static_edges"]


class Made(TorchDispatchMode):
    """Counts the numbers of all tensors that operations make."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **kwargs or {})
        self.numbers += sum(t.numel() for t in tree_flatten(out)[0] if isinstance(t, torch.Tensor))
        return out


def test_node_scores_take_memory_that_is_linear_in_nodes(asked):
    """As many numbers more from 96 to 192 neurons as twice those from 48 to 96."""
    made = []
    for width in (48, 96, 192):
        model = small_model("dense", fields={"width": width})
        nodes = nodes_of(model)
        base = zeros(nodes)
        with Made() as counted:
            node_scores(model, nodes, asked, base)
        made.append(counted.numbers)
    assert made[2] - made[1] == 2 * (made[1] - made[0])
