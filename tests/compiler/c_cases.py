"""Random single-layer networks as C: many in one translation unit, as starting a compiler is what takes time."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from tests.emulator.strategies import CASES, Case

from mz.compiler.emitters.c99 import emit
from mz.engines.native import NativeSession, build

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
