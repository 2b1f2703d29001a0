"""A trial's decibels: of all images together, and of each by itself."""

from __future__ import annotations

import numpy as np
import pytest
from tests.quantize.networks import images, residual_network

from mz.emulator import NumpySession
from mz.engines.float_ort import FloatSession
from mz.quantize import Recipe, Trial, collect, quantize


def test_each_image_has_its_own_and_an_outlier_decides_only_the_common_one() -> None:
    graph, params = residual_network()
    x = images(12)
    (name,) = x
    session = FloatSession(graph, params, taps=[layer.name for layer in graph.layers])
    statistics = collect(session, [x], 1)
    x[name][3] *= 50  # far beyond the ranges that the statistics give
    trial = Trial(graph, params, x)
    quantization = quantize(graph, params, statistics, Recipe())
    by_image = trial.image_dbs(graph, params, quantization)
    integers, real = NumpySession(graph, params, quantization).run(x), session.run(x)
    expected = np.zeros((len(integers), 12))
    for place, (output, q) in enumerate(integers.items()):
        error = quantization.tensors[output].dequantize(q) - real[output]
        noise, power = (
            np.square(v, dtype=np.float64).reshape(12, -1).sum(axis=1) for v in (error, real[output])
        )
        expected[place] = 10 * np.log10(power / noise)
    assert by_image == pytest.approx(expected.mean(axis=0), abs=1e-3)
    assert by_image.argmin() == 3
    assert trial.output_db(graph, params, quantization) < by_image.mean() - 5


def test_a_network_that_changed_nothing_is_at_the_ceiling() -> None:
    graph, params = residual_network()
    assert Trial(graph, params, images(4)).float_db(graph, params) == 200.0
