"""Random single-layer networks as C: many in one translation unit, as starting a compiler is what takes time."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from tests.emulator.strategies import CASES, Case, fill

from mz.compiler.emitters.c99 import emit
from mz.engines.native import NativeSession, build
from mz.graph import Graph, Input, MatMul, Quantization, TensorQuant

LOCAL_NAMES = ("run", "inputs", "outputs")
"""What every network's file calls its own: told apart where several are one file."""


def draw(kind: str, count: int) -> list[Case]:
    """`count` networks of a kind, the same ones every time."""
    found: list[Case] = []

    @settings(
        max_examples=count, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )  # fmt: skip
    @given(CASES[kind])
    def add(case: Case) -> None:
        found.append(case)

    add()
    return found


MATRICES = (
    ((23, 64), (64, 37), (8, 8, 16), (0, 255), "extremes"),
    ((3, 21, 197), (3, 197, 35), (8, 8, 8), (128, 77), "random"),
    ((3, 10, 64), (1, 64, 197), (8, 8, 16), (255, 0), "random"),
    ((2, 1, 9, 300), (1, 3, 300, 18), (8, 4, 16), (131, 8), "random"),
    ((2, 2, 5, 197), (2, 2, 197, 16), (16, 8, 8), (32768, 255), "random"),
    ((3, 6, 300), (3, 300, 20), (8, 16, 16), (3, 40000), "extremes"),
    ((7, 64), (64, 33), (16, 16, 16), (0, 65535), "extremes"),
    ((9, 2100), (2100, 39), (8, 8, 8), (120, 130), "random"),  # a tile has sixteen columns, and four rows
    ((3, 6, 3136), (3, 3136, 17), (8, 8, 16), (0, 0), "high"),
    ((3, 6, 2100), (3, 2100, 17), (16, 16, 8), (65535, 65535), "low"),
    ((2, 17000), (17000, 3), (8, 8, 8), (255, 255), "extremes"),  # parts of 32-bit sums need more
    ((2, 70000), (70000, 2), (16, 8, 16), (0, 0), "high"),  # even those of one plane of bytes
)
"""Shapes, bits of a, b and the product, zero points of a and b, and which integers the two hold."""


def large_products() -> list[Case]:
    """Networks of MATRICES: several panels, tiles and quads that are not full."""
    return [_product(*matrices, seed=seed) for seed, matrices in enumerate(MATRICES)]


def _product(shape_a, shape_b, bits, zeros, pattern: str, seed: int) -> Case:
    """The output's scale is such that the largest sum is a bit more than its range holds."""
    a, b = (TensorQuant(np.float32(0.25), *quant) for quant in zip(zeros, bits, strict=False))
    integers = {
        name: fill((1, *shape), 0, tensor.q_max, tensor.zero_point, pattern, seed + place)
        for place, (name, tensor, shape) in enumerate((("a", a, shape_a), ("b", b, shape_b)))
    }
    sums = np.matmul(integers["a"] - a.zero_point, integers["b"] - b.zero_point)
    half = 2 ** (bits[2] - 1)
    y = TensorQuant(np.float32(0.25 * 0.25 * np.abs(sums).max() / (half + 1)), half, bits[2])
    layers = (
        Input(name="a", inputs=(), shape=shape_a),
        Input(name="b", inputs=(), shape=shape_b),
        MatMul(name="y", inputs=("a", "b"), shape=sums.shape[1:]),
    )
    return Case(Graph("case", layers, ("y",)), {}, Quantization({"a": a, "b": b, "y": y}), integers)


def library(cases: Sequence[Case], flags: Sequence[str] = ()) -> Path:
    """A shared library with the network `case<i>_model` for every case."""
    return build(sources(cases), flags)


def sources(cases: Sequence[Case]) -> dict[str, bytes]:
    """Files by name; `cases.c` takes in every network's own."""
    files: dict[str, bytes] = {}
    unit = []
    for index, case in enumerate(cases):
        name = f"case{index}"
        graph, quantization = with_layer_named(case, f"y{index}")
        params = {f"y{index}": arrays for arrays in case.params.values()}
        for file, content in emit(name, graph, params, quantization).items():
            own = file.startswith(name) and file.endswith(".c")
            files[f"{file}.inc" if own else file] = content
        unit += [f"#define {local} {name}_{local}" for local in LOCAL_NAMES]
        unit += [f'#include "{name}_constants.c.inc"', f'#include "{name}.c.inc"']
        unit += [f"#undef {local}" for local in LOCAL_NAMES]
    files["cases.c"] = "\n".join(unit).encode() + b"\n"
    return files


def with_layer_named(case: Case, name: str):
    """The case's graph and integers, its layer under another name."""
    layer = case.layer

    def renamed(entries):
        return {name if key == layer.name else key: entry for key, entry in entries.items()}

    graph = dataclasses.replace(
        case.graph,
        layers=(*case.graph.layers[:-1], dataclasses.replace(layer, name=name)),
        outputs=(name,),
    )
    quantization = dataclasses.replace(
        case.quantization,
        tensors=renamed(case.quantization.tensors),
        weights=renamed(case.quantization.weights),
    )
    return graph, quantization


def sessions(path: Path, count: int) -> list[NativeSession]:
    return [NativeSession(path, f"case{index}_model", threads=1) for index in range(count)]
