"""Bytes and multiply-accumulates, against graphs worked out by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mz.compiler import summarize
from mz.compiler.summary import activation_peak_bytes, packed_bytes
from mz.graph import (
    Activation,
    Add,
    Concat,
    Conv,
    Dense,
    Graph,
    Input,
    Layer,
    Quantization,
    Softmax,
    TensorQuant,
    WeightQuant,
)


def layer(cls, name: str, size: int, *inputs: str, **fields) -> Layer:
    return cls(name=name, inputs=inputs, shape=(size,), **fields)


def table(name: str, size: int, source: str) -> Layer:
    return layer(Activation, name, size, source, function="abs")


def peak(*layers: Layer, outputs: tuple[str, ...], bits: dict[str, int] | None = None) -> int:
    tensors = {
        one.name: TensorQuant(np.float32(1), 0, (bits or {}).get(one.name, 8))
        for one in layers
        if not one.host
    }
    return activation_peak_bytes(Graph("g", layers, outputs), Quantization(tensors))


X = layer(Input, "x", 100)


def test_a_chain_holds_two_tensors():
    chain = (X, table("a", 30, "x"), table("b", 200, "a"), table("c", 10, "b"))
    assert peak(*chain, outputs=("c",)) == 30 + 200


def test_bits_count():
    chain = (X, table("a", 30, "x"), table("b", 201, "a"), table("c", 10, "b"))
    assert peak(*chain, outputs=("c",), bits={"a": 16, "b": 4}) == 60 + 101
    assert peak(*chain, outputs=("c",), bits={"b": 16}) == 30 + 402


def test_a_residual_keeps_its_shortcut():
    """At c: x (for the addition), b and c are alive; a is not."""
    layers = (
        X,
        table("a", 50, "x"),
        table("b", 40, "a"),
        table("c", 45, "b"),
        layer(Add, "y", 100, "x", "c"),
    )
    assert peak(*layers, outputs=("y",)) == max(100 + 50 + 40, 100 + 40 + 45, 100 + 45 + 100)


def test_a_concat_holds_all_its_parts_and_the_whole():
    layers = (X, table("a", 20, "x"), table("b", 30, "x"), layer(Concat, "y", 150, "a", "b", "x"))
    assert peak(*layers, outputs=("y",)) == 20 + 30 + 100 + 150


def test_outputs_stay_to_the_end():
    layers = (X, table("first", 70, "x"), table("a", 20, "x"), table("b", 90, "a"), table("c", 80, "b"))
    assert peak(*layers, outputs=("first", "c")) == 70 + 90 + 80
    assert peak(*layers, outputs=("c",)) == 100 + 70


def test_a_tensor_for_the_host_is_an_output_and_host_layers_take_none():
    host = layer(Softmax, "s", 500, "a", host=True)
    assert peak(X, table("a", 60, "x"), host, table("b", 90, "x"), outputs=("s", "b")) == 100 + 60 + 90


def test_a_tensor_read_twice_by_one_layer_counts_once():
    assert peak(X, layer(Add, "y", 100, "x", "x"), outputs=("y",)) == 200


@given(st.integers(0, 10_000), st.sampled_from([4, 8, 16]))
def test_packed_bytes(values, bits):
    assert packed_bytes(values, bits) == len(np.packbits(np.zeros(values * bits, np.uint8)))


def test_a_summary_adds_up():
    x = Input(name="x", inputs=(), shape=(3, 5, 5))
    conv = Conv(name="conv1", inputs=("x",), shape=(4, 3, 3), kernel_shape=(3, 3))
    grouped = Conv(name="dw1", inputs=("conv1",), shape=(4, 3, 3), kernel_shape=(1, 1), groups=4)
    fc = Dense(name="fc1", inputs=("dw1",), shape=(4, 3, 5))
    host = Softmax(name="softmax1", inputs=("fc1",), shape=(4, 3, 5), host=True)
    graph = Graph("net", (x, conv, grouped, fc, host), ("softmax1",))
    bits = {"x": 8, "conv1": 4, "dw1": 16, "fc1": 8}

    def weight(*shape: int, bits: int) -> WeightQuant:
        return WeightQuant(
            np.zeros(shape, np.int8), np.ones(shape[0], np.float32), np.zeros(shape[0], np.int64), bits
        )

    quantization = Quantization(
        {name: TensorQuant(np.float32(1), 0, b) for name, b in bits.items()},
        {"conv1": weight(4, 3, 3, 3, bits=8), "dw1": weight(4, 1, 1, 1, bits=4), "fc1": weight(5, 3, bits=4)},
    )
    found = summarize(graph, quantization)
    entries = {entry["name"]: entry for entry in found["layers"]}
    assert list(entries) == ["x", "conv1", "dw1", "fc1", "softmax1"]
    assert {name: entry.get("macs") for name, entry in entries.items()} == {
        "x": 0, "conv1": 36 * 27, "dw1": 36, "fc1": 60 * 3, "softmax1": None,
    }  # fmt: skip
    assert [entry.get("weight_bytes") for entry in entries.values()] == [None, 108, 2, 8, None]
    # fc1 reads 16-bit activations: its biases are wide.
    assert [entry.get("bias_bytes") for entry in entries.values()] == [None, 16, 16, 40, None]
    assert [entry.get("activation_bytes") for entry in entries.values()] == [75, 18, 72, 60, None]
    assert entries["dw1"]["precision"] == "a16_w4" and entries["softmax1"]["host"] is True
    assert found["macs"] == 36 * 27 + 36 + 180
    assert (found["weight_bytes"], found["bias_bytes"]) == (118, 72)
    assert found["float_weight_bytes"] == 4 * (108 + 4 + 15) + 4 * (4 + 4 + 5)
    assert found["activation_peak_bytes"] == 72 + 60
    assert (found["layers_on_accelerator"], found["layers_on_host"]) == (3, 1)
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize("bits", [4, 8])
def test_wide_weights_make_wide_biases(bits):
    x = Input(name="x", inputs=(), shape=(3,))
    graph = Graph("net", (x, Dense(name="fc1", inputs=("x",), shape=(2,))), ("fc1",))
    t = TensorQuant(np.float32(1), 0, bits)
    weight = WeightQuant(np.zeros((2, 3), np.int16), np.ones(2, np.float32), np.zeros(2, np.int64), 16)
    found = summarize(graph, Quantization({"x": t, "fc1": t}, {"fc1": weight}))
    assert (found["weight_bytes"], found["bias_bytes"]) == (12, 16)
