"""The differentiable forward pass against the emulator: every layer kind, whole networks, and its gradients."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from tests.emulator.strategies import CASES, Case

from mz.emulator import NumpySession

torch = pytest.importorskip("torch")

from mz.quantize.learned import lowering  # noqa: E402

QUIET = {
    "deadline": None,
    "derandomize": True,
    "database": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}


def test_every_kind_has_a_lowering_and_a_property_test() -> None:
    assert set(lowering.LOWERINGS) == set(CASES)


def integers_of(case: Case, dtype) -> np.ndarray:
    found = lowering.constant(case.graph, case.params, case.quantization, dtype)
    known = {
        name: torch.from_numpy(q - case.quantization.tensors[name].zero_point).to(dtype)
        for name, q in case.integers.items()
    }
    h = lowering.run(found, [case.layer], known, [case.layer.name])[case.layer.name]
    assert tuple(h.shape[1:]) == case.layer.shape
    return h.numpy().astype(np.int64) + case.quantization.tensors[case.layer.name].zero_point


@pytest.mark.parametrize("kind", CASES)
def test_the_emulators_integers(kind: str) -> None:
    """In float64 every sum is exact at any bits; in float32 wherever the emulator's own bound says so."""

    @settings(max_examples=60, **QUIET)
    @given(CASES[kind])
    def run(case: Case) -> None:
        expected = NumpySession(case.graph, case.params, case.quantization).run(case.feeds)[case.layer.name]
        np.testing.assert_array_equal(integers_of(case, torch.float64), expected)

    run()
