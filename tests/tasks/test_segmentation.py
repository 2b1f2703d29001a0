from __future__ import annotations

import numpy as np
import pytest
from tests.tasks.answers import info

from mz import tasks, zoo
from mz.errors import UserError

TASK = tasks.load(zoo.load_network("espnet_camvid"))
IGNORED = 11


def scores(mask: np.ndarray) -> np.ndarray:
    """[N, 12, H, W] whose largest score is that of the mask's class."""
    return np.moveaxis(np.eye(12, dtype=np.float32)[mask], 3, 1)


def scene(images: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    true = rng.integers(0, 12, (images, 10, 14)).astype(np.uint8)
    told = np.where(rng.random(true.shape) < 0.7, true, rng.integers(0, 12, true.shape)).astype(np.uint8)
    return true, told


def naive(true: np.ndarray, told: np.ndarray) -> tuple[float, float]:
    judged = true != IGNORED
    values = []
    for number in range(11):
        union = judged & ((true == number) | (told == number))
        if union.any():
            values.append((judged & (true == number) & (told == number)).sum() / union.sum())
    return 100 * float(np.mean(values)), 100 * float((true == told)[judged].mean())


def test_metrics_are_those_of_the_definition() -> None:
    true, told = scene()
    evaluator = TASK.evaluator()
    answers = evaluator.update([scores(told[:4])], info(list(true[:4])))
    evaluator.update([scores(told[4:])], info(list(true[4:])))
    result = evaluator.result()
    assert np.array_equal(answers, told[:4]) and result.count == 6
    assert (result.metrics["miou"], result.metrics["pixel_accuracy"]) == pytest.approx(naive(true, told))
    for name, value in result.metrics.items():
        low, high = result.ci95[name]
        assert low < value < high
    part, whole = TASK.agreement(told, true)
    assert part.tolist() == [(a == b).sum() for a, b in zip(told, true, strict=True)]
    assert whole.tolist() == [true[0].size] * len(true)


def test_a_class_that_occurs_nowhere_does_not_count() -> None:
    mask = np.zeros((1, 4, 4), np.uint8)
    evaluator = TASK.evaluator()
    evaluator.update([scores(mask)], info(list(mask)))
    assert evaluator.result().metrics == {"miou": 100.0, "pixel_accuracy": 100.0}


def test_a_smaller_output_is_judged_at_the_masks_size() -> None:
    told = np.array([[[1, 2], [3, 4]]], np.uint8)
    true = np.repeat(np.repeat(told, 3, axis=1), 2, axis=2)
    evaluator = TASK.evaluator()
    evaluator.update([scores(told)], info(list(true)))
    assert evaluator.result().metrics["miou"] == 100.0


def test_degradation_is_paired() -> None:
    true, told = scene(12)
    worse = told.copy()
    worse[:, 0] = 0
    results = []
    for mask in (told, worse):
        evaluator = TASK.evaluator()
        evaluator.update([scores(mask)], info(list(true)))
        results.append(evaluator.result())
    lost = tasks.degradation(*results)["pixel_accuracy"]
    low, high = results[0].ci95["pixel_accuracy"]
    assert lost["low"] < lost["value"] < lost["high"]
    assert lost["high"] - lost["low"] < high - low


def test_masks_and_outputs_that_do_not_fit() -> None:
    with pytest.raises(UserError, match="a mask holds class 77, the network tells 12"):
        TASK.evaluator().update(
            [scores(np.zeros((1, 2, 2), np.uint8))], info([np.full((2, 2), 77, np.uint8)])
        )
    with pytest.raises(UserError, match=r"expects one output \[N, classes, H, W\]"):
        TASK.evaluator().update([np.zeros((1, 12))], info(None, count=1))
    with pytest.raises(UserError, match="these images have other labels"):
        TASK.evaluator().update([scores(np.zeros((1, 2, 2), np.uint8))], info(np.array([1])))


def test_drawings_differ_by_class_and_tell_the_share() -> None:
    image = np.full((36, 48, 3), 90, np.uint8)
    mask = np.zeros((1, 36, 48), np.uint8)
    mask[0, :, 24:] = 7
    drawn = np.asarray(TASK.draw(image, [scores(mask)[0]], mask[0], title="float"), int)
    assert abs(drawn[180, 100] - drawn[180, 400]).sum() > 30
    assert TASK.truth_apart
    alone = np.asarray(TASK.draw(image, None, mask[0], title="true"), int)
    assert (alone[8:368, 8:488] == drawn[8:368, 8:488]).all()
