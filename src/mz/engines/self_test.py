"""What this processor's kernels can be trusted with: tried once at start, on the inputs that break them most easily.

The same operator saturates on one processor and not on another: x86 without VNNI adds two products of uint8 x int8 in
16 bits. So each family of kernels runs a small network of extreme integers and is held to the numpy emulator. A family
that differs is left out of `Kernels`, and the exact float road takes its place.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mz.emulator import NumpySession
from mz.engines.lower_integer import integer_model
from mz.engines.lower_integer_tensors import FLOAT_ROAD, Kernels
from mz.errors import UserError
from mz.graph import (
    Activation,
    Add,
    Conv,
    GlobalAvgPool,
    Graph,
    Input,
    Layer,
    MatMul,
    Mul,
    Quantization,
    Sub,
    TensorQuant,
    WeightQuant,
)

if TYPE_CHECKING:
    import onnx

Feeds = Mapping[str, np.ndarray]
Probe = tuple[Graph, Quantization, Feeds]
Provider = str | tuple[str, dict[str, str]]

CUDA = ("CUDAExecutionProvider", {"use_tf32": "0", "cudnn_conv_algo_search": "DEFAULT"})
"""Neither TensorFloat-32 nor the transforms of Winograd and Fourier, which round: sums stay exact integers."""
CPU = "CPUExecutionProvider"
FAMILIES = tuple(field.name for field in dataclasses.fields(Kernels))
_PORTABLE_TOP = 64
"""Two weights of this size with the same sign: the most that 16-bit sums of products with 255 can hold."""


def providers(available: Sequence[str]) -> list[Provider]:
    """The providers to run on, best first: CUDA where this onnxruntime has it, then the processor."""
    return [CUDA, CPU] if CUDA[0] in available else [CPU]


def trusted_kernels(
    available: Sequence[str] | None = None,
) -> tuple[list[Provider], Kernels, tuple[str, ...]]:
    """Providers, the kernels that they compute exactly, and a note for each thing that had to be left out.

    Raises UserError where the float road, the last resort, is not exact on the processor. Measured once a process.
    """
    import onnxruntime

    return _trusted(tuple(available or onnxruntime.get_available_providers()), run_model)


@functools.cache
def _trusted(
    available: tuple[str, ...], run: Callable[..., dict[str, np.ndarray]]
) -> tuple[list[Provider], Kernels, tuple[str, ...]]:
    notes: list[str] = []
    chosen = providers(available)
    if chosen != [CPU]:
        if _holds(chosen, FLOAT_ROAD, _linear_probe(127), run):
            return chosen, FLOAT_ROAD, ()
        notes.append("CUDA: float32 convolutions of integers are not exact there: the processor takes over")
    if not _holds([CPU], FLOAT_ROAD, _linear_probe(127), run):
        raise UserError(
            "onnxruntime's float32 convolutions of integers are not exact on this processor: use --engine numpy"
        )
    found = {name: _holds([CPU], _only(name), probe, run) for name, probe in _probes()}
    kernels = Kernels(**found)
    expected = dataclasses.asdict(Kernels())
    notes += [
        f"self-test: onnxruntime's {name.replace('_', ' ')} kernels differ from numpy on this processor: "
        "the exact float road takes their place"
        for name in FAMILIES
        if expected[name] and not found[name]
    ]
    return [CPU], kernels, tuple(notes)


def run_model(model: onnx.ModelProto, feeds: Feeds, chosen: Sequence[Provider]) -> dict[str, np.ndarray]:
    """The model's outputs by name, on these providers."""
    session = open_integer_session(model, chosen)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def open_integer_session(
    model: onnx.ModelProto,
    chosen: Sequence[Provider],
    threads: int = 0,
    *,
    precise: bool = False,
    fused: bool = True,
) -> Any:
    """An onnxruntime session for integers. threads: 0 leaves the number to the runtime. precise: kernels for uint8 x
    int8 that do not saturate on processors without VNNI, where they are slower. fused: False keeps the runtime from
    putting integer layers, with weights of 8 bits, in the place of float ones between integers.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if precise:
        options.add_session_config_entry("session.x64quantprecision", "1")
    if not fused:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=list(chosen))


def _only(name: str) -> Kernels:
    """The float road with one family of kernels."""
    return dataclasses.replace(FLOAT_ROAD, **{name: True, "unsigned_conv": name in _NEED_UNSIGNED})


_NEED_UNSIGNED = ("unsigned_conv", "signed_conv")


def _holds(
    chosen: Sequence[Provider], kernels: Kernels, probe: Probe, run: Callable[..., dict[str, np.ndarray]]
) -> bool:
    graph, quantization, feeds = probe
    expected = NumpySession(graph, {}, quantization, threads=1).run(feeds)
    try:
        found = run(integer_model(graph, {}, quantization, kernels=kernels), feeds, chosen)
    except (
        Exception
    ):  # an operator that the runtime lacks is as good as a wrong one; it has no common base of errors
        return False
    return all(np.array_equal(found[name], value) for name, value in expected.items())


def _probes() -> Iterator[tuple[str, Probe]]:
    yield "unsigned_conv", _linear_probe(127)
    yield "signed_conv", _linear_probe(_PORTABLE_TOP)
    yield "any_signed_conv", _linear_probe(127)
    yield "quantize", _input_probe()
    yield "elementwise", _pair_probe()
    yield "average", _average_probe()
    yield "float_table", _table_probe()
    yield "matrix", _matrix_probe()


_SHAPES = ((67, 35, 1, 1, 1), (36, 17, 3, 1, 1), (36, 18, 3, 2, 2), (36, 36, 3, 1, 36), (19, 19, 5, 2, 19))
"""Channels in and out, kernel, stride, groups: whole blocks of the runtime's kernels, and remainders."""


