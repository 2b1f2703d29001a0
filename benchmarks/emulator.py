"""Speed of the integer engine and of the numpy emulator against float32 onnxruntime, interleaved in one process.

    python benchmarks/emulator.py [NETWORK ...] [--batch 64] [--rounds 40] [--json FILE]

Networks are quantized on noise, since speed does not depend on values. Prints medians of the ratios of runs that
followed each other, which a noisy machine disturbs least.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from mz.emulator import NumpySession
from mz.engines.float_ort import FloatSession
from mz.engines.integer_ort import IntegerOrtSession
from mz.flow.networks import parse
from mz.flow.options import ModelRef
from mz.quantize import Recipe, collect, quantize

BUNDLED = ("resnet8_fashion", "mobilenet_v2_fashion", "mobilenet_v3_fashion")


def seconds(run: Callable[[], Any]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def measure(network: str, batch: int, rounds: int, numpy_rounds: int) -> dict[str, Any]:
    """Median seconds a batch and median ratios to float32."""
    archive = parse(ModelRef(model=network))
    graph, params = archive.graph, archive.params
    rng = np.random.default_rng(0)
    feeds = {layer.name: rng.normal(size=(batch, *layer.shape)).astype(np.float32) for layer in graph.inputs}
    inside = [layer.name for layer in graph.layers if not layer.host]
    few = {name: value[:8] for name, value in feeds.items()}
    statistics_ = collect(FloatSession(graph, params, taps=inside), [few], 1)
    quantization = quantize(graph, params, statistics_, Recipe())
    sessions = {
        "float32": FloatSession(graph, params),
        "integer": IntegerOrtSession(graph, params, quantization),
        "numpy": NumpySession(graph, params, quantization),
    }
    times: dict[str, list[float]] = {name: [] for name in sessions}
    for index in range(rounds + 3):
        for name, session in sessions.items():
            if name == "numpy" and index >= numpy_rounds + 3:
                continue
            spent = seconds(lambda session=session: session.run(feeds))  # type: ignore[misc]
            if index >= 3:
                times[name].append(spent)
    ratios = {
        name: statistics.median(a / b for a, b in zip(times[name], times["float32"], strict=False))
        for name in ("integer", "numpy")
    }
    medians = {name: round(1000 * statistics.median(values), 2) for name, values in times.items()}
    return {"network": network, "milliseconds": medians, "ratio": {k: round(v, 3) for k, v in ratios.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=BUNDLED)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--numpy-rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = [measure(name, options.batch, options.rounds, options.numpy_rounds) for name in options.networks]
    for row in rows:
        print(row["network"], row["milliseconds"], "over float32:", row["ratio"])
    if options.json:
        machine = {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "onnxruntime": onnxruntime.__version__,
            "numpy": np.__version__,
            "batch": options.batch,
        }
        options.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
