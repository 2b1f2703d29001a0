"""Tasks: what turns images into a network's input and its outputs into a judgement. One file a task.

May import `mz.data`, `mz.zoo` and `mz.report.statistics`. Pillow is imported when something is drawn.
"""

from __future__ import annotations

from collections.abc import Callable

from mz.errors import UserError
from mz.tasks.base import Evaluator, Task, TaskResult
from mz.tasks.classification import Classification
from mz.zoo import NetworkConfig
from mz.zoo.locate import nearest

TASKS: dict[str, Callable[[NetworkConfig], Task]] = {
    "classification": Classification,
}
"""By the name that a configuration's `network.task` has."""


def load(config: NetworkConfig) -> Task:
    """The task that a network was trained for. Raises UserError for a name that is not in TASKS."""
    name = config.network.task
    if name not in TASKS:
        hint = nearest(name, TASKS) or f"; known: {', '.join(TASKS)}"
        raise UserError(f"{config.network.name}: network.task: {name!r} is no task of mz{hint}")
    return TASKS[name](config)


__all__ = ["TASKS", "Evaluator", "Task", "TaskResult", "load"]
