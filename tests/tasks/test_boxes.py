from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mz.data import Boxes
from mz.report.statistics import resampling_weights
from mz.tasks.average_precision import average_precision
from mz.tasks.boxes import Detections, matches, overlap, suppress

COCO = tuple(np.linspace(0.5, 0.95, 10).tolist())


def detections(rng: np.random.Generator, count: int, classes: int = 3) -> Detections:
    """Boxes that crowd together, with scores that tie now and then."""
    low = rng.integers(0, 12, (count, 2)) / 20
    corners = np.concatenate([low, low + rng.integers(1, 9, (count, 2)) / 20], axis=1).astype(np.float32)
    return Detections(
        corners, (rng.integers(1, 30, count) / 30).astype(np.float32), rng.integers(0, classes, count)
    )


def one_overlap(a: np.ndarray, b: np.ndarray) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    shared = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union > 0 else 0.0


@given(st.integers(0, 1000), st.integers(0, 9), st.integers(0, 9))
def test_overlap(seed: int, n: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = detections(rng, n).corners, detections(rng, m).corners
    found = overlap(a, b)
    assert found.shape == (n, m)
    for i in range(n):
        for j in range(m):
            assert found[i, j] == pytest.approx(one_overlap(a[i], b[j]), abs=1e-6)


def test_empty_boxes_overlap_nothing() -> None:
    a = np.array([[0.5, 0.5, 0.5, 0.5], [0.6, 0.6, 0.4, 0.4]])
    assert (overlap(a, a) == 0).all()


@given(st.integers(0, 1000), st.sampled_from([0, 1, 5, 40, 700]), st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_suppression_is_the_greedy_loop(seed: int, count: int, iou: float) -> None:
    found = detections(np.random.default_rng(seed), min(count, 60) if seed % 10 else count)
    kept: list[int] = []
    for row in np.argsort(-found.scores, kind="stable"):
        same = [k for k in kept if found.classes[k] == found.classes[row]]
        if not same or overlap(found.corners[[row]], found.corners[same]).max() <= iou:
            kept.append(int(row))
    ours, wanted = suppress(found, iou), found.at(np.array(kept, np.int64))
    assert np.array_equal(ours.corners, wanted.corners)
    assert np.array_equal(ours.scores, wanted.scores) and np.array_equal(ours.classes, wanted.classes)


def test_matches_are_one_to_one_and_by_class() -> None:
    box = [0.1, 0.1, 0.5, 0.5]
    two = Detections(np.array([box, box], np.float32), np.array([0.9, 0.8], np.float32), np.array([0, 0]))
    one = two.at(np.array([0]))
    other = Detections(one.corners, one.scores, np.array([1]))
    assert matches(two, two, 0.5) == 2 and matches(two, one, 0.5) == 1 and matches(one, two, 0.5) == 1
    assert matches(one, other, 0.5) == 0 and matches(one, one.at(np.array([], int)), 0.5) == 0
    shifted = Detections(one.corners + 0.2, one.scores, one.classes)
    assert matches(one, shifted, 0.5) == 0 and matches(one, shifted, 0.1) == 1


def naive_ap(found: list[Detections], true: list[Boxes], threshold: float, most: int) -> float:
    """COCO's definition said again, one class at a time: NaN without objects."""
    values = []
    for number in sorted({int(c) for boxes in true for c in boxes.classes}):
        entries, positives = [], 0
        for detected, boxes in zip(found, true, strict=True):
            mine = [i for i in np.argsort(-detected.scores, kind="stable") if detected.classes[i] == number]
            objects = np.flatnonzero(boxes.classes == number)
            positives += int((~boxes.crowd[objects]).sum())
            taken: set[int] = set()
            for i in mine[:most]:
                best, chosen = threshold - 1e-12, -1
                for g in objects:
                    if g in taken or boxes.crowd[g]:
                        continue
                    value = one_overlap(detected.corners[i].astype(float), boxes.corners[g])
                    if value >= best:
                        best, chosen = value, int(g)
                taken.add(chosen)
                entries.append((-float(detected.scores[i]), chosen >= 0))
        if not positives:
            continue
        entries.sort(key=lambda entry: entry[0])
        hits = np.array([hit for _, hit in entries], bool)
        precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
        recall = np.cumsum(hits) / positives
        values.append(
            np.mean([max(precision[recall >= r - 1e-12], default=0.0) for r in np.linspace(0, 1, 101)])
        )
    return 100 * float(np.mean(values)) if values else float("nan")


def scene(seed: int, images: int = 5) -> tuple[list[Detections], list[Boxes], np.ndarray]:
    rng = np.random.default_rng(seed)
    found, true = [], []
    for _ in range(images):
        objects = detections(rng, int(rng.integers(0, 5)))
        true.append(Boxes.of(objects.corners, objects.classes.tolist()))
        extra = detections(rng, int(rng.integers(0, 8)))
        noisy = objects.corners + rng.normal(0, 0.02, objects.corners.shape).astype(np.float32)
        corners = np.concatenate([noisy, extra.corners])
        found.append(
            Detections(
                corners,
                rng.permutation(len(corners) * 7)[: len(corners)].astype(np.float32),
                np.concatenate([objects.classes, extra.classes]),
            )
        )
    return found, true, np.array([[480, 640]] * images)


@pytest.mark.parametrize("seed", range(8))
def test_average_precision_is_the_definitions(seed: int) -> None:
    found, true, sizes = scene(seed)
    if not any(len(boxes) for boxes in true):
        pytest.skip("no objects")
    values, _ = average_precision(found, true, sizes, COCO, 100)
    for value, threshold in zip(values[:3], COCO, strict=False):
        assert value == pytest.approx(naive_ap(found, true, threshold, 100), abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_resampled_images_are_as_good_as_copies(seed: int) -> None:
    """The value for weights w is the value over a data set in which image i stands w[i] times."""
    found, true, sizes = scene(seed, images=6)
    _, drawn = average_precision(found, true, sizes, (0.5, 0.75), 100)
    weights = resampling_weights(6)
    for row in range(0, 1000, 237):
        places = np.repeat(np.arange(6), weights[row].astype(int))
        copies = [found[i] for i in places], [true[i] for i in places], sizes[places]
        wanted, _ = average_precision(*copies, (0.5, 0.75), 100)
        assert drawn[row] == pytest.approx(wanted, abs=1e-4)


def test_crowds_are_passed_over() -> None:
    corners = [[0.0, 0.0, 1.0, 1.0], [0.1, 0.1, 0.3, 0.3]]
    true = [Boxes.of(corners, [0, 0], [True, False])]
    inside = np.array([[0.1, 0.1, 0.3, 0.3], [0.5, 0.5, 0.9, 0.9]], np.float32)
    found = [Detections(inside, np.array([0.5, 0.9], np.float32), np.array([0, 0]))]
    values, drawn = average_precision(found, true, np.array([[100, 100]]), (0.5,), 100)
    assert values.tolist() == [pytest.approx(100.0)] and np.allclose(drawn, 100.0)
    plain = [Boxes.of(corners, [0, 0])]
    assert average_precision(found, plain, np.array([[100, 100]]), (0.5,), 100)[0][0] < 60


def test_fewer_detections_than_all() -> None:
    true = [Boxes.of([[0.1, 0.1, 0.3, 0.3]], [0])]
    corners = np.array([[0.5, 0.5, 0.9, 0.9], [0.1, 0.1, 0.3, 0.3]], np.float32)
    found = [Detections(corners, np.array([0.9, 0.8], np.float32), np.array([0, 0]))]
    sizes = np.array([[50, 50]])
    assert average_precision(found, true, sizes, (0.5,), 1)[0].tolist() == [0.0]
    assert average_precision(found, true, sizes, (0.5,), 2)[0].tolist() == [pytest.approx(50.0)]
