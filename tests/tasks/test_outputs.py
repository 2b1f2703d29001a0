"""The task of networks whose outputs mz cannot read."""

from __future__ import annotations

import msgspec
import numpy as np
from tests.tasks.answers import info

from mz import tasks, zoo
from mz.zoo import schema


def test_outputs_agree_by_their_cosine_and_single_numbers_by_their_distance() -> None:
    config = zoo.load_network("resnet8_fashion")
    task = tasks.load(
        msgspec.structs.replace(
            config, network=schema.Network("net", "outputs"), evaluation=schema.Evaluation()
        )
    )
    ours = [np.array([[[3.0, 4.0]], [[0.0, 0.0]], [[1.0, 0.0]], [[2.0, 0.0]]])]
    theirs = [np.array([[[3.0, 4.0]], [[0.0, 0.0]], [[1.0, 1.0]], [[-1.0, 0.0]]])]
    ours.append(np.array([[5.0], [0.0], [5.0], [0.5]]))
    theirs.append(np.array([[9.0], [0.001], [-5.0], [0.75]]))
    answers = (task.evaluator().update(outputs, info(None, count=4)) for outputs in (ours, theirs))
    part, whole = task.agreement(*answers)
    np.testing.assert_allclose(part, [1 + 5 / 9, 1.999, np.sqrt(0.5), 0.75])
    assert whole.tolist() == [2, 2, 2, 2]
