"""The dense run that stands beside a run: what is accepted as one, and whether it is as large."""

from typing import TYPE_CHECKING, Any

from pellucid.errors import RunError
from pellucid.eval.elsewhere import itself
from pellucid.eval.reader import Reader
from pellucid.experiments.match import COUNTS
from pellucid.experiments.matching import CLOSE
from pellucid.models import account
from pellucid.models.config import ModelConfig
from pellucid.models.mlp import MLPS
from pellucid.settings.fields import tag_of

if TYPE_CHECKING:
    from pellucid.run import Run


def dense_reader(run: "Run", dense: "Run", shared: dict[str, Any]) -> Reader:
    """The dense run, reading the same tokens as the run that is scored; RunError as `check_dense`."""
    check_dense(run, dense)
    about = {"context": dense.config.model.context, "remark": _size(run, dense)}
    return Reader(itself(dense), label="dense: ", **shared | about)


def check_dense(run: "Run", dense: "Run") -> None:
    """Raise RunError for the run itself, for one of other data, and for one that is not dense."""
    name = dense.folder.path
    if name.resolve() == run.folder.path.resolve():
        raise RunError(
            f"{name} is the run that is scored: another one, with mlp=dense, is accepted"
        )
    if dense.data.fingerprint != run.data.fingerprint:
        raise RunError(
            f"the dense run {name} was trained on data {dense.data.fingerprint}, and "
            f"{run.folder.path} on {run.data.fingerprint}: a run on the same data is accepted"
        )
    if why := _not_dense(dense.config.model):
        raise RunError(
            f"{name} is not dense: {why}; a run with mlp=dense in every layer is accepted"
        )


def _not_dense(model: ModelConfig) -> str:
    """Which layer's neurons are other units, or are kept sparse; empty where none are."""
    for layer in range(model.n_layers):
        mlp = model.filling("mlp", layer)
        if mlp.builds is not MLPS["dense"]:
            return f"its layer {layer} has mlp={tag_of(MLPS, mlp)}"
    return "it has site_sparsity at mlp_neuron" if "mlp_neuron" in model.site_sparsity.where else ""


def _size(run: "Run", dense: "Run") -> str:
    """The sizes, where no count says that they are the same within 1 %."""
    ours, theirs = account(run.model), account(dense.model)
    if any(abs(count(theirs) - count(ours)) <= CLOSE * count(ours) for count in COUNTS.values()):
        return ""
    return (
        f"not matched in size: {theirs.total:,} parameters against the run's {ours.total:,}, "
        f"{theirs.active:,} active against {ours.active:,}"
    )
