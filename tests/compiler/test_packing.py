"""Constants in the device's layout: what is packed comes back, and takes the bytes that it should."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tests.emulator.strategies import CASES, Case

from mz.compiler.folding import Folded, unfold
from mz.compiler.packing import pack, pack_array, unpack, unpack_array
from mz.emulator import layer_constants
from mz.emulator.constants import LinearConstants, PadConstants, PreluSumConstants, TableConstants
from mz.graph import Input


@given(arrays.arrays(np.int8, arrays.array_shapes(max_dims=4, max_side=5), elements=st.integers(-7, 7)))
def test_four_bit_values_stand_two_to_a_byte(values: np.ndarray):
    packed = pack_array(values, 4)
    assert len(packed) == -(-values.size // 2)
    assert np.array_equal(unpack_array(packed, "int4", values.shape), values)


def test_the_first_of_two_is_in_the_low_half():
    assert pack_array(np.array([1, -2, 3], np.int8), 4) == bytes([0xE1, 0x03])


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint16", "float32"])
def test_other_types_are_little_endian(dtype: str):
    values = np.arange(-3, 3).astype(dtype).reshape(2, 3)
    packed = pack_array(values, values.dtype.itemsize * 8)
    assert packed == values.astype(values.dtype.newbyteorder("<")).tobytes()
    found = unpack_array(packed, dtype, (2, 3))
    assert found.dtype == values.dtype and np.array_equal(found, values)


def test_bytes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="2 bytes cannot hold 5 values"):
        unpack_array(b"ab", "int4", (5,))
    with pytest.raises(ValueError):
        unpack({}, {"format": 1, "bytes": 0, "layers": []})


@given(st.one_of(*CASES.values()))
def test_a_layer_comes_back_whole(case: Case):
    graph, params, quantization = case.graph, case.params, case.quantization
    packed = pack(graph, params, quantization)
    index = json.loads(json.dumps(packed.index))
    found = unpack(packed.data, index)
    assert list(found) == [one.name for one in graph.layers if not one.host and not isinstance(one, Input)]
    used = np.zeros(len(packed.data), int)
    for entry in index["layers"]:
        for array in entry["arrays"]:
            assert array["offset"] % 16 == 0
            used[array["offset"] : array["offset"] + array["bytes"]] += 1
        constants = layer_constants(graph, graph[entry["name"]], params, quantization)
        arrays = found[entry["name"]]
        if "lines" in arrays:
            assert isinstance(constants, TableConstants)
            table = unfold(Folded(arrays.pop("lines"), arrays.pop("rest")), constants.table.shape[1])
            assert np.array_equal(table, constants.table)
        for name, array in arrays.items():
            if isinstance(constants, LinearConstants | TableConstants | PadConstants):
                assert np.array_equal(array, getattr(constants, name))
        assert ("fill" in arrays) == isinstance(constants, PadConstants)
        assert ("below" in arrays) == (getattr(constants, "below", None) is not None)
        if isinstance(constants, PreluSumConstants):
            assert np.array_equal(arrays.pop("below"), constants.below)
            assert set(arrays) == {"a", "b", "offset", "unit"}
            assert all(np.array_equal(array, getattr(constants.sum, name)) for name, array in arrays.items())
        if isinstance(constants, LinearConstants):
            assert entry["constants"]["zero_in"] == constants.zero_in
            assert packed.layer_bytes()[entry["name"]] == sum(array["bytes"] for array in entry["arrays"])
    assert used.max(initial=0) <= 1, "arrays overlap"
