"""The table of tasks: the twenty of the paper, and ten that it does not have."""

from pellucid.errors import UserError
from pellucid.eval.tasks.brackets import BRACKETS
from pellucid.eval.tasks.functions import FUNCTIONS
from pellucid.eval.tasks.headers import HEADERS
from pellucid.eval.tasks.held_out import HELD_OUT
from pellucid.eval.tasks.strings import STRINGS
from pellucid.eval.tasks.task import Task
from pellucid.eval.tasks.variables import VARIABLES

TASKS: dict[str, Task] = {
    task.name: task for task in (*STRINGS, *BRACKETS, *HEADERS, *VARIABLES, *FUNCTIONS, *HELD_OUT)
}
"""By name. `held_out` tells the ten from the twenty."""


def find_task(name: str) -> Task:
    """The task of a name; UserError lists what there is."""
    if name not in TASKS:
        raise UserError(f"task {name!r} is unknown: {', '.join(TASKS)} are accepted")
    return TASKS[name]
