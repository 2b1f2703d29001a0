"""Tasks: what turns images into a network's input and its outputs into a judgement. One file a task.

May import `mz.data`, `mz.zoo` and `mz.report.statistics`. Pillow is imported when something is drawn.
"""

from __future__ import annotations

from collections.abc import Callable

from mz.errors import UserError
from mz.tasks.base import Agreement, Evaluator, Task, TaskResult, degradation
from mz.tasks.classification import Classification
from mz.tasks.detection import Detection
from mz.tasks.face_detection import FaceDetection
from mz.tasks.outputs import Outputs
from mz.tasks.segmentation import Segmentation
from mz.tasks.text_orientation import TextOrientation
from mz.tasks.text_recognition import TextRecognition, with_characters
from mz.zoo import NetworkConfig
from mz.zoo.locate import nearest

TASKS: dict[str, Callable[[NetworkConfig], Task]] = {
    "classification": Classification,
    "detection": Detection,
    "face_detection": FaceDetection,
    "outputs": Outputs,
    "segmentation": Segmentation,
    "text_orientation": TextOrientation,
    "text_recognition": TextRecognition,
}
"""By the name that a configuration's `network.task` has."""


def load(config: NetworkConfig) -> Task:
    """The task that a network was trained for. Raises UserError for a name that is not in TASKS."""
    name = config.network.task
    if name not in TASKS:
        hint = nearest(name, TASKS) or f"; known: {', '.join(TASKS)}"
        raise UserError(f"{config.network.name}: network.task: {name!r} is no task of mz{hint}")
    return TASKS[name](config)


__all__ = ["TASKS", "Agreement", "Evaluator", "Task", "TaskResult", "degradation", "load", "with_characters"]
