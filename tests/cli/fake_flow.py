"""A stand-in for `mz.flow`: answers at once, records what it was asked, and fails when a test says so."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import mz.flow
from mz.archive import Archive
from mz.errors import UserError
from mz.flow import options as flow_options
from mz.graph import Dense, Graph, Input, Quantization, TensorQuant, WeightQuant

ASKED: list[tuple[str, Any]] = []


def archive(state: str = "parsed", name: str = "net") -> Archive:
    graph = Graph(
        name=name,
        layers=(
            Input(name="input_layer1", inputs=(), shape=(4,)),
            Dense(name="fc1", inputs=("input_layer1",), shape=(2,)),
        ),
        outputs=("fc1",),
    )
    quantization = None
    if state in ("quantized", "compiled"):
        tensors = {layer.name: TensorQuant(np.float32(0.1), 3, 8) for layer in graph.layers}
        weights = WeightQuant(np.zeros((2, 4), np.int8), np.ones(2, np.float32), np.zeros(2, np.int64), 4)
        quantization = Quantization(tensors, {"fc1": weights})
    return Archive(
        name=name,
        state=state,
        hw_arch="mz8",
        config={},
        graph=graph,
        params={"fc1": {"kernel": np.ones((2, 4), np.float32), "bias": np.zeros(2, np.float32)}},
        quantization=quantization,
        history=[{"stage": "parse", "settings": {"seed": 0}}],
    )


def _trouble(ref: Any) -> None:
    if ref.model == "interrupted":
        # A shell starts what it runs in the background with the signal ignored, and the tests with it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)
    if ref.model == "broken":
        raise ZeroDivisionError("a defect\nin two lines")
    if ref.model == "wrong":
        raise UserError("wrong: no such network; did you mean 'net'?")


def parse(ref: Any, *, hw_arch: str | None = None, note: Callable[[str], Any], progress: Any) -> Archive:
    ASKED.append(("parse", (ref, hw_arch)))
    _trouble(ref)
    note("a note")
    note("  a detail")
    return archive()


def optimize(ref: Any, options: Any, *, progress: Any, note: Callable[[str], Any]) -> Any:
    ASKED.append(("optimize", (ref, options)))
    _trouble(ref)
    note("a note")
    with progress("calibration", 2) as advance:
        advance(1)
        advance(1)
    steps = [
        flow_options.Step("quantization", True, True, "a8_w4"),
        flow_options.Step("QFT", options.optimization_level == 2, False, "PyTorch is not installed"),
    ]
    return flow_options.OptimizeResult(
        archive("quantized"), tuple(steps), {"precision": "a8_w4", "range": float("inf")}
    )


def search(ref: Any, options: Any, goal: Any, har: Path | None, *, progress: Any, note: Any) -> Any:
    ASKED.append(("search", (ref, options, goal, har)))
    _trouble(ref)
    lost = {"top1": {"value": 0.1, "low": -0.2, "high": 0.4}}
    tried = (
        flow_options.Tried(
            "level 0", lost=lost, precision="a8_w8", seconds=3.2, weight_bytes=77000, bit_operations=64
        ),
        flow_options.Tried("level 2", note="left out: PyTorch is not installed"),
    )
    path = har or Path("net.har")
    holds = goal.max_degradation >= 0.4
    return flow_options.SearchResult(
        archive("quantized"), path, "top1", goal.max_degradation, tried, "level 0", holds, 500
    )


def analyze(ref: Any, *, progress: Any, note: Any, **asked: Any) -> Any:
    ASKED.append(("analyze", (ref, asked)))
    _trouble(ref)
    row = {"layer": "fc1", "kind": "dense", "precision": "a8_w4", "share": 0.75}
    row |= {"alone_db": 20.0, "alone_weights_db": 21.0, "alone_output_db": None, "snr_db": 18.25}
    row |= {"bias_shift": 0.5, "bias_shift_max": 2.0, "clipped": 0.01, "dead": 0.25}
    report = {"images": 8, "output_db": 18.25, "predicted_db": 18.0, "layers": [row], "mends": []}
    return flow_options.AnalyzeResult(
        archive("quantized"), report, "# a script\n", ("fc1: weights of 8 bits",), 3.25
    )


def evaluate(ref: Any, options: Any, *, progress: Any, note: Callable[[str], Any]) -> Any:
    ASKED.append(("evaluate", (ref, options)))
    _trouble(ref)
    note("a note")
    with progress("images", 10000) as advance:
        advance(10000)
    more: dict[str, Any] = {}
    if options.target == "emulator":
        more = {
            "precision": "a8_w8",
            "baseline": {"metrics": {"top1": 93.45}, "ci95": {"top1": (92.9, 93.9)}},
            "degradation": {"top1": {"value": np.float64(0.04), "low": -0.02, "high": 0.1}},
            "agreement": 99.5,
            "agreement_ci95": (99.34, 99.62),
            "snr_db": float("inf"),
        }
    return flow_options.EvalResult(
        model="net",
        target=options.target,
        engine="ort",
        header="net | mz8 a8_w8",
        metrics={"top1": 93.41},
        ci95={"top1": (92.9, 93.88)},
        count=10000,
        images_per_second=1234.5,
        **more,
    )


def compile_model(
    ref: Any,
    *,
    hw_arch: Any,
    out: Path,
    emit: tuple[str, ...],
    verify: bool,
    data_path: Path | None,
    progress: Any,
    note: Callable[[str], Any],
) -> Any:
    ASKED.append(("compile", (ref, hw_arch, out, verify, emit)))
    _trouble(ref)
    summary = {"macs": 1234567, "layers": [{"name": "fc1"}]}
    checked = {"images": 64, "differences": 0} if verify else None
    files = (out / "net.onnx", out / "net.json", out / "net_compiled.har")
    memory = {"arena_bytes": 41000, "lower_bound": 40000, "ram_limit_bytes": None}
    contexts = [{"buffer_bytes": 700}, {"buffer_bytes": 1200}]
    estimate = {"fps": 275.04, "fps_batch": 1400.6, "batch": 8, "latency_ms": 3.636, "utilization": 0.256}
    plan = {
        "memory_plan": memory | {"flash_bytes": 312200, "flash_limit_bytes": 2031616},
        "estimate": estimate | {"contexts": contexts, "bottlenecks": ["conv1", "conv2"]},
    }
    return flow_options.CompileResult(
        archive("compiled"), out / "net_compiled.har", files, summary, checked, plan
    )


def list_models(glob: str = "*") -> list[dict[str, Any]]:
    about = {
        "name": "net",
        "task": "classification",
        "input": {"x": [1, 32, 32]},
        "parameters": 77000,
        "macs": 12500000,
        "full_precision": {"top1": 93.45},
        "licence": "MIT",
        "source": "trained with training/train.py",
    }
    bare = about | {
        "name": "other",
        "input": {},
        "parameters": None,
        "macs": None,
        "full_precision": {},
        "licence": "",
        "source": "",
    }
    return [] if glob == "zzz*" else [about, bare]


def info(ref: Any) -> dict[str, Any]:
    _trouble(ref)
    reasons = {"softmax1": "Softmax out: Softmax runs in float"}
    return list_models()[0] | {
        "accelerator": {"layers_percent": 97.5, "macs_percent": 100.0},
        "host": reasons,
    }


def install(setattr_: Callable[..., Any]) -> None:
    """Puts the stand-ins in the place of the flow's functions; `setattr_` may be a monkeypatch's."""
    for function in (parse, optimize, search, analyze, evaluate, compile_model, list_models, info):
        setattr_(mz.flow, function.__name__, function)
    for name in ("ModelRef", "OptimizeOptions", "EvalOptions", "SearchGoal"):
        setattr_(mz.flow, name, getattr(flow_options, name))


if __name__ == "__main__":
    from mz.cli import cli

    install(setattr)
    cli(sys.argv[1:])
