from __future__ import annotations

import msgspec
import numpy as np
import pytest
from tests.tasks.answers import info

from mz import tasks, zoo
from mz.data import Boxes
from mz.errors import UserError
from mz.tasks import decoders
from mz.tasks.boxes import Detections
from mz.zoo import schema

FACES = tasks.load(zoo.load_network("yunet_n_320"))


def yunet_outputs(images: int = 1) -> list[np.ndarray]:
    """Nothing is seen anywhere."""
    sides = [(320 // stride) ** 2 for stride in (8, 16, 32)]
    return [np.zeros((images, cells, last), np.float32) for last in (1, 1, 4, 10) for cells in sides]


def see(outputs: list[np.ndarray], image: int, cell: int, score: float, box: tuple[float, ...]) -> None:
    """A face of stride 16."""
    outputs[1][image, cell, 0] = outputs[4][image, cell, 0] = score
    outputs[7][image, cell] = box


def test_yunet_by_hand() -> None:
    outputs = yunet_outputs()
    see(outputs, 0, 20 * 3 + 5, 0.64, (0.5, -0.25, np.log(4.0), np.log(2.0)))
    outputs[1][0, 20 * 3 + 5, 0] = 0.81
    (found,) = decoders.yunet("x", outputs, (320, 320))
    best = int(found.scores.argmax())
    assert found.scores[best] == pytest.approx(0.72)
    # centre (5.5, 2.75) cells of 16 pixels, 64 x 32 pixels
    assert found.corners[best] * 320 == pytest.approx([88 - 32, 44 - 16, 88 + 32, 44 + 16], rel=1e-5)


def test_fastestdet_by_hand() -> None:
    out = np.zeros((1, 8, 22, 22), np.float32)
    out[0, 0, 4, 7], out[0, 6, 4, 7] = 0.5, 0.8
    out[0, 1:5, 4, 7] = (0.3, -0.2, 0.0, np.log(3.0))
    (found,) = decoders.fastestdet("x", [out], (352, 352))
    best = int(found.scores.argmax())
    assert best == 4 * 22 + 7 and found.classes[best] == 1
    assert found.scores[best] == pytest.approx(0.5**0.6 * 0.8**0.4)
    x, y = (7 + np.tanh(0.3)) / 22, (4 + np.tanh(-0.2)) / 22
    assert found.corners[best] == pytest.approx([x - 0.25, y - 0.375, x + 0.25, y + 0.375], rel=1e-5)


def test_ultraface_by_hand() -> None:
    outputs = []
    for stride, priors in ((8, 3), (16, 2), (32, 2), (64, 3)):
        rows, columns = -(-240 // stride), -(-320 // stride)
        outputs += [np.zeros((1, per * priors, rows, columns), np.float32) for per in (2, 4)]
    outputs[2][0, 3, 6, 4] = np.log(9.0)  # a face of stride 16, second prior (48 pixels), row 6, column 4
    outputs[3][0, 4:8, 6, 4] = (1.0, -1.0, 0.0, 5 * np.log(2.0))
    (found,) = decoders.ultraface("x", outputs, (240, 320))
    assert len(found) == 4420
    best = int(found.scores.argmax())
    assert found.scores[best] == pytest.approx(0.9)
    width, height = 48 / 320, 48 / 240
    x, y = 4.5 / 20 + 0.1 * width, 6.5 / 15 - 0.1 * height
    assert found.corners[best] == pytest.approx(
        [x - width / 2, y - height, x + width / 2, y + height], rel=1e-4
    )


@pytest.mark.parametrize("decoder", sorted(decoders.DECODERS))
@pytest.mark.parametrize("shapes", [[(1, 4)], [(1, 3, 5, 5)], [(1, 100, 1)] * 12])
def test_outputs_of_another_network(decoder: str, shapes: list[tuple[int, ...]]) -> None:
    with pytest.raises(UserError, match=f"^net: decoder {decoder} expects"):
        decoders.DECODERS[decoder]("net", [np.zeros(shape) for shape in shapes], (320, 320))


def test_boxes_come_back_in_shares_of_the_image() -> None:
    """YuNet's images lie at the top left: one of 100 x 200 pixels fills the upper half of the input."""
    outputs = yunet_outputs()
    see(outputs, 0, 20 * 5 + 10, 0.9, (0.0, 0.0, np.log(4.0), np.log(2.0)))
    (found,) = FACES.evaluator().update(outputs, info(None, (100, 200), 1))
    assert len(found) == 1
    assert found.corners[0] == pytest.approx([0.4, 0.4, 0.6, 0.6], rel=1e-5)


def test_metrics_intervals_and_degradation() -> None:
    outputs = yunet_outputs(8)
    truth = [Boxes.of([[0.4, 0.2, 0.6, 0.3]], [0])] * 8
    for image in range(8):
        see(outputs, image, 20 * 5 + 10, 0.9, (0.0, 0.0, np.log(4.0), np.log(2.0)))
    worse = [output.copy() for output in outputs]
    worse[7][:2] += 1.0  # two faces are misplaced
    results = []
    for answer in (outputs, worse):
        evaluator = FACES.evaluator()
        evaluator.update([part[:3] for part in answer], info(truth[:3], (320, 320)))
        evaluator.update([part[3:] for part in answer], info(truth[3:], (320, 320)))
        results.append(evaluator.result())
    right, lossy = results
    assert right.metric == "ap" and right.count == 8
    assert right.metrics["ap"] == pytest.approx(100.0) and right.ci95["ap"] == pytest.approx((100.0, 100.0))
    assert lossy.metrics["ap"] < 80
    low, high = lossy.ci95["ap"]
    assert low < lossy.metrics["ap"] < high
    lost = tasks.degradation(right, lossy)["ap"]
    assert lost["value"] == pytest.approx(100 - lossy.metrics["ap"])
    assert 0 <= lost["low"] < lost["value"] < lost["high"]


def test_without_labels_or_objects_there_is_no_metric() -> None:
    for labels in (None, [Boxes.of([], [])]):
        evaluator = FACES.evaluator()
        evaluator.update(yunet_outputs(), info(labels, count=1))
        assert evaluator.result().metrics == {} and evaluator.result().count == 1


def test_agreement_counts_both_sides() -> None:
    def boxes(*places: float, score: float = 0.9) -> Detections:
        corners = np.array([[x, 0.1, x + 0.1, 0.2] for x in places], np.float32).reshape(-1, 4)
        return Detections(corners, np.full(len(places), score, np.float32), np.zeros(len(places), np.int64))

    ours, theirs = [boxes(0.1, 0.5), boxes(), boxes(0.1)], [boxes(0.1), boxes(), boxes(0.1, score=0.1)]
    part, whole = FACES.agreement(ours, theirs)
    assert part.tolist() == [2, 1, 0] and whole.tolist() == [3, 1, 1]


def test_wrong_labels_and_outputs() -> None:
    with pytest.raises(UserError, match="these images have other labels"):
        FACES.evaluator().update(yunet_outputs(), info(["text"]))
    outputs = yunet_outputs()
    outputs[0][:] = np.nan
    with pytest.raises(UserError, match="NaN"):
        FACES.evaluator().update(outputs, info(None, count=1))


def test_what_a_detector_must_state() -> None:
    config = zoo.load_network("fastestdet_352")
    change = msgspec.structs.replace
    with pytest.raises(UserError, match=r"postprocessing\.decoder says how its outputs become boxes"):
        tasks.load(change(config, postprocessing=schema.Postprocessing()))
    with pytest.raises(UserError, match=r"parser\.input_shapes must state"):
        tasks.load(change(config, parser=schema.Parser()))
    with pytest.raises(UserError, match="'top1' is no metric of detection; it has map, ap50"):
        tasks.load(change(config, evaluation=schema.Evaluation(metric="top1")))


def test_drawings_show_what_was_found() -> None:
    outputs = yunet_outputs()
    see(outputs, 0, 20 * 5 + 10, 0.9, (0.0, 0.0, np.log(4.0), np.log(2.0)))
    image = np.full((320, 320, 3), 120, np.uint8)
    label = Boxes.of([[0.1, 0.7, 0.3, 0.9]], [0])
    nothing = np.asarray(FACES.draw(image, [part[0] for part in yunet_outputs()], None, title="float"))
    found = np.asarray(FACES.draw(image, [part[0] for part in outputs], None, title="float"))
    true = np.asarray(FACES.draw(image, [part[0] for part in yunet_outputs()], label, title="float"))
    for drawn, rows in ((found, slice(80, 140)), (true, slice(340, 430))):
        differing = np.flatnonzero((drawn[:480] != nothing[:480]).any(axis=(1, 2)))
        assert len(differing) and differing.min() >= rows.start - 8 and differing.max() <= rows.stop + 40