def _linear_probe(top: int) -> Probe:
    """Convolutions of every shape with weights of +-`top` and inputs of 0 and 255: the largest sums there are."""
    rng = np.random.default_rng(0)
    size = 9
    layers: list[Layer] = []
    tensors: dict[str, TensorQuant] = {}
    weights: dict[str, WeightQuant] = {}
    feeds: dict[str, np.ndarray] = {}
    for number, (cin, cout, kernel, stride, groups) in enumerate(_SHAPES):
        x, y, pad = f"x{number}", f"y{number}", kernel // 2
        out = (size + 2 * pad - kernel) // stride + 1
        tensors[x] = TensorQuant(np.float32(1), (0, 255, 128, 3, 0)[number], 8)
        shape = (cout, cin // groups, kernel, kernel)
        taps = shape[1] * kernel * kernel
        tensors[y] = TensorQuant(np.float32(top * taps), (0, 255, 127, 128, 1)[number], 8)
        limit = 127 if groups == cin else top
        signs = np.sign(rng.normal(np.linspace(-2, 2, cout)[:, None, None, None], 1.0, shape))
        scale = (2.0 ** rng.uniform(-1, 1, cout)).astype(np.float32)
        bias = rng.integers(-9999, 9999, cout)
        weights[y] = WeightQuant((signs * limit).astype(np.int8), scale, bias, 8)
        layers += [
            Input(name=x, inputs=(), shape=(cin, size, size)),
            Conv(
                name=y,
                inputs=(x,),
                shape=(cout, out, out),
                kernel_shape=(kernel, kernel),
                strides=(stride, stride),
                pads=(pad,) * 4,
                groups=groups,
            ),
        ]
        q = rng.choice([0, 255, 255, 255], (2, cin, size, size))
        feeds[x] = tensors[x].dequantize(q)
    outputs = tuple(layer.name for layer in layers if isinstance(layer, Conv))
    return Graph("linear", tuple(layers), outputs), Quantization(tensors, weights), feeds


def _pair_probe() -> Probe:
    """All 65,536 pairs of integers through sums, differences and products, with odd and even zero points."""
    a, b = np.meshgrid(np.arange(256), np.arange(256))
    shape = (1, 256, 256)
    inputs = (Input(name="a", inputs=(), shape=shape), Input(name="b", inputs=(), shape=shape))
    tensors = {"a": TensorQuant(np.float32(0.5), 255, 8), "b": TensorQuant(np.float32(0.37), 77, 8)}
    layers: list[Layer] = []
    for kind, scale, zero in (
        (Add, 1.0, 128),
        (Add, 0.4, 7),
        (Sub, 0.5, 130),
        (Mul, 9.0, 100),
        (Mul, 0.74, 3),
    ):
        name = f"y{len(layers)}"
        tensors[name] = TensorQuant(np.float32(scale), zero, 8)
        layers.append(kind(name=name, inputs=("a", "b"), shape=shape))
    graph = Graph("pairs", (*inputs, *layers), tuple(layer.name for layer in layers))
    feeds = {name: tensors[name].dequantize(q[None, None]) for name, q in (("a", a), ("b", b))}
    return graph, Quantization(tensors), feeds


def _input_probe() -> Probe:
    """Ties, values beyond the range, infinities."""
    ties = np.arange(-300, 300, 0.5, dtype=np.float32) * np.float32(0.25)
    x = np.concatenate([ties, np.array([np.inf, -np.inf, 3e38, -3e38, -0.0, 1e-45], np.float32)])
    names = ("x", "y")
    graph = Graph("inputs", tuple(Input(name=name, inputs=(), shape=x.shape) for name in names), names)
    tensors = {"x": TensorQuant(np.float32(0.25), 101, 8), "y": TensorQuant(np.float32(0.1), 255, 8)}
    return _with_identity(graph, tensors, dict.fromkeys(names, x[None]))


def _with_identity(graph: Graph, tensors: dict[str, TensorQuant], feeds: Feeds) -> Probe:
    """Inputs cannot be outputs under the same name: a table that changes nothing follows each."""
    whole = (-np.inf, np.inf)
    copies = tuple(
        Activation(name=f"{x.name}_same", inputs=(x.name,), shape=x.shape, function="clip", constants=whole)
        for x in graph.layers
    )
    tensors = tensors | {copy.name: tensors[copy.inputs[0]] for copy in copies}
    graph = Graph(graph.name, (*graph.layers, *copies), tuple(copy.name for copy in copies))
    return graph, Quantization(tensors), feeds


def _average_probe() -> Probe:
    x = Input(name="x", inputs=(), shape=(19, 13, 13))
    mean = GlobalAvgPool(name="y", inputs=("x",), shape=(19, 1, 1))
    tensors = {"x": TensorQuant(np.float32(1), 200, 8), "y": TensorQuant(np.float32(0.8), 129, 8)}
    rng = np.random.default_rng(1)
    q = rng.integers(0, 256, (4, 19, 13, 13))
    q[:2] = rng.choice([0, 255], (2, 19, 1, 1))
    feeds = {"x": tensors["x"].dequantize(q)}
    return Graph("means", (x, mean), ("y",)), Quantization(tensors), feeds


def _table_probe() -> Probe:
    """Every integer through each function that has a float form."""
    x = Input(name="x", inputs=(), shape=(256,))
    layers: list[Layer] = []
    tensors = {"x": TensorQuant(np.float32(0.047), 127, 8)}
    for function, constants, scale, zero in (
        ("hard_sigmoid", (1 / 6, 0.5), 1 / 255, 0),
        ("hard_swish", (), 0.029, 13),
        ("leaky_relu", (0.1,), 0.03, 20),
    ):
        name = f"y_{function}"
        layers.append(
            Activation(name=name, inputs=("x",), shape=(256,), function=function, constants=constants)
        )
        tensors[name] = TensorQuant(np.float32(scale), zero, 8)
    graph = Graph("tables", (x, *layers), tuple(layer.name for layer in layers))
    return graph, Quantization(tensors), {"x": tensors["x"].dequantize(np.arange(256)[None])}


def _matrix_probe() -> Probe:
    """Products of whole blocks and remainders with the largest sums there are, rounded to 8 and to 16 bits."""
    rng = np.random.default_rng(2)
    layers: list[Layer] = []
    tensors: dict[str, TensorQuant] = {}
    feeds: dict[str, np.ndarray] = {}
    cases = ((0, 255, 255, 8, 260.0), (128, 3, 40_000, 16, 0.7))
    for number, (zero_a, zero_b, zero_out, bits, scale) in enumerate(cases):
        names, shapes = (f"a{number}", f"b{number}"), ((2, 19, 67), (2, 67, 35))
        for name, shape, zero in zip(names, shapes, (zero_a, zero_b), strict=True):
            tensors[name] = TensorQuant(np.float32(0.37), zero, 8)
            layers.append(Input(name=name, inputs=(), shape=shape))
            feeds[name] = tensors[name].dequantize(rng.choice([0, 1, 255, 255], (2, *shape)))
        y = f"y{number}"
        tensors[y] = TensorQuant(np.float32(scale), zero_out, bits)
        layers.append(MatMul(name=y, inputs=names, shape=(2, 19, 35), factor=0.3))
    outputs = tuple(layer.name for layer in layers if isinstance(layer, MatMul))
    return Graph("matrices", tuple(layers), outputs), Quantization(tensors), feeds
