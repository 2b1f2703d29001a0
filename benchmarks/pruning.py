"""What pruning costs, without labels and without training: accuracy in float and in 8 bits, and what becomes smaller.

    MZ_MIRROR=models python benchmarks/pruning.py [--data DATA] [NETWORK:SHARE[:IMPORTANCE] ...]
    python benchmarks/pruning.py --table            only prints the table again, from build/pruning

Networks are calibrated on their calibration set (others than the bundled ones: on half of their images) and judged on
test images (of the others: of the other half). SHARE of the MACs goes. Rows go to build/pruning, a file a run.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from judging import open_bench
from mz import flow
from mz.archive import write
from mz.flow import ModelRef, OptimizeOptions
from mz.flow.optimize import optimize_archive
from mz.script import Pruning, ScriptSettings

RESULTS = Path(__file__).resolve().parents[1] / "build" / "pruning"
RUNS = (
    "resnet8_fashion:0", "resnet8_fashion:0.3", "resnet8_fashion:0.3:energy", "resnet8_fashion:0.3:taylor",
    "resnet8_fashion:0.3:l1", "resnet8_fashion:0.5", "mobilenet_v2_fashion:0", "mobilenet_v2_fashion:0.2",
    "mobilenet_v2_fashion:0.4", "mobilenet_v3_fashion:0", "mobilenet_v3_fashion:0.2",
)  # fmt: skip


def measure(run: str, folder: Path | None) -> dict[str, Any]:
    name, share, importance = (*run.split(":"), "reconstruction")[:3]
    bench = open_bench(name, folder, calibrate=1024, judge=10_000)
    settings = ScriptSettings()
    if float(share):
        settings.pruning = Pruning(float(share), importance=importance)
    began = time.perf_counter()
    result = optimize_archive(
        bench.archive, bench.config, settings, OptimizeOptions(), bench.calibration.dataset
    ).archive
    row: dict[str, Any] = {"network": name, "share": float(share), "importance": importance}
    row["seconds"] = round(time.perf_counter() - began, 1)
    graph, params = result.fpo_graph or result.graph, result.fpo_params or result.params
    assert result.quantization is not None
    row["float"] = bench.judge(graph, params)
    row["8 bit"] = bench.judge(graph, params, result.quantization)
    with tempfile.TemporaryDirectory() as scratch:
        archive = Path(scratch, "pruned.har")
        write(result, archive)
        compiled = flow.compile_model(ModelRef(har=archive), out=Path(scratch, "out"))
        row["onnx_bytes"] = (archive.parent / "out" / f"{name}.onnx").stat().st_size
    row |= {key: compiled.summary[key] for key in ("macs", "weight_bytes", "activation_peak_bytes")}
    print(json.dumps(row), flush=True)
    return row


def table(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| network | MACs to go | importance | float loss (95 % interval) | 8-bit loss (95 % interval) | MACs "
        "| weight bytes | activation peak | ONNX bytes | optimize |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        losses = [
            f"{v:.2f} ({low:.2f} .. {high:.2f})"
            for v, low, high in (row["float"]["lost"], row["8 bit"]["lost"])
        ]
        sizes = [f"{row[key]:,}" for key in ("macs", "weight_bytes", "activation_peak_bytes", "onnx_bytes")]
        how = row["importance"] if row["share"] else ""
        cells = [
            row["network"],
            f"{100 * row['share']:.0f} %",
            how,
            *losses,
            *sizes,
            f"{row['seconds']:.0f} s",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="*", metavar="NETWORK:SHARE[:IMPORTANCE]")
    parser.add_argument("--data", type=Path, help="folder of data sets")
    parser.add_argument("--table", action="store_true", help="only print the table of earlier runs")
    options = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    runs = options.runs or RUNS
    for run in () if options.table else runs:
        row = measure(run, options.data)
        (RESULTS / f"{run.replace(':', '_')}.json").write_text(json.dumps(row, indent=1))
    found = [RESULTS / f"{run.replace(':', '_')}.json" for run in runs]
    print("\n".join(table([json.loads(path.read_text()) for path in found if path.exists()])))


if __name__ == "__main__":
    main()
