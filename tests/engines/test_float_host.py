"""The host's part of a graph: fed with the accelerator's own tensors, it gives what the whole graph gives."""

from __future__ import annotations

import numpy as np
import pytest

from mz.engines import float_ort
from mz.engines.float_ort import FloatSession, HostSession, TappedSession
from mz.engines.lower_host import WHOLE_INPUTS
from mz.graph import Activation, Add, Conv, Graph, HostOp, Input, Softmax


def host(name: str, operator: str, inputs: tuple[str, ...], shape=(3, 4), attributes=(), constants=()):
    return HostOp(
        name=name,
        inputs=inputs,
        shape=shape,
        host=True,
        operator=operator,
        attributes=attributes,
        constants=constants,
    )


GRAPH = Graph(
    "mixed",
    (
        Input(name="x", inputs=(), shape=(3, 4)),
        Activation(name="a", inputs=("x",), shape=(3, 4), function="tanh"),
        Softmax(name="s", inputs=("a",), shape=(3, 4), axis=1, host=True),
        Add(name="b", inputs=("a", "x"), shape=(3, 4)),
        host("d", "Div", ("b", "s")),
        host("e", "Sub", ("d",), constants=((0, (4,)),)),
    ),
    ("b", "e", "a"),
)
PARAMS = {"e": {"input0": np.arange(4, dtype=np.float32)}}


def test_a_tensor_may_be_read_on_both_sides_and_leave_as_well() -> None:
    x = np.random.default_rng(0).standard_normal((5, 3, 4)).astype(np.float32)
    whole = FloatSession(GRAPH, PARAMS, taps=["a"], threads=1).run({"x": x})
    assert GRAPH.accelerator_outputs() == ("a", "b")
    found = HostSession(GRAPH, PARAMS, threads=1).run({name: whole[name] for name in ("a", "b")})
    assert list(found) == ["b", "e", "a"]
    for name, value in found.items():
        np.testing.assert_array_equal(value, whole[name])


def test_a_pass_finds_what_single_runs_find_whatever_the_sizes_of_its_batches() -> None:
    """Arrays of a run hold until the next one; an input that is asked for is the caller's own."""
    rng = np.random.default_rng(0)
    names = [layer.name for layer in GRAPH.layers if not layer.host]
    single, tapped = FloatSession(GRAPH, PARAMS, taps=names), TappedSession(GRAPH, PARAMS)
    for size in (3, 5, 1, 5):
        x = rng.standard_normal((size, 3, 4)).astype(np.float32)
        wanted, found = single.run({"x": x}), tapped.run({"x": x[::-1][::-1]})
        assert list(found) == list(wanted)
        for name, value in wanted.items():
            np.testing.assert_array_equal(found[name], value)


@pytest.mark.parametrize("tapped", "ab")
@pytest.mark.parametrize("channels", [3, 42])
def test_a_convolution_that_is_summed_may_be_tapped(channels: int, tapped: str) -> None:
    """onnxruntime fuses the two otherwise, with channels that its own layout does not take, and loses the tap."""
    rng = np.random.default_rng(0)
    shape = (channels, 4, 4)
    params = {
        name: {
            "kernel": rng.standard_normal((channels, channels, 1, 1)).astype(np.float32),
            "bias": rng.standard_normal(channels).astype(np.float32),
        }
        for name in "ab"
    }
    layers = [Conv(name=name, inputs=("x",), shape=shape, kernel_shape=(1, 1)) for name in "ab"]
    total = Add(name="y", inputs=("a", "b"), shape=shape, clip=(0.0, np.inf))
    graph = Graph("sum", (Input(name="x", inputs=(), shape=shape), *layers, total), ("y",))
    x = rng.standard_normal((2, *shape)).astype(np.float32)
    found = FloatSession(graph, params, taps=[tapped], threads=1).run({"x": x})[tapped]
    expected = np.einsum("oi,nihw->nohw", params[tapped]["kernel"][..., 0, 0], x)
    np.testing.assert_allclose(found, expected + params[tapped]["bias"][:, None, None], rtol=1e-4, atol=1e-4)


def test_memory_of_few_values_is_kept_for_the_next_session(monkeypatch) -> None:
    x = np.random.default_rng(0).standard_normal((5, 3, 4)).astype(np.float32)
    monkeypatch.setattr(TappedSession, "_memory", np.empty(0, np.float32))

    def memory() -> np.ndarray:
        """Of a session of its own."""
        return TappedSession(GRAPH, PARAMS).run({"x": x})["b"].base

    first = memory()
    assert memory() is first is TappedSession._memory
    monkeypatch.setattr(float_ort, "_MOST_KEPT", 10)
    monkeypatch.setattr(TappedSession, "_memory", np.empty(0, np.float32))
    assert memory() is not first and len(TappedSession._memory) == 0


def run(layer: HostOp, x: np.ndarray, params=None) -> np.ndarray:
    graph = Graph("one", (Input(name="x", inputs=(), shape=x.shape[1:]), layer), (layer.name,))
    return FloatSession(graph, {layer.name: params or {}}, threads=1).run({"x": x})[layer.name]


def test_constants_stand_in_their_places() -> None:
    x = np.full((2, 2), 2, np.float32)
    layer = host("y", "Where", ("x",), (2,), constants=((0, (2,)), (1, (2,))))
    params = {"input0": np.float32([1, 0]), "input1": np.float32([7, 8])}
    np.testing.assert_array_equal(run(layer, x, params), [[7, 2], [7, 2]])


@pytest.mark.parametrize(
    ("operator", "attributes", "expected"),
    [
        ("ReduceSum", {"axes": (2,), "keepdims": 0}, [[3, 12]]),
        ("Gather", {"axis": 2, "indices": (2, 0)}, [[[2, 0], [5, 3]]]),
        ("Expand", {"shape": (1, 2, 3)}, [[[0, 1, 2], [3, 4, 5]]]),
        ("Tile", {"repeats": (1, 1, 2)}, [[[0, 1, 2, 0, 1, 2], [3, 4, 5, 3, 4, 5]]]),
        ("ArgMax", {"axis": 2, "keepdims": 0}, [[2, 2]]),
        ("Cast", {"to": 9}, [[[0, 1, 1], [1, 1, 1]]]),
        ("Not", {}, [[[1, 0, 0], [0, 0, 0]]]),
    ],
)
def test_tensors_are_float_whatever_the_operator_wants(operator, attributes, expected) -> None:
    x = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    found = run(host("y", operator, ("x",), np.shape(expected)[1:], tuple(attributes.items())), x)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.float32(expected))


def test_every_operator_with_whole_inputs_is_tested_here() -> None:
    assert set(WHOLE_INPUTS) == {"ReduceSum", "Gather", "Expand", "Tile"}
