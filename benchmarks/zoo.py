"""Every network of the zoo through the four commands on a folder of data sets, and docs/zoo.md from what came out.

    MZ_MIRROR=models python benchmarks/zoo.py DATA [MODEL ...]
    python benchmarks/zoo.py DATA --table        only writes the page again, from build/zoo

DATA holds a folder for each data set named in `DATA_OF`. Results are kept as JSON in build/zoo, a file a command.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from mz import flow

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "build" / "zoo"
PAGE = ROOT / "docs" / "zoo.md"
DATA_OF = {
    "efficientnet_lite0": ("imagenet_dev", 64),
    "mobilenet_v1_0.25": ("imagenet_dev", 64),
    "resnet20_cifar10": ("cifar10_test", 512),
    "fastestdet_352": ("coco128_val", 64),
    "ultraface_rfb_320": ("coco_faces", 34),
    "yunet_n_320": ("coco_faces", 34),
    "espnet_camvid": ("camvid", 24),
    "ppocr_mobile_v2_cls": ("ocr_lines", 64),
    "ppocrv4_rec": ("ocr_lines", 48),
}
"""Data set and number of calibration images. Networks without an entry bring their own data."""


def run(model: str, data: Path | None, count: int, checkpoint: Path | None) -> None:
    """eval, optimize, eval on the emulator, compile --verify; JSON and costs into RESULTS."""
    evaluated = ["--data-path", str(data)] if data else []
    calibrated = ["--calib-path", str(data), "--calib-count", str(count)] if data else []
    replaced = ["--ckpt", str(checkpoint)] if checkpoint else []
    har = str(RESULTS / f"{model}.har")
    steps = {
        "float": ["eval", model, *evaluated, *replaced],
        "optimize": ["optimize", model, *calibrated, *replaced, "--har-out", har],
        "integer": ["eval", "--target", "emulator", "--har", har, *evaluated],
        "compile": ["compile", "--har", har, "--verify", "--out", str(RESULTS / model), *evaluated],
    }
    for name, arguments in steps.items():
        print(f"$ mz {' '.join(arguments)}", flush=True)
        answer = RESULTS / f"{model}.{name}.json"
        began = time.monotonic()
        command = [sys.executable, "-m", "mz", *arguments, "--json", str(answer)]
        process = subprocess.Popen(command)
        peak = _wait(process)
        found = json.loads(answer.read_text())
        found |= {
            "seconds": round(time.monotonic() - began, 1),
            "peak_megabytes": peak,
            "processor": processor(),
        }
        answer.write_text(json.dumps(found, indent=1) + "\n")


def processor() -> str:
    """What the speed of 8-bit integers depends on."""
    flags = Path("/proc/cpuinfo")
    vnni = "vnni" in flags.read_text() if flags.exists() else False
    return f"{os.cpu_count()} cores {'with' if vnni else 'without'} VNNI"


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Waits for the end and returns the peak memory in MB (0 where the platform does not tell)."""
    try:
        from os import wait4
    except ImportError:
        status, peak = process.wait(), 0
    else:
        _, status, usage = wait4(process.pid, 0)
        peak = usage.ru_maxrss // 1000
    if status:
        raise SystemExit(f"the command above failed ({status})")
    return peak


def page() -> str:
    """The zoo's table, and the measured rows of the networks that RESULTS knows."""
    lines = [
        "# The zoo",
        "",
        "Written by `benchmarks/zoo.py` from `mz list` and from the results of the four commands. Licences are",
        "those of the weights; `mz info MODEL` says where they come from.",
        "",
        "| network | task | input | parameters | MACs | licence |",
        "|---|---|---|---|---|---|",
    ]
    for row in flow.list_models("*"):
        shape = "x".join(map(str, next(iter(row["input"].values()), [])))
        counts = (f"{row[key] / 1e6:.2f} M" if row[key] else "" for key in ("parameters", "macs"))
        lines.append(f"| {row['name']} | {row['task']} | {shape} | {' | '.join(counts)} | {row['licence']} |")
    lines += [
        "",
        "## Measured",
        "",
        "8-bit activations and weights, optimization level 1, hw_arch mz8. Except for the bundled networks, which have",
        "calibration images of their own, those are part of the evaluated folder (labels unused). Degradation with its",
        "paired 95 % interval; agreement as [tasks.md](tasks.md) defines it; SNR at the outputs; optimize: seconds and",
        f"peak memory on {_processors()}, which other work shared. `compile --verify` found no differing",
        "integer in any row.",
        "",
        "| network | metric | images | float | 8 bit | degradation | agreement | SNR | optimize |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for path in sorted(RESULTS.glob("*.integer.json")):
        lines += _rows(path.name.removesuffix(".integer.json"))
    return "\n".join(lines) + "\n"


def _processors() -> str:
    found = (json.loads(path.read_text())["processor"] for path in RESULTS.glob("*.optimize.json"))
    return " or ".join(sorted(set(found)))


def _rows(model: str) -> list[str]:
    found: dict[str, dict[str, Any]] = {
        name: json.loads((RESULTS / f"{model}.{name}.json").read_text())
        for name in ("float", "integer", "optimize", "compile")
    }
    integer, cost = found["integer"], found["optimize"]
    if found["compile"]["verify"]["differing"]:
        raise SystemExit(f"{model}: the compiled file differs from the emulator")
    rows = []
    for index, (metric, value) in enumerate(integer["metrics"].items()):
        lost = integer["degradation"].get(metric)
        spread = f"{lost['value']:.2f} ({lost['low']:.2f} .. {lost['high']:.2f})" if lost else ""
        cells = [
            model,
            metric,
            str(integer["count"]),
            f"{found['float']['metrics'][metric]:.2f}",
            f"{value:.2f}",
            spread,
        ]
        if index:
            cells[0] = cells[2] = ""
            cells += ["", "", ""]
        else:
            cells += [f"{integer['agreement']:.2f} %", f"{integer['snr_db']:.1f} dB"]
            cells += [f"{cost['seconds']:.0f} s, {cost['peak_megabytes'] / 1000:.1f} GB"]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("models", nargs="*")
    parser.add_argument(
        "--checkpoints", type=Path, help="ONNX files named <model>.onnx that stand in for the sources"
    )
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    if not options.table:
        for model in options.models or [*DATA_OF, *(row["name"] for row in flow.list_models("*_fashion"))]:
            name, count = DATA_OF.get(model, (None, 0))
            stand_in = options.checkpoints / f"{model}.onnx" if options.checkpoints else None
            run(
                model,
                options.data.resolve() / name if name else None,
                count,
                stand_in if stand_in and stand_in.is_file() else None,
            )
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
