"""The differentiable forward pass against the emulator: every layer kind, whole networks, and its gradients."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from tests.emulator.strategies import CASES, Case
from tests.quantize.networks import images, residual_network

from mz import flow
from mz.emulator import NumpySession
from mz.engines.float_ort import FloatSession
from mz.flow.options import ModelRef, OptimizeOptions
from mz.graph import (
    Activation,
    Add,
    Conv,
    Graph,
    Input,
    Layer,
    Precision,
    Quantization,
    TensorQuant,
    WeightQuant,
)
from mz.graph.functions import ARRAYS, BY_CHANNEL, FUNCTIONS, SCALING, along_channels, apply
from mz.quantize import Recipe, collect, quantize

torch = pytest.importorskip("torch")

from mz.quantize.learned import lowering  # noqa: E402
from mz.quantize.learned.integers import constant, quantize_input  # noqa: E402
from mz.quantize.learned.straight_through import requantize  # noqa: E402

QUIET = {
    "deadline": None,
    "derandomize": True,
    "database": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}


def test_every_kind_has_a_lowering_and_a_property_test() -> None:
    assert set(lowering.LOWERINGS) == set(CASES)


def integers_of(case: Case, dtype) -> np.ndarray:
    found = constant(case.graph, case.params, case.quantization, dtype)
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

    @settings(max_examples=25, **QUIET)
    @given(CASES[kind])
    def run(case: Case) -> None:
        expected = NumpySession(case.graph, case.params, case.quantization).run(case.feeds)[case.layer.name]
        np.testing.assert_array_equal(integers_of(case, torch.float64), expected)

    run()


@pytest.mark.slow
@pytest.mark.parametrize("kind", CASES)
def test_the_emulators_integers_at_length(kind: str) -> None:
    @settings(max_examples=500, **QUIET)
    @given(CASES[kind])
    def run(case: Case) -> None:
        expected = NumpySession(case.graph, case.params, case.quantization).run(case.feeds)[case.layer.name]
        np.testing.assert_array_equal(integers_of(case, torch.float64), expected)

    run()


def largest_difference(graph, params, quantization, feeds) -> int:
    """Over every tensor of the network, sums in float32 as fine-tuning has them."""
    layers = lowering.runnable(graph)
    names = [layer.name for layer in layers]
    expected = NumpySession(graph, params, quantization, taps=names).run(feeds)
    held = constant(graph, params, quantization, torch.float32)
    known = {
        name: quantize_input(held, name, torch.from_numpy(x), torch.float32) for name, x in feeds.items()
    }
    found = lowering.run(held, layers, known, names)
    return max(
        int(np.abs(h.numpy() + quantization.tensors[name].zero_point - expected[name]).max())
        for name, h in found.items()
    )


@pytest.mark.parametrize("precision", ["a8_w8", "a8_w4", "a4_w4"])
def test_a_network_of_eight_bits_is_exact_in_float32(precision: str) -> None:
    graph, params = residual_network()
    session = FloatSession(graph, params, taps=[layer.name for layer in graph.layers])
    recipe = Recipe(Precision.parse(precision))
    quantization = quantize(graph, params, collect(session, [images(32)], 1), recipe)
    assert largest_difference(graph, params, quantization, images(16, seed=5)) == 0


@pytest.mark.parametrize("network", ["resnet8_fashion", "mobilenet_v2_fashion", "mobilenet_v3_fashion"])
def test_bundled_networks_are_exact_in_float32(network: str) -> None:
    options = OptimizeOptions(calib_count=16, optimization_level=-100)
    archive = flow.optimize(ModelRef(model=network), options).archive
    feeds = {"input_layer1": np.random.default_rng(0).normal(0, 1, (8, 1, 32, 32)).astype(np.float32)}
    assert largest_difference(archive.graph, archive.params, archive.quantization, feeds) == 0


def test_requantization_passes_the_gradient_of_its_clip() -> None:
    rng = np.random.default_rng(0)
    sums = torch.from_numpy(rng.integers(-400, 400, (4, 3, 5, 5)).astype(np.float32)).requires_grad_()
    m = torch.tensor([0.3, 0.05, 0.71]).reshape(-1, 1, 1).requires_grad_()
    low, high = (torch.tensor(end, dtype=torch.float64, requires_grad=True) for end in (-20.0, 60.0))
    weights = torch.from_numpy(rng.normal(size=(4, 3, 5, 5)).astype(np.float32))
    hard = torch.autograd.grad((requantize(sums, m, low, high) * weights).sum(), (sums, m, low, high))
    soft = (sums * m).maximum(low.float()).minimum(high.float())
    expected = torch.autograd.grad((soft * weights).sum(), (sums, m, low, high))
    for found, wanted in zip(hard, expected, strict=True):
        np.testing.assert_allclose(found.numpy(), wanted.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("function", [*FUNCTIONS, *BY_CHANNEL])
def test_the_slopes_of_tables_are_those_of_the_function(function: str, scaled: bool) -> None:
    """f(s_x h) / s_y, moved a little in h, s_x and s_y, wherever it is neither clipped nor bent."""
    scaled = scaled and function in FUNCTIONS
    affine = (-0.8, 0.3) if scaled else (1.0, 0.0)
    layer = Activation(name="y", inputs=("x",), shape=(2, 3), function=function, affine=affine, scaled=scaled)
    x, y = TensorQuant(np.float32(0.03), 100, 8), TensorQuant(np.float32(0.05), 60, 8)
    own = {"slope": [0.1, -0.3], "factor": [0.8, -1.5], "offset": [0.2, -0.1], "gain": [1.3, 0.7]}
    names = SCALING if scaled else ARRAYS.get(function, ())
    params = {"y": {name: np.array(own[name], np.float32) for name in names}}
    graph = Graph("one", (Input(name="x", inputs=(), shape=(2, 3)), layer), ("y",))
    integers = constant(graph, params, Quantization({"x": x, "y": y}), torch.float64)
    scales = {name: scale.requires_grad_() for name, scale in integers.scales.items()}
    h = torch.tensor([[[-77.0, -5.0, 40.0], [3.0, 21.0, -40.0]]], dtype=torch.float64, requires_grad=True)
    found = torch.autograd.grad(
        lowering.run(integers, [layer], {"x": h}, ["y"])["y"].sum(), (h, scales["x"], scales["y"])
    )
    arrays = along_channels(params["y"], 1)

    def value(steps: np.ndarray, scale_x: float, scale_y: float) -> np.ndarray:
        with np.errstate(divide="ignore", over="ignore"):
            real = apply(function, scale_x * steps, (), arrays, affine) / scale_y
        return np.clip(real, -y.zero_point, y.q_max - y.zero_point)

    at, sx, sy, e = h.detach().numpy(), float(x.scale), float(y.scale), 1e-6
    by_h = (value(at + e, sx, sy) - value(at - e, sx, sy)) / (2 * e)
    by_x = (value(at, sx + e * sx, sy) - value(at, sx - e * sx, sy)).sum() / (2 * e * sx)
    by_y = (value(at, sx, sy + e * sy) - value(at, sx, sy - e * sy)).sum() / (2 * e * sy)
    np.testing.assert_allclose(found[0].numpy(), by_h, rtol=1e-3, atol=1e-4)
    assert float(found[1]) == pytest.approx(by_x, rel=2e-3, abs=1e-2)
    assert float(found[2]) == pytest.approx(by_y, rel=2e-3, abs=1e-2)


@pytest.mark.parametrize("kind", ["conv", "add"])
def test_prelus_in_other_layers_have_their_gradients(kind: str) -> None:
    """Of the real function, by integers and scales: one slope on either side of 0, one of them being 0."""
    slope = np.array([0.25, 0.0, -0.5], np.float32)
    factor, offset = np.array([1.5, -0.7, 1.0], np.float32), np.array([0.3, -0.2, 0.0], np.float32)
    shape, inputs = (3, 1, 2), ("a", "b")[: 1 + (kind == "add")]
    quants = {"a": TensorQuant(np.float32(0.03), 100, 8), "b": TensorQuant(np.float32(0.02), 128, 8)}
    quantization = Quantization({name: quants[name] for name in inputs})
    quantization.tensors["y"] = TensorQuant(np.float32(0.05), 120, 8)
    kernel = np.array([40, -25, 33])
    if kind == "add":
        layer: Layer = Add(name="y", inputs=inputs, shape=shape, prelu=True)
        params = {"y": {"factor": factor, "offset": offset, "slope": slope}}
    else:
        layer = Conv(name="y", inputs=inputs, shape=shape, kernel_shape=(1, 1), groups=3, prelu=True)
        params = {"y": {"slope": slope}}
        scale = np.array([0.03, 0.02, 0.04], np.float32)
        quantization.weights["y"] = WeightQuant(kernel.reshape(3, 1, 1, 1), scale, np.array([7, -9, 0]), 8)
    layers = [Input(name=name, inputs=(), shape=shape) for name in inputs]
    integers = constant(Graph("one", (*layers, layer), ("y",)), params, quantization, torch.float64)
    scales = [integers.scales[name].requires_grad_() for name in (*inputs, "y")]
    steps = [[-40.0, 30.0], [21.0, -33.0], [15.0, -44.0]], [[-11.0, 5.0], [9.0, 8.0], [-2.0, 7.0]]
    h = [torch.tensor(one, dtype=torch.float64).reshape(1, *shape).requires_grad_() for one in steps]
    h = h[: len(inputs)]
    hard = lowering.run(integers, [layer], dict(zip(inputs, h, strict=True)), ["y"])["y"].sum()

    real = sum(step * one.double() for step, one in zip(h, scales, strict=False))
    if kind == "add":
        real = real * torch.from_numpy(factor).reshape(3, 1, 1) + torch.from_numpy(offset).reshape(3, 1, 1)
    else:
        weight = torch.from_numpy(kernel * scale.astype(np.float64)).reshape(3, 1, 1)
        bias = torch.from_numpy(np.array([7, -9, 0]) * scale.astype(np.float64)).reshape(3, 1, 1)
        real = real * weight + bias * scales[0].double()
    soft = (
        torch.where(real < 0, real * torch.from_numpy(slope).reshape(3, 1, 1), real).sum()
        / scales[-1].double()
    )
    assert hard.item() == pytest.approx(soft.item(), abs=3.0)
    wanted = [*h, *scales]
    for found, expected in zip(
        torch.autograd.grad(hard, wanted), torch.autograd.grad(soft, wanted), strict=True
    ):
        np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=0.02, atol=1e-3)
