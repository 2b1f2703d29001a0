"""Speed of the C target against onnxruntime on the compiled integer ONNX, one thread each, interleaved in one process.

    python benchmarks/native.py [NETWORK | ARCHIVE.har ...] [--rounds 60] [--profile N] [--json FILE]

Both go from the same real image, one at a time, to the same integers, which are compared first. Times are the
thread's processor time, which other programs on the machine disturb least. Networks that are not
given as archives are quantized on noise, as speed hardly depends on values. Prints medians, and the median of the
ratios of runs that followed each other; with --profile the layers that take longest in C, and the sum by kernel.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

sys.path.insert(0, str(Path(__file__).parent))
from emulator import BUNDLED, noise, open_network
from mz.compiler.emitters import c99, onnx
from mz.engines.native import build, compiler, open_native
from mz.flow.candidate import Quantized

WARM_UP = 5
_CALL = re.compile(r"^    (mz_\w+)\((?:&(\w+)|)", re.MULTILINE)


def onnxruntime_run(network: Quantized, feeds: Mapping[str, np.ndarray]) -> Callable[[], list[np.ndarray]]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    model = onnx.emit(network.graph, network.params, network.quantization)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, dict(feeds))


def measure(network: Quantized, rounds: int, flags: tuple[str, ...] = ()) -> dict[str, Any]:
    graph, params, quantization = network.graph, network.params, network.quantization
    files = c99.emit(graph.name, graph, params, quantization)
    session = open_native(files, graph.name, threads=1, flags=flags)
    feeds = noise(graph, 1)
    theirs, ours = onnxruntime_run(network, feeds), lambda: session.run(feeds)
    names = list(ours())
    equal = all(np.array_equal(a, b) for a, b in zip((ours()[name] for name in names), theirs(), strict=True))
    assert equal, f"{graph.name}: the integers differ"
    spent: tuple[list[float], list[float]] = ([], [])
    for index in range(rounds + WARM_UP):
        for run, times in zip((theirs, ours), spent, strict=True):
            began = time.thread_time()
            run()
            if index >= WARM_UP:
                times.append(time.thread_time() - began)
    return {
        "network": graph.name,
        "onnxruntime_ms": round(1000 * statistics.median(spent[0]), 3),
        "native_ms": round(1000 * statistics.median(spent[1]), 3),
        "ratio": round(statistics.median(b / a for a, b in zip(*spent, strict=True)), 2),
        "arena_bytes": session.arena_bytes,
    }


def profile(network: Quantized, rounds: int, flags: tuple[str, ...] = ()) -> dict[tuple[str, str], float]:
    """Milliseconds by kernel and layer, least of `rounds`: the network's own C with a clock read before every call."""
    graph = network.graph
    files = c99.emit(graph.name, graph, network.params, network.quantization)
    source = files[f"{graph.name}.c"].decode()
    begin, end = source.index("static void run("), source.index("static const mz_tensor inputs")
    body = source[begin:end]
    calls = [(kernel, layer) for kernel, layer in _CALL.findall(body)]
    count = iter(range(len(calls)))
    body = _CALL.sub(lambda found: f"    mz_times[{next(count)}] = mz_now();\n{found[0]}", body)
    body = body.replace("\n}\n", f"\n    mz_times[{len(calls)}] = mz_now();\n}}\n")
    clock = (
        "#define _POSIX_C_SOURCE 199309L\n#include <time.h>\n"
        "static double mz_now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t);"
        " return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6; }\n"
        f"double mz_times[{len(calls) + 1}];\n"
    )
    files[f"{graph.name}.c"] = (clock + source[:begin] + body + source[end:]).encode()
    session = open_native(files, graph.name, threads=1, flags=flags)
    times = (ctypes.c_double * (len(calls) + 1)).in_dll(ctypes.CDLL(str(build(files, flags))), "mz_times")
    feeds = noise(graph, 1)
    least = np.full(len(calls), np.inf)
    for _ in range(rounds):
        session.run(feeds)
        least = np.minimum(least, np.diff(np.array(times)))
    return {call: float(spent) for call, spent in zip(calls, least, strict=True)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="*", default=BUNDLED)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--profile", type=int, default=0, metavar="N")
    parser.add_argument("--flags", default="", help="further options for the C compiler")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    flags = tuple(asked.flags.split())
    rows = []
    for name in asked.networks:
        network = open_network(name)
        row = measure(network, asked.rounds, flags)
        rows.append(row)
        print(
            f"{row['network']:24} onnxruntime {row['onnxruntime_ms']:8.2f} ms   C {row['native_ms']:8.2f} ms   "
            f"ratio {row['ratio']:.2f}",
            flush=True,
        )
        if asked.profile:
            found = profile(network, asked.rounds, flags)
            totals: dict[str, float] = {}
            for (kernel, _), spent in found.items():
                totals[kernel] = totals.get(kernel, 0.0) + spent
            print("  " + ", ".join(f"{k} {v:.2f}" for k, v in sorted(totals.items(), key=lambda i: -i[1])))
            for (kernel, layer), spent in sorted(found.items(), key=lambda i: -i[1])[: asked.profile]:
                print(f"    {spent:7.3f} ms  {kernel:20} {layer}")
    if asked.json:
        about = {
            "machine": platform.machine(),
            "onnxruntime": onnxruntime.__version__,
            "compiler": compiler(),
        }
        asked.json.write_text(json.dumps({**about, "flags": flags, "networks": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
