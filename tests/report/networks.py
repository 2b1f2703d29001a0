"""Archives for the tests of the page: one with every section, and one of many layers."""

from __future__ import annotations

import dataclasses

import numpy as np
from tests.archive.archives import make_archive

from mz.archive import Archive
from mz.graph import Add, Conv, Graph, Input, Layer, Params, Quantization, TensorQuant, WeightQuant


def deep_archive(convolutions: int) -> Archive:
    """A residual network of so many convolutions, quantized, without any measurement."""
    rng = np.random.default_rng(0)
    layers: list[Layer] = [Input(name="input_layer1", inputs=(), shape=(8, 16, 16))]
    params: Params = {}
    for number in range(1, convolutions + 1):
        name, last = f"conv{number}", layers[-1].name
        layers.append(
            Conv(name=name, inputs=(last,), shape=(8, 16, 16), kernel_shape=(3, 3), pads=(1, 1, 1, 1))
        )
        params[name] = {
            "kernel": rng.standard_normal((8, 8, 3, 3)).astype(np.float32),
            "bias": np.zeros(8, np.float32),
        }
        if number % 4 == 0:
            layers.append(
                Add(name=f"ew_add{number // 4}", inputs=(name, f"conv{number - 2}"), shape=(8, 16, 16))
            )
    weights = {
        name: WeightQuant(
            rng.integers(-127, 128, (8, 8, 3, 3)).astype(np.int8),
            np.ones(8, np.float32),
            np.zeros(8, np.int64),
            8,
        )
        for name in params
    }
    tensors = {layer.name: TensorQuant(np.float32(0.05), 10, 8) for layer in layers}
    return Archive(
        name="deep",
        state="quantized",
        hw_arch="mz8",
        config={},
        graph=Graph(name="deep", layers=tuple(layers), outputs=(layers[-1].name,)),
        params=params,
        quantization=Quantization(tensors, weights),
    )


def renamed(graph: Graph, old: str, new: str) -> Graph:
    """The graph with one layer under another name."""
    layers = tuple(
        dataclasses.replace(
            layer,
            name=new if layer.name == old else layer.name,
            inputs=tuple(new if name == old else name for name in layer.inputs),
        )
        for layer in graph.layers
    )
    return Graph(
        name=graph.name, layers=layers, outputs=tuple(new if name == old else name for name in graph.outputs)
    )


def measured_archive(name: str = "conv1") -> Archive:
    """A compiled network that has every section; its first convolution is called `name`."""
    plain = deep_archive(8)
    graph = renamed(plain.graph, "conv1", name)
    assert plain.quantization is not None

    def moved(by_layer: dict) -> dict:
        return {name if key == "conv1" else key: value for key, value in by_layer.items()}

    quantization = Quantization(moved(plain.quantization.tensors), moved(plain.quantization.weights))
    names = [layer.name for layer in graph.layers]
    intervals = {"metrics": {"top1": 90.0}, "ci95": {"top1": [88.0, 92.0]}}
    accuracy = {
        "dataset": "photographs",
        "count": 1000,
        "damaged": 0,
        "engine": "onnxruntime",
        "precision": "a8_w8",
        "metrics": {"top1": 89.5},
        "ci95": {"top1": [87.4, 91.5]},
        "baseline": intervals,
        "degradation": {"top1": {"value": 0.5, "low": -0.1, "high": 1.1}},
        "agreement": 98.25,
        "snr_db": 31.5,
        "saturation": {name: {"total": 1000, "low": 3, "high": 4} for name in names},
    }
    seen = {"low": -1.0, "high": 2.0, "start": -1.0, "width": 1.0, "counts": [5, 0, 7]}
    step = {"name": "equalization", "requested": True, "applied": False, "note": "brings nothing here"}
    tensors = [
        {
            "name": layer,
            "offset": 2048 * (index % 3),
            "bytes": 2048,
            "first_step": index,
            "last_step": index + 2,
        }
        for index, layer in enumerate(names)
    ]
    plan = {"arena_bytes": 6144, "lower_bound": 6144, "heuristic": "greedy_by_size", "tensors": tensors}
    verdict = {"images": 64, "integers": 640, "differing": 0, "against": "numpy emulator"}
    return dataclasses.replace(
        plain,
        state="compiled",
        graph=graph,
        params=moved(plain.params),
        quantization=quantization,
        report={
            "optimize": {
                "noise": {
                    "output_db": 30.0,
                    "images": 32,
                    "layers": {name: 40.0 - i for i, name in enumerate(names)},
                },
                "activations": dict.fromkeys(names, seen),
                "steps": [step],
                "notes": ["a note"],
            },
            "accuracy": {"emulator": accuracy},
            "compile": {"verify": verdict, "memory_plan": plan},
        },
        artefacts={"deep.onnx": b"123"},
    )


def every_state() -> dict[str, Archive]:
    """Random small archives by state."""
    return {state: make_archive(3, state) for state in ("parsed", "fp_optimized", "quantized", "compiled")}
