from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests.tasks.answers import info

from mz import tasks, zoo
from mz.errors import UserError
from mz.zoo import schema

CONFIG = zoo.load_network("resnet8_fashion")
TASK = tasks.load(CONFIG)


def test_an_unknown_task_is_named() -> None:
    config = msgspec.structs.replace(CONFIG, network=schema.Network("x", "clasification"))
    with pytest.raises(UserError, match="'clasification' is no task of mz; did you mean 'classification'"):
        tasks.load(config)


def test_preprocessing_gives_what_the_network_reads() -> None:
    assert TASK.input_shape == (1, 32, 32)
    assert TASK.preprocess_batch(np.zeros((2, 28, 28), np.uint8)).shape == (2, 1, 32, 32)
    with pytest.raises(
        UserError, match="images of 40x30 become 1x44x34 by preprocessing, the network reads 1x32x32"
    ):
        TASK.preprocess_batch(np.zeros((2, 40, 30, 3), np.uint8))


@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 12), st.integers(1, 9)),
        elements=st.sampled_from([-1.0, 0.0, 0.5, 1.0]),
    ),
    st.data(),
)
def test_ranks_are_those_of_a_stable_sort(scores: np.ndarray, draw: st.DataObject) -> None:
    labels = np.array([draw.draw(st.integers(0, scores.shape[1] - 1)) for _ in scores])
    evaluator = TASK.evaluator()
    split = draw.draw(st.integers(1, len(scores)))
    answers = [evaluator.update([scores[:split]], info(labels[:split]))]
    if split < len(scores):
        answers.append(evaluator.update([scores[split:]], info(labels[split:])))
    result = evaluator.result()
    order = np.argsort(-scores, axis=1, kind="stable")
    assert result.count == len(scores) and result.metric == "top1"
    assert np.array_equal(np.concatenate(answers), order[:, 0])
    assert np.array_equal(result.correct["top1"], scores.argmax(axis=1) == labels)
    assert np.array_equal(result.correct["top5"], (order[:, :5] == labels[:, None]).any(axis=1))
    assert result.metrics["top1"] == pytest.approx(100 * result.correct["top1"].mean())
    low, high = result.ci95["top1"]
    assert low <= result.metrics["top1"] <= high


def test_without_labels_there_are_predictions_only() -> None:
    evaluator = TASK.evaluator()
    answers = evaluator.update([np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1)], info(None))
    result = evaluator.result()
    assert answers.tolist() == [0, 1, 2] and result.count == 3
    same, of = TASK.agreement(answers, np.array([0, 2, 2]))
    assert same.sum() == 2 and of.tolist() == [1, 1, 1]
    assert result.metrics == {} and result.correct == {} and result.ci95 == {}


@pytest.mark.parametrize(
    ("outputs", "label", "message"),
    [
        (
            [np.zeros((1, 3)), np.zeros((1, 3))],
            0,
            r"expects one output \[N, classes\], the network gives \[1, 3\], \[1, 3\]",
        ),
        ([np.zeros((1, 3, 2, 2))], 0, r"the network gives \[1, 3, 2, 2\]"),
        ([np.full((1, 3), np.nan)], 0, "NaN"),
        ([np.zeros((1, 3))], 3, "label 3 is beyond its 3 classes"),
    ],
)
def test_outputs_that_are_no_scores(outputs: list[np.ndarray], label: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        TASK.evaluator().update(outputs, info(np.array([label])))


def red(picture: object) -> int:
    pixels = np.asarray(picture, np.int16)
    return int(np.sum(pixels[..., 0] - pixels[..., 1] > 100))


def test_drawings_show_small_images_large_and_errors_red() -> None:
    image = np.arange(28 * 28, dtype=np.uint16).reshape(28, 28).astype(np.uint8)
    scores = [np.eye(10, dtype=np.float32)[9] * 5]
    right = TASK.draw(image, scores, 9, title="float")
    assert right.size[0] >= 28 * 8 and right.size[1] > 28 * 8 + 3 * 14
    assert np.array_equal(np.asarray(right)[8 : 8 + 224 : 8, 8 : 8 + 224 : 8, 0], image)
    assert red(right) == 0
    assert red(TASK.draw(image, scores, 8, title="float")) > 0
    assert TASK.draw(image, scores, None).size[1] < right.size[1]
    assert max(TASK.draw(np.zeros((900, 600, 3), np.uint8), scores, 9).size) < 400


def test_names_of_the_data_set_serve_where_the_configuration_has_none() -> None:
    task = tasks.load(msgspec.structs.replace(CONFIG, evaluation=schema.Evaluation()))
    image, scores = np.zeros((28, 28), np.uint8), [np.zeros(2, np.float32)]
    named = task.draw(image, scores, None, class_names=("something", "else"))
    assert not np.array_equal(np.asarray(named), np.asarray(task.draw(image, scores, None)))


@given(st.integers(1, 20))
def test_probabilities_are_drawn_as_they_are(seed: int) -> None:
    config = msgspec.structs.replace(CONFIG, postprocessing=schema.Postprocessing(outputs="probabilities"))
    image = np.zeros((28, 28), np.uint8)
    scores = np.random.default_rng(seed).dirichlet(np.full(10, 0.3))
    logits = np.log(scores + 1e-12)
    ours = tasks.load(config).draw(image, [scores], 0)
    assert np.array_equal(np.asarray(ours), np.asarray(TASK.draw(image, [logits], 0)))
