"""Face detection: detection with one class, judged by average precision at the overlap that is asked for."""

from __future__ import annotations

import numpy as np

from mz.data import Boxes
from mz.tasks.average_precision import average_precision
from mz.tasks.boxes import Detections
from mz.tasks.detection import Detection
from mz.zoo import NetworkConfig

_ALL_DETECTIONS = 100_000


class FaceDetection(Detection):
    """The task with the settings of one network."""

    metric_names = ("ap",)

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        self._evaluation_iou = config.evaluation.iou
        self._class_names = self._class_names or ("face",)

    def metrics(
        self, found: list[Detections], true: list[Boxes], sizes: np.ndarray
    ) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        values, drawn = average_precision(found, true, sizes, (self._evaluation_iou,), _ALL_DETECTIONS)
        return {"ap": float(values[0])}, {"ap": drawn[:, 0]}
