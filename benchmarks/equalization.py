"""What equalization brings to each network: every method, with one weight scale a channel and with one a layer.

    MZ_MIRROR=models python benchmarks/equalization.py --data DATA [NETWORK ...]
    python benchmarks/equalization.py --table          only prints the tables again, from build/equalization

DATA holds the data sets that benchmarks/zoo.py names; without it the bundled networks are measured. Networks are
calibrated on one half of their images and judged on the other. Rows go to build/equalization, a file a network.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from judging import Bench, networks, open_bench
from mz import script, zoo
from mz.flow.full_precision import Passes, full_precision
from mz.flow.integers import quantize_network
from mz.flow.options import OptimizeOptions, no_progress
from mz.flow.recipe import plan_recipe

RESULTS = Path(__file__).resolve().parents[1] / "build" / "equalization"
ARCHS = {"mz8_layerwise": "a layer", "mz8": "a channel"}
METHODS = {
    "off": "policy=disabled",
    "one_step": "policy=enabled, method=one_step, bias_absorption=disabled",
    "two_step": "policy=enabled, method=two_step, bias_absorption=disabled",
    "dfq": "policy=enabled, method=dfq, bias_absorption=disabled",
    "auto": "policy=allowed, method=auto",
}
HIGHER_LEVEL = ("efficientnet_lite0", "mobilenet_v1_0.25")
"""Networks that are measured at optimization level 1 too, without equalization and with mz's own choice."""


def measure(name: str, bench: Bench, methods: Sequence[str]) -> None:
    """Rows are written as they come, so that a run that is cut off has not been for nothing."""
    rows = []
    for arch in ARCHS:
        for method in methods:
            began = time.monotonic()
            settings = script.apply(
                script.parse_script(f"pre_quantization_optimization(equalization, {METHODS[method]})"), []
            )
            options = [
                OptimizeOptions(optimization_level=level, hw_arch=arch) for level in levels(name, method)
            ]
            plans = [plan_recipe(zoo.load_hw_arch(arch), settings, option) for option in options]
            archive = bench.archive
            passes = full_precision(
                archive.graph,
                archive.params,
                bench.calibration,
                plans[0],
                bench.config.preprocessing,
                no_progress,
            )
            chosen = passes.report.get("equalization", {}).get("method", "none")
            float_db = bench.judge(passes.graph, passes.params)["snr_db"] if chosen != "none" else 200.0
            for plan in plans:
                row = {"network": name, "hw_arch": arch, "method": method, "chosen": chosen}
                row |= {"level": plan.optimization_level, "float_db": float_db}
                row |= integers(bench, passes, plan) | {"seconds": round(time.monotonic() - began, 1)}
                rows.append(row)
                print(json.dumps(row), flush=True)
                (RESULTS / f"{name}.json").write_text(json.dumps(rows, indent=1) + "\n")


def levels(name: str, method: str) -> tuple[int, ...]:
    return (0, 1) if name in HIGHER_LEVEL and method in ("off", "auto") else (0,)


def integers(bench: Bench, passes: Passes, plan: Any) -> dict[str, Any]:
    result = quantize_network(passes.graph, passes.params, passes.images, passes.recipe, plan, no_progress)
    return bench.judge(passes.graph, passes.params, result.quantization)


def tables() -> str:
    """Markdown: a row a network and level, a column a method: output SNR in dB, and the loss in points."""
    found = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    lines: list[str] = []
    for arch, scale in ARCHS.items():
        lines += ["", f"One weight scale {scale} (`{arch}`):", ""]
        lines += [
            f"| network | level | {' | '.join(METHODS)} | auto took |",
            "|---" * (len(METHODS) + 3) + "|",
        ]
        for rows in found:
            for level in sorted({row["level"] for row in rows}):
                wanted = [row for row in rows if (row["hw_arch"], row["level"]) == (arch, level)]
                if not wanted:
                    continue
                by_method = {row["method"]: row for row in wanted}
                cells = [_cell(by_method.get(method)) for method in METHODS]
                chosen = by_method["auto"]["chosen"] if "auto" in by_method else ""
                lines.append(f"| {rows[0]['network']} | {level} | {' | '.join(cells)} | {chosen} |")
    least = min(row["float_db"] for rows in found for row in rows)
    return "\n".join([*lines, "", f"Least SNR of the float output after equalization: {least:.1f} dB."])


def _cell(row: dict[str, Any] | None) -> str:
    return "" if row is None else f"{row['snr_db']:.1f} dB, {row['lost'][0]:+.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("networks", nargs="*")
    parser.add_argument("--data", type=Path, help="folder of data sets")
    parser.add_argument("--calibrate", type=int, default=64, help="images to calibrate on")
    parser.add_argument("--judge", type=int, default=500, help="images to judge on")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    if not options.table:
        for name in options.networks or networks(options.data):
            bench = open_bench(name, options.data, options.calibrate, options.judge)
            measure(name, bench, options.methods)
    print(tables())


if __name__ == "__main__":
    main()
