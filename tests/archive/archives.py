"""Small random archives for the tests of the archive."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from mz.archive import Archive
from mz.archive.model import kernel_shape, output_channels, param_shapes
from mz.graph import (
    Activation,
    Add,
    Conv,
    Deconv,
    Dense,
    GlobalAvgPool,
    Graph,
    HostOp,
    Input,
    Layer,
    Params,
    Quantization,
    Reshape,
    Softmax,
    TensorQuant,
    Weighted,
    WeightQuant,
)
from mz.graph.layers import UNBOUNDED


def make_graph(rng: np.random.Generator, depth: int = 3) -> Graph:
    """A chain of random convolutions and friends with a residual add, a classifier and a softmax on the host."""
    channels, side = int(rng.integers(1, 4)), 4
    layers: list[Layer] = [Input(name="input_layer1", inputs=(), shape=(channels, side, side))]
    for index in range(1, depth + 1):
        last = layers[-1]
        kind = rng.integers(0, 4)
        name = f"layer{index}"
        if kind == 0:
            layers.append(Activation(name=name, inputs=(last.name,), shape=last.shape, function="prelu"))
        elif kind == 1:
            shape = (int(rng.integers(1, 5)), side, side)
            layers.append(
                Deconv(
                    name=name,
                    inputs=(last.name,),
                    shape=shape,
                    kernel_shape=(3, 3),
                    pads=(1, 1, 1, 1),
                    clip=(0.0, 6.0),
                )
            )
        elif kind == 2:
            prelu = bool(rng.integers(2))
            clip = UNBOUNDED if prelu else (0.0, float("inf"))
            layers.append(
                Add(name=name, inputs=(last.name, last.name), shape=last.shape, clip=clip, prelu=prelu)
            )
        else:
            shape = (int(rng.integers(1, 5)), side, side)
            layers.append(
                Conv(
                    name=name,
                    inputs=(last.name,),
                    shape=shape,
                    kernel_shape=(1, 3),
                    pads=(0, 1, 0, 1),
                    prelu=bool(rng.integers(2)),
                    origin=(f"/block/{name}", f"/block/{name}/bn"),
                )
            )
    last = layers[-1]
    layers += [
        Activation(name="activation1", inputs=(last.name,), shape=last.shape, function="prelu"),
        GlobalAvgPool(name="avg1", inputs=("activation1",), shape=(last.shape[0], 1, 1)),
        Reshape(name="reshape1", inputs=("avg1",), shape=(last.shape[0],)),
        Dense(name="fc1", inputs=("reshape1",), shape=(5,)),
        Softmax(name="softmax1", inputs=("fc1",), shape=(5,), host=True),
        HostOp(
            name="host1",
            inputs=("softmax1",),
            shape=(5,),
            host=True,
            operator="Div",
            attributes=(("axes", (1, -1)), ("epsilon", 1e-5)),
            constants=((0, (1, 5)),),
        ),
    ]
    return Graph(name="net", layers=tuple(layers), outputs=("host1",))


def make_params(rng: np.random.Generator, graph: Graph) -> Params:
    params: Params = {}
    for layer in graph.layers:
        if shapes := param_shapes(graph, layer):
            params[layer.name] = {
                key: rng.standard_normal(shape).astype(np.float32) for key, shape in shapes.items()
            }
    return params


def make_quantization(rng: np.random.Generator, graph: Graph) -> Quantization:
    quantization = Quantization()
    for layer in graph.layers:
        if layer.host:
            continue
        bits = int(rng.choice([4, 8, 16]))
        scale = np.float32(rng.uniform(1e-6, 2))
        quantization.tensors[layer.name] = TensorQuant(scale, int(rng.integers(0, 1 << bits)), bits)
        if isinstance(layer, Weighted):
            bits = int(rng.choice([4, 8, 16]))
            limit = (1 << (bits - 1)) - 1
            channels = output_channels(layer)
            quantization.weights[layer.name] = WeightQuant(
                kernel=rng.integers(-limit, limit + 1, kernel_shape(graph, layer)).astype(
                    np.int8 if bits <= 8 else np.int16
                ),
                scale=rng.uniform(1e-6, 1, channels).astype(np.float32),
                bias=rng.integers(-(2**40), 2**40, channels),
                bits=bits,
            )
    return quantization


def make_archive(seed: int = 0, state: str = "compiled", depth: int = 3) -> Archive:
    rng = np.random.default_rng(seed)
    graph = make_graph(rng, depth)
    later: dict[str, Any] = {}
    if state != "parsed":
        later = {"fpo_graph": dataclasses.replace(graph), "fpo_params": make_params(rng, graph)}
    if state in ("quantized", "compiled"):
        later |= {
            "quantization": make_quantization(rng, graph),
            "script": "quantization_param({*}, precision_mode=a8_w8)\n",
        }
    if state == "compiled":
        later["artefacts"] = {"net.onnx": rng.bytes(100), "c/weights.bin": rng.bytes(7)}
    return Archive(
        name="net",
        state=state,
        hw_arch="mz8",
        config={"preprocessing": {"mean": [0.5, 1e-5], "note": "größer"}, "base": ["a.yaml"], "none": None},
        graph=graph,
        params=make_params(rng, graph),
        report={"accuracy": {"top-1": float(rng.uniform(0, 100)), "snr": float("inf")}, "count": 10},
        history=[{"stage": "parse", "settings": {"seed": seed}}],
        **later,
    )
