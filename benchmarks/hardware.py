"""Memory plans and estimates of networks at 8 bits, as the tables of docs/hardware.md.

    python benchmarks/hardware.py [MODEL ...] [--ckpt FILE ...] [--json FILE]

Only the graph counts here, so the integers are made up: all scales 1, all weights 0. MODEL: names of the zoo (default:
all that are at hand); FILE: ONNX files beside them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from mz import zoo
from mz.archive.model import kernel_shape, output_channels, param_shapes
from mz.compiler.device import fastest
from mz.compiler.limits import check_fits
from mz.compiler.memory_plan import plan_memory
from mz.compiler.packing import pack
from mz.errors import UserError
from mz.graph import Graph, Params, Quantization, TensorQuant, Weighted, WeightQuant
from mz.parser import parse

TARGETS = ("mz8", "mz8l", "mcu", "cpu")
REPEATS = 5


def made_up(graph: Graph) -> tuple[Params, Quantization]:
    """8-bit integers that fit the graph."""
    inside = [layer for layer in graph.layers if not layer.host]
    quantization = Quantization({layer.name: TensorQuant(np.float32(1), 0, 8) for layer in inside})
    params: Params = {}
    for layer in inside:
        if isinstance(layer, Weighted):
            channels = output_channels(layer)
            kernel = np.zeros(kernel_shape(graph, layer), np.int8)
            quantization.weights[layer.name] = WeightQuant(
                kernel, np.ones(channels, np.float32), np.zeros(channels, np.int64), 8
            )
        elif shapes := param_shapes(graph, layer):
            params[layer.name] = {key: np.ones(shape, np.float32) for key, shape in shapes.items()}
    return params, quantization


def graph_of(model: str) -> Graph:
    """The parsed network, from the mirror, the cache or the bundled assets."""
    config = zoo.load_network(model)
    own = config.parser
    return parse(
        zoo.model_path(config, offline=True),
        name=model,
        start_nodes=own.start_node_names,
        end_nodes=own.end_node_names,
        input_shapes=own.input_shapes or None,
    ).graph


def row(graph: Graph) -> dict[str, Any]:
    """All figures of one network."""
    params, quantization = made_up(graph)
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        plan = plan_memory(graph, quantization)
        seconds.append(time.perf_counter() - began)
    packed = pack(graph, params, quantization)
    held = packed.layer_bytes()
    found: dict[str, Any] = {
        "network": graph.name,
        "layers": len(plan.order),
        "arena": plan.arena_bytes,
        "bound": plan.lower_bound,
        "graph_order": plan.graph_order_bound,
        "greedy_by_size": plan.greedy_by_size_bytes,
        "heuristic": plan.heuristic,
        "plan_ms": 1e3 * statistics.median(seconds),
        "constants": len(packed.data),
        "line_buffers": {},
    }
    for name in TARGETS:
        arch = zoo.load_hw_arch(name)
        scheduled, estimated = fastest(arch, graph, quantization, held, plan.order)
        found[name] = estimated | {"fits": True}
        try:
            check_fits(arch, graph.name, plan, len(packed.data))
        except UserError:
            found[name]["fits"] = False
        found["line_buffers"][name] = sum(context.buffer_bytes for context in scheduled.contexts)
    return found


def tables(rows: list[dict[str, Any]]) -> str:
    """The two tables in Markdown."""
    lines = [
        "| network | layers | arena | bound | arena/bound | greedy by size | planned by | ms |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in rows:
        ratio = f"{one['arena'] / one['bound']:.3f}"
        cells = [one["network"], one["layers"], f"{one['arena']:,}", f"{one['bound']:,}", ratio]
        cells += [f"{one['greedy_by_size']:,}", one["heuristic"], f"{one['plan_ms']:.0f}"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    lines += [
        "",
        "| network | constants | mz8: contexts | line buffers | images/s | latency | mz8l: contexts | images/s | "
        "mcu: images/s | cpu: images/s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in rows:
        full, half = one["mz8"], one["mz8l"]
        cells = [
            one["network"],
            f"{one['constants']:,}",
            len(full["contexts"]),
            f"{one['line_buffers']['mz8']:,}",
        ]
        cells += [figure(full["fps"]), f"{figure(full['latency_ms'])} ms", len(half["contexts"])]
        cells += [figure(half["fps"]), figure(one["mcu"]["fps"]) if one["mcu"]["fits"] else "does not fit"]
        cells.append(figure(one["cpu"]["fps"]))
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--ckpt", nargs="*", type=Path, default=[])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    for model in options.models or zoo.network_names():
        try:
            rows.append(row(graph_of(model)))
        except UserError as error:
            print(f"left out: {error}")
    rows += [row(parse(path, name=path.stem).graph) for path in options.ckpt]
    print(tables(rows))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
