"""Average precision of boxes: by pycocotools, and over resampled images for its uncertainty.

Definition: the COCO evaluation (cocodataset.org/#detection-eval): matches are made image by image and class by class,
the best score first; precision is interpolated at 101 values of recall; the mean goes over the classes that occur.
Only matches decide it, so resampled images need no new matching.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from mz.data import Boxes
from mz.report.statistics import resampling_weights
from mz.tasks.boxes import Detections

_RECALLS = np.linspace(0.0, 1.0, 101)
_VALUES_AT_ONCE = 1 << 22


def average_precision(
    found: Sequence[Detections],
    true: Sequence[Boxes],
    sizes: np.ndarray,
    thresholds: Sequence[float],
    most_detections: int,
) -> tuple[np.ndarray, np.ndarray]:
    """AP in % by threshold of overlap: [T], and the same over resampled images: [resamples, T].

    sizes: height and width of each image in pixels, [N, 2]. most_detections: the best so many of each image and class.
    """
    evaluation = _evaluate(found, true, sizes, thresholds, most_detections)
    precision = evaluation.eval["precision"][
        ..., 0, 0
    ]  # [T, recalls, classes], -1 where a class does not occur
    values = np.array([100 * np.mean(part[part > -1]) if (part > -1).any() else np.nan for part in precision])
    weights = resampling_weights(len(true))
    drawn = [
        _resampled(matched, weights) for matched in _by_class(evaluation, len(true)) if matched is not None
    ]
    return values, 100 * _mean_of_defined(np.array(drawn).reshape(-1, len(weights), len(thresholds)))


def _mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Mean over the first axis without NaN; NaN where nothing is left."""
    defined = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(defined, values, 0.0).sum(axis=0) / defined.sum(axis=0))


def _evaluate(
    found: Sequence[Detections],
    true: Sequence[Boxes],
    sizes: np.ndarray,
    thresholds: Sequence[float],
    most_detections: int,
) -> Any:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    classes = sorted({int(c) for boxes in true for c in boxes.classes})
    answers = [
        _annotations(boxes.corners, boxes.classes, size) for boxes, size in zip(true, sizes, strict=True)
    ]
    for boxes, entries in zip(true, answers, strict=True):
        for entry, crowd in zip(entries, boxes.crowd, strict=True):
            entry["iscrowd"] = int(crowd)
    told = [
        _annotations(boxes.corners, boxes.classes, size) for boxes, size in zip(found, sizes, strict=True)
    ]
    for detections, entries in zip(found, told, strict=True):
        for entry, score in zip(entries, detections.scores, strict=True):
            entry["score"] = float(score)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(_coco(COCO(), answers, classes), _coco(COCO(), told, classes), "bbox")
        evaluation.params.iouThrs = np.array(thresholds)
        evaluation.params.maxDets = [most_detections]
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def _annotations(corners: np.ndarray, classes: np.ndarray, size: np.ndarray) -> list[dict[str, Any]]:
    height, width = size.tolist()
    pixels = np.asarray(corners, np.float64) * [width, height, width, height]
    spans = pixels[:, 2:] - pixels[:, :2]
    return [
        {"bbox": [*low, *span], "area": span[0] * span[1], "category_id": category, "iscrowd": 0}
        for low, span, category in zip(pixels[:, :2].tolist(), spans.tolist(), classes.tolist(), strict=True)
    ]


def _coco(coco: Any, entries: list[list[dict[str, Any]]], classes: list[int]) -> Any:
    """Annotations get ids from 1 on: 0 stands for no match."""
    numbered = [entry | {"image_id": image} for image, listed in enumerate(entries) for entry in listed]
    coco.dataset = {
        "images": [{"id": image} for image in range(len(entries))],
        "categories": [{"id": number} for number in classes],
        "annotations": [entry | {"id": place} for place, entry in enumerate(numbered, 1)],
    }
    coco.createIndex()
    return coco


_Matched = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Of one class, best score first: images [n], hits [T, n], passed over [T, n]; and objects to be found by image [N]."""


def _by_class(evaluation: Any, images: int) -> list[_Matched | None]:
    """The matches that pycocotools made; None for a class without objects to be found."""
    results: list[_Matched | None] = []
    entries = evaluation.evalImgs  # classes times images, in that order
    for start in range(0, len(entries), images):
        present = [(image, entry) for image, entry in enumerate(entries[start : start + images]) if entry]
        positives = np.zeros(images)
        for image, entry in present:
            positives[image] = np.sum(np.asarray(entry["gtIgnore"]) == 0)
        if not positives.any():
            results.append(None)
            continue
        scores = np.concatenate([np.asarray(entry["dtScores"], np.float64) for _, entry in present])
        order = np.argsort(-scores, kind="mergesort")
        owner = np.concatenate([np.full(len(entry["dtScores"]), image) for image, entry in present])
        hits = np.concatenate([entry["dtMatches"] != 0 for _, entry in present], axis=1)
        ignored = np.concatenate([entry["dtIgnore"] != 0 for _, entry in present], axis=1)
        results.append((owner[order], (hits & ~ignored)[:, order], ignored[:, order], positives))
    return results


def _resampled(matched: _Matched, weights: np.ndarray) -> np.ndarray:
    """AP of one class, 0..1, for images drawn by weights [B, N]: [B, T]; NaN where no object to be found is drawn."""
    owner, hits, ignored, positives = matched
    out = np.full((len(weights), len(hits)), np.nan)
    rows = max(1, _VALUES_AT_ONCE // max(len(owner), 1))
    for start in range(0, len(weights), rows):
        drawn = weights[start : start + rows]
        wanted = drawn @ positives
        every = np.cumsum(drawn[:, owner], axis=1)
        for t in range(len(hits)):
            counted = every - np.cumsum(drawn[:, owner] * ignored[t], axis=1) if ignored[t].any() else every
            places = np.flatnonzero(hits[t])
            found = np.cumsum(drawn[:, owner[places]], axis=1)
            out[start : start + rows, t] = _interpolated(found, counted[:, places], wanted)
    return out


def _interpolated(found: np.ndarray, counted: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Mean precision at 101 recalls from the true positives and all detections counted up to each of them: [B]."""
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = found / wanted[:, None]
        precision = np.where(counted > 0, found / counted, 0.0)
    best_after = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    reached = np.searchsorted(_RECALLS, recall, side="right") * (found > 0)
    steps = np.diff(reached, axis=1, prepend=0)
    return np.where(wanted > 0, (best_after * steps).sum(axis=1) / len(_RECALLS), np.nan)
