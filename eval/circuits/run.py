"""Circuits of a run: from a task's name to what stands in the run's folder."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, get_args

from torch import Tensor

from pellucid import checkpoint
from pellucid.errors import RunError, UserError
from pellucid.eval.circuits.asking import MEASURED, asking, check_able, check_distance
from pellucid.eval.circuits.bases import Base, means
from pellucid.eval.circuits.content import Found, content
from pellucid.eval.circuits.edged import joined, measured
from pellucid.eval.circuits.find import find
from pellucid.eval.circuits.in_text import in_text
from pellucid.eval.circuits.nodes import Grain, Nodes, nodes_of
from pellucid.eval.circuits.objective import Asked
from pellucid.eval.circuits.proof import proof
from pellucid.eval.circuits.settings import Settings, settings_of
from pellucid.eval.circuits.strata import strata
from pellucid.eval.refusals import refusal
from pellucid.training.seen import seen

if TYPE_CHECKING:
    from pellucid.run import Run

ROWS, AT_ONCE = 200, 20
"""Rows of training text that means are taken over, and how many are read at once."""
TOKENS = 51_200
"""Most tokens of these rows: with a long context fewer rows are read."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """How circuits of a run are looked for. UserError for what cannot be asked for.

    The same seed gives the same circuits, bit for bit.
    """

    run: "Run"
    profile: str = "quick"
    target: float = 0.15
    """loss in nats"""
    grain: Grain = "channels"
    distance: int = 0
    """tokens between cue and answer at least: a stratum of the tasks"""
    seed: int = 0
    force: bool = False
    """search although the model itself misses the target"""
    frozen_norm: bool = False
    """hold norms at what they are in the whole model, in all that is searched and measured"""
    ranking: str = "masks"
    """what nodes are ranked by: trained masks, attribution, or masks that start from it"""
    edges: bool = False
    """then prune edges, where a filling has weights that are edges"""
    controls: bool = True
    """take the battery of controls, and the faithful size, of each circuit"""

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise UserError(f"seed {self.seed} is not accepted; expected 0 to 2**63 - 1")
        if self.grain not in get_args(Grain):
            accepted = " and ".join(get_args(Grain))
            raise UserError(f"grain {self.grain!r} is unknown: {accepted} are accepted")
        if reason := refusal(seen(self.run.folder), "circuit", __name__, [f"tasks:{MEASURED}"]):
            raise RunError(f"refused: {reason}")
        check_distance(self.distance)
        _ = self.settings  # refused here, before anything is read

    @cached_property
    def settings(self) -> Settings:
        """Those of the profile, at the target."""
        return settings_of(
            self.profile, self.target, frozen_norm=self.frozen_norm, ranking=self.ranking
        )

    @cached_property
    def nodes(self) -> Nodes:
        """All nodes of the model."""
        return nodes_of(self.run.model, self.grain)

    @cached_property
    def text(self) -> tuple[Tensor, ...]:
        """Rows of training text, a seeded sample, some at a time: `(row, token)` each."""
        context = self.run.config.model.context
        batch = max(1, min(ROWS, TOKENS // context))
        rows = self.run.data.rows(self.seed, 0, batch=batch, context=context).tokens[:, :-1]
        return rows.split(AT_ONCE)

    @cached_property
    def base(self) -> Base:
        """What each unit does on the average, over the text."""
        return means(self.run.model, self.nodes, self.text)

    def found(self, task: str) -> Found:
        """The circuit of a task of the table, or of a file of pairs; UserError as `asking`.

        Prompts of one family are searched with, those of another are measured on. UserError for a
        task that the model itself cannot do, unless it is forced.
        """
        about = {"drawn": self.settings.drawn, "seed": self.seed, "distance": self.distance}
        asked_for, model = asking(self.run, task, **about), self.run.model
        device = next(model.parameters()).device
        searched, unseen = (Asked.of(batch, device) for batch in asked_for[2:])
        if not self.force:
            check_able(model, self.nodes, asked_for.name, (searched, unseen), self.target)
        if self.frozen_norm:
            searched, unseen = searched.holding(model), unseen.holding(model)
        about = (model, self.nodes, searched, self.base, self.settings, self.seed)
        return Found(
            model=model,
            nodes=self.nodes,
            asking=asked_for,
            searched=searched,
            unseen=unseen,
            base=self.base,
            circuit=find(*about, name=asked_for.name),
            settings=self.settings,
            profile=self.profile,
            grain=self.grain,
            step=self.run.step,
            seed=self.seed,
        )

    @property
    def earlier(self) -> bool:
        """Whether the run has a later checkpoint than the one that is searched."""
        steps = checkpoint.steps(self.run.folder.checkpoints)
        return self.run.step < max(steps, default=0)

    def file_name(self, task: str) -> str:
        """`var_if`, at a distance `var_if@32`, of an earlier checkpoint `var_if.step500`."""
        at = f"@{self.distance}" if self.distance else ""
        return f"{task}{at}.step{self.run.step}" if self.earlier else f"{task}{at}"

    def write(self, task: str) -> dict[str, Any]:
        """Find a circuit and write it into the run's folder; gives what was written.

        Each distance and each earlier checkpoint has a file of its own; beside it stands where its
        nodes are active in held-out text.
        """
        found = self.found(task)
        written = content(found, self.run.tokenizer)
        parts = [measured(found, edges=self.edges), strata(self.run, found)]
        if self.controls:
            parts.append(proof(self.run, found, self.text))
        for part in parts:
            written = joined(written, part)
        name, folder = self.file_name(found.asking.name), self.run.folder
        listed = [node["id"] for node in written["nodes"]]
        contexts = in_text(self.run, self.nodes, listed, seed=self.seed)
        folder.write_circuit(f"{name}.contexts", contexts, indent=None)
        folder.write_circuit(name, written)
        return written
