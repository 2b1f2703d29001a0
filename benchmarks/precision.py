"""One network at one precision and level, on the images of benchmarks/peers.py: what it loses, and what that took.

    python benchmarks/precision.py MODEL --data DATA [--precision a8_w4] [--ends a8_w8] [--level 1] [--script FILE]

--ends: another precision for the first and the last layer with weights. --script: statements beyond these.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from pathlib import Path

import onnxruntime

from mz.flow.options import OptimizeOptions
from mz.script import ScriptSettings, apply, parse_script
from peer_bench import Bench, open_bench
from peer_quantizers import optimized


def settings(bench: Bench, precision: str, ends: str | None, script: Path | None) -> ScriptSettings:
    """The model script that asks for it."""
    names = [layer.name for layer in bench.archive.graph.layers]
    weighted = [layer.name for layer in bench.archive.graph.weighted]
    text = f"quantization_param({{*}}, precision_mode={precision})\n"
    if ends:
        text += f"quantization_param([{weighted[0]}, {weighted[-1]}], precision_mode={ends})\n"
    return apply(parse_script(text + (script.read_text() if script else ""), str(script or "script")), names)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--ckpt", type=Path)
    parser.add_argument("--calibrate", type=int, default=500)
    parser.add_argument("--judge", type=int)
    parser.add_argument("--precision", default="a8_w8")
    parser.add_argument("--ends")
    parser.add_argument("--level", type=int, default=1)
    parser.add_argument("--script", type=Path)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = open_bench(asked.model, asked.ckpt, asked.data, asked.calibrate, asked.judge, Path(folder))
        options = OptimizeOptions(
            optimization_level=asked.level, precision=asked.precision, allow_fallback=True, cache=False
        )
        began = time.perf_counter()
        run, result = optimized(bench, settings(bench, asked.precision, asked.ends, asked.script), options)
        seconds = time.perf_counter() - began
        row = bench.judge(run)
    for step in result.steps:
        print(f"  {step.name:16}{'yes' if step.applied else 'no':5}{step.note}")
    row |= {"seconds": round(seconds, 1), "images": len(bench.judged), "calibration": len(bench.calibration)}
    row |= {"machine": platform.processor() or platform.machine(), "onnxruntime": onnxruntime.__version__}
    print(f"{asked.model} {asked.precision} level {asked.level}: {json.dumps(row)}", flush=True)
    if asked.json:
        asked.json.write_text(json.dumps(row, indent=1) + "\n")


if __name__ == "__main__":
    main()
