"""One layer at a time, in the runtime or in numpy: the emulator's integers either way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from tests.emulator.strategies import CASES

from mz.emulator import layer_constants
from mz.emulator.kernels import run_kernel
from mz.engines import one_layer
from mz.engines.lower_integer_tensors import FLOAT_ROAD
from mz.engines.self_test import CPU, trusted_kernels


def held_to_the_emulator(case) -> None:
    tensors, layer = case.quantization.tensors, case.layer
    constants = layer_constants(case.graph, layer, case.params, case.quantization)
    inputs = [case.integers[name].astype(np.int32) for name in layer.inputs]
    narrow = [case.integers[name].astype(carrier(tensors[name])) for name in layer.inputs]
    found = one_layer.layer_run(case.graph, layer, constants, case.quantization)(narrow)
    assert found.dtype == carrier(tensors[layer.name])
    assert np.array_equal(found, run_kernel(layer, constants, inputs))


def carrier(tensor) -> type:
    return np.uint8 if tensor.bits <= 8 else np.uint16


@pytest.mark.parametrize("kind", CASES)
def test_every_kind_gives_the_emulators_integers_in_their_carrier(kind):
    @settings(max_examples=60, deadline=None)
    @given(CASES[kind])
    def check(case):
        held_to_the_emulator(case)

    check()


def test_the_runtime_takes_the_layers_of_8_bits_where_it_is_exact_and_numpy_the_others(monkeypatch):
    taken: list[int] = []
    opened = one_layer.open_integer_session
    monkeypatch.setattr(
        one_layer, "open_integer_session", lambda *args, **more: taken.append(1) or opened(*args, **more)
    )

    @settings(max_examples=60, deadline=None)
    @given(CASES["conv"])
    def check(case):
        taken.clear()
        held_to_the_emulator(case)
        quantization, name = case.quantization, case.layer.name
        bits = [tensor.bits for tensor in quantization.tensors.values()]
        narrow = max(*bits, quantization.weights[name].bits) <= 8
        assert bool(taken) == (narrow and trusted)

    providers, kernels, _ = trusted_kernels()
    trusted = providers == [CPU] and kernels.unsigned_conv and kernels.elementwise
    check()
    trusted = False
    monkeypatch.setattr(one_layer, "trusted_kernels", lambda: ([CPU], FLOAT_ROAD, ()))
    check()
