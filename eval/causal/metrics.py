"""The metrics of what units do, for the table in `eval/suite.py`."""

from pellucid.eval.causal import interchange, logit_share, steering, targeted_ablation

QUICK, STANDARD = ("quick",), ("standard", "full")
ALONE = True
LOSS = (logit_share.WHOLE,)
"""A control that is the held-out loss: see `Metric.loss` in `eval/suite.py`."""
LABELS, TASKS = ("labels",), ("tasks",)
"""Of the family that goes with the split: see `Metric.uses` in `eval/suite.py`."""

CAUSAL = {
    "targeted_ablation_mean_quick": (targeted_ablation.targeted_ablation_mean_quick, QUICK, LABELS),
    "targeted_ablation_resample_quick": (
        targeted_ablation.targeted_ablation_resample_quick,
        QUICK,
        LABELS,
    ),
    "targeted_ablation_mean": (targeted_ablation.targeted_ablation_mean, STANDARD, LABELS),
    "targeted_ablation_resample": (targeted_ablation.targeted_ablation_resample, STANDARD, LABELS),
    "targeted_ablation_zero": (targeted_ablation.targeted_ablation_zero, STANDARD, LABELS),
    "targeted_ablation_mean_equal": (
        targeted_ablation.targeted_ablation_mean_equal,
        STANDARD,
        LABELS,
    ),
    "steering": (steering.steering, STANDARD, LABELS),
    "interchange_accuracy_quick": (interchange.interchange_accuracy_quick, QUICK, TASKS),
    "interchange_accuracy": (interchange.interchange_accuracy, STANDARD, TASKS, ALONE),
    "logit_share": (logit_share.logit_share, STANDARD, ()),
    logit_share.MEAN: (
        logit_share.cross_entropy_through_units_mean,
        STANDARD,
        (),
        False,
        LOSS,
    ),
    logit_share.ZERO: (
        logit_share.cross_entropy_through_units_zero,
        STANDARD,
        (),
        False,
        LOSS,
    ),
}
"""By name: what measures it, the suites it runs in, whether it uses labels or tasks, whether it
looks at models alone, and which of its controls are the held-out loss."""
