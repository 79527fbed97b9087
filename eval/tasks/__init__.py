"""Tasks on Python text: pairs of prompts that differ in one factor, from generators or a file.

`draw(TASKS["for_while"], tokenizer, 64)` gives a `TaskBatch`; `answer_log_probs` in
`pellucid.eval.capability.answers` reads it with a model, `task_loss` and `margin_accuracy` score it.
"""

from pellucid.eval.tasks.batch import OPEN, TaskBatch, draw, encode, pack
from pellucid.eval.tasks.own import load_pairs
from pellucid.eval.tasks.pools import FAMILIES
from pellucid.eval.tasks.table import TASKS, find_task
from pellucid.eval.tasks.task import DISTANCES, Form, Pair, Task

__all__ = [
    "DISTANCES",
    "FAMILIES",
    "OPEN",
    "TASKS",
    "Form",
    "Pair",
    "Task",
    "TaskBatch",
    "draw",
    "encode",
    "find_task",
    "load_pairs",
    "pack",
]
