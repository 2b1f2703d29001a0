"""Speed of the integer engine and of the numpy emulator against float32 onnxruntime, interleaved in one process.

    python benchmarks/emulator.py [NETWORK | ARCHIVE.har ...] [--batch 32] [--rounds 40] [--json FILE] [--profile N]
    python benchmarks/emulator.py NETWORK --images 1 8 64 512       cost and peak memory by number of images

Every engine runs the same network from the same real inputs to the same real outputs, the host's layers included.
Networks that are not given as archives are quantized on noise, as speed hardly depends on values. Prints medians of the
ratios of runs that followed each other, which a noisy machine disturbs least, and with --profile the nodes that take
longest on one thread, least of seven runs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from mz import archive as har
from mz.emulator import NumpySession
from mz.engines.float_ort import FloatSession, HostSession
from mz.engines.integer_ort import IntegerOrtSession
from mz.engines.lower_float import float_model
from mz.engines.lower_integer import integer_model
from mz.flow.candidate import IntegerSession, Quantized
from mz.flow.evaluate import batch_size
from mz.flow.networks import only_input, parse
from mz.flow.options import ModelRef
from mz.quantize import Recipe, collect, image_bytes, quantize

BUNDLED = ("resnet8_fashion", "mobilenet_v2_fashion", "mobilenet_v3_fashion")
WARM_UP = 3
REST_SECONDS = 0.02
"""Before an engine's turn, so that the threads of the other are asleep and take no processor from it."""
Run = Callable[[], Any]


def open_network(name: str) -> Quantized:
    """An archive's integers, or those of a zoo network quantized on noise; with the integer engine."""
    if name.endswith(".har"):
        archive = har.read(Path(name))
        graph, params, quantization = archive.working_graph, archive.working_params, archive.quantization
        assert quantization is not None, f"{name}: not quantized"
    else:
        archive = parse(ModelRef(model=name))
        graph, params = archive.graph, archive.params
        inside = [layer.name for layer in graph.layers if not layer.host]
        session = FloatSession(graph, params, taps=inside)
        quantization = quantize(
            graph, params, collect(session, [noise(graph, 8)], image_bytes(graph)), Recipe()
        )
    engine = IntegerOrtSession(graph, params, quantization)
    return Quantized(graph, params, quantization, engine, HostSession(graph, params))


def noise(graph: Any, batch: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {layer.name: rng.normal(size=(batch, *layer.shape)).astype(np.float32) for layer in graph.inputs}


def interleaved(first: Run, second: Run, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of each, run in turn: a run that wakes threads and fills caches, then one that counts."""
    times: tuple[list[float], list[float]] = ([], [])
    for index in range(rounds + WARM_UP):
        for run, spent in zip((first, second), times, strict=True):
            time.sleep(REST_SECONDS)
            run()
            began = time.perf_counter()
            run()
            if index >= WARM_UP:
                spent.append(time.perf_counter() - began)
    return times


def whole(network: Quantized, session: IntegerSession, feeds: dict[str, np.ndarray]) -> Run:
    """From real inputs to real outputs."""
    return lambda: network.restore(session.run(feeds))


def measure(network: Quantized, batch: int, rounds: int, numpy_rounds: int) -> dict[str, Any]:
    """Median milliseconds a batch, and median ratios to float32, each engine paired with float32 by itself."""
    graph, params = network.graph, network.params
    feeds, reference = noise(graph, batch), FloatSession(network.graph, network.params)
    row: dict[str, Any] = {"network": graph.name, "milliseconds": {}, "ratio": {}}
    engines: tuple[tuple[str, IntegerSession, int], ...] = (
        ("integer", network.session, rounds),
        ("numpy", NumpySession(graph, params, network.quantization), numpy_rounds),
    )
    for name, session, count in engines:
        pair = interleaved(partial(reference.run, feeds), whole(network, session, feeds), count)
        row["milliseconds"][name] = round(1000 * statistics.median(pair[1]), 1)
        row["milliseconds"].setdefault("float32", round(1000 * statistics.median(pair[0]), 1))
        row["ratio"][name] = round(statistics.median(b / a for a, b in zip(*pair, strict=True)), 2)
    return row


def profile(network: Quantized, batch: int, top: int) -> None:
    """Prints the nodes of the float and of the integer graph that take longest, and the sum by operator."""
    graph, params, feeds = network.graph, network.params, noise(network.graph, batch)
    models = {
        "float32": float_model(graph, params, list(graph.accelerator_outputs())),
        "integer": integer_model(graph, params, network.quantization),
    }
    for name, model in models.items():
        rows = node_milliseconds(model, feeds)
        totals: dict[str, float] = {}
        for (operator, _), spent in rows.items():
            totals[operator] = totals.get(operator, 0.0) + spent
        by_operator = ", ".join(
            f"{op} {spent:.1f}" for op, spent in sorted(totals.items(), key=lambda i: -i[1])
        )
        print(f"  {name}, one thread: {sum(totals.values()):.1f} ms: {by_operator}")
        for (operator, node), spent in sorted(rows.items(), key=lambda item: -item[1])[:top]:
            print(f"    {spent:7.2f} ms  {operator:14} {node}")


def node_milliseconds(model: Any, feeds: Mapping[str, np.ndarray]) -> dict[tuple[str, str], float]:
    """By operator and node: the least time of seven runs on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level, options.enable_profiling = 1, 3, True
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    for _ in range(7):
        session.run(None, dict(feeds))
    path = Path(session.end_profiling())
    found: dict[tuple[str, str], float] = {}
    for event in json.loads(path.read_text()):
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            key = (event["args"]["op_name"], event["name"].removesuffix("_kernel_time"))
            found[key] = min(found.get(key, float("inf")), event["dur"] / 1000)
    path.unlink()
    return found


def by_images(network: Quantized, counts: list[int]) -> list[dict[str, Any]]:
    """Milliseconds an image and peak memory for growing numbers of images, in batches as the eval stage cuts them."""
    from resource import RUSAGE_SELF, getrusage

    feed, size = only_input(network.graph), batch_size(network.graph)
    source, rows = noise(network.graph, size)[feed], []
    for name, session in (
        ("integer", network.session),
        ("numpy", NumpySession(network.graph, network.params, network.quantization)),
    ):
        session.run({feed: source})
        for count in counts:
            began = time.perf_counter()
            for start in range(0, count, size):
                network.restore(session.run({feed: source[: min(size, count - start)]}))
            spent = 1000 * (time.perf_counter() - began)
            peak = getrusage(RUSAGE_SELF).ru_maxrss // 1024
            rows.append(
                {
                    "engine": name,
                    "images": count,
                    "milliseconds_an_image": round(spent / count, 3),
                    "peak_mb": peak,
                }
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("networks", nargs="*", default=BUNDLED)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--numpy-rounds", type=int, default=5)
    parser.add_argument("--profile", type=int, default=0, metavar="N")
    parser.add_argument("--images", type=int, nargs="*", default=[])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    for name in options.networks:
        network = open_network(name)
        if options.images:
            found = by_images(network, options.images)
            rows += [{"network": network.graph.name} | row for row in found]
            for row in found:
                print(network.graph.name, row, flush=True)
            continue
        rows.append(measure(network, options.batch, options.rounds, options.numpy_rounds))
        print(rows[-1]["network"], rows[-1]["milliseconds"], "over float32:", rows[-1]["ratio"], flush=True)
        if options.profile:
            profile(network, options.batch, options.profile)
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
