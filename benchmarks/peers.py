"""The same float network, calibration images and metric for mz and for other quantizers.

    python benchmarks/peers.py MODEL --data DATA [--ckpt FILE] [--calibrate 250] [--judge N] [--only NAME ...]
    python benchmarks/peers.py MODEL --data DATA --calibrate 1024 --time 3     seconds, in turns, medians

Images of even-numbered classes calibrate and those of odd-numbered ones judge (without classes: every other image).
Rows whose package is not installed, or fails on the network, say so; docs/benchmarks.md says how the environments are
made.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from peer_bench import Bench, open_bench
from peer_quantizers import PEERS

TIMED = ("mz level 1", "onnxruntime, default")
SLOW = "AdaRound"
"""Rows that end so take an hour or more on two cores: only where they are named."""
PACKAGES = ("mz", "numpy", "onnx", "onnxruntime", "torch", "nncf", "aimet-onnx", "amd-quark")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--ckpt", type=Path, help="an ONNX file that stands in for the network's source")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--calibrate", type=int, default=250)
    parser.add_argument("--judge", type=int)
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"these rows, {SLOW} among them")
    parser.add_argument("--time", type=int, metavar="ROUNDS")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    names = asked.only or [name for name in PEERS if not name.endswith(SLOW)]
    if unknown := [name for name in names if name not in PEERS]:
        parser.error(f"--only: no rows named {unknown}; there are {', '.join(map(repr, PEERS))}")
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        bench = open_bench(asked.model, asked.ckpt, asked.data, asked.calibrate, asked.judge, scratch)
        counts = {"calibrate": len(bench.calibration), "judge": len(bench.judged)}
        print(f"{asked.model}: {counts['calibrate']} images calibrate, {counts['judge']} judge", flush=True)
        answer = {"model": asked.model, "images": counts, "versions": _versions(), "rows": rows}
        if asked.time:
            rows |= _times(bench, scratch, asked.time)
            _write(asked.json, answer)
        else:
            for name in names:
                rows[name] = _row(name, bench, scratch)
                _write(asked.json, answer)


def _write(path: Path | None, answer: dict[str, Any]) -> None:
    if path:
        path.write_text(json.dumps(answer, indent=1) + "\n")


def _versions() -> dict[str, str]:
    """Of the packages that are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _row(name: str, bench: Bench, scratch: Path) -> dict[str, Any]:
    began = time.perf_counter()
    try:
        run = PEERS[name](bench, scratch)
    except ImportError as error:
        print(f"| {name} | not installed: {error} |", flush=True)
        return {"missing": str(error)}
    except Exception as error:  # whatever a peer raises where it does not take the network
        if name.startswith("mz"):
            raise
        print(f"| {name} | fails: {type(error).__name__} |", flush=True)
        return {"fails": str(error)}
    seconds = time.perf_counter() - began
    row = bench.judge(run) | {"seconds": round(seconds, 1)}
    value = "-" if row["value"] is None else f"{row['value']:.2f}"
    snr = "-" if row["snr_db"] is None else f"{row['snr_db']:.1f} dB"
    print(f"| {name} | {value} | {row['agreement']:.1f} % | {snr} | {seconds:.0f} s |", flush=True)
    return row


def _times(bench: Bench, scratch: Path, rounds: int) -> dict[str, Any]:
    """Seconds of both, in turns, and the median of the ratios of turns that followed each other."""
    seconds: dict[str, list[float]] = {name: [] for name in TIMED}
    for _ in range(rounds):
        for name in TIMED:
            began = time.perf_counter()
            PEERS[name](bench, scratch)
            seconds[name].append(time.perf_counter() - began)
    ratio = statistics.median(a / b for a, b in zip(*seconds.values(), strict=True))
    for name, found in seconds.items():
        print(f"| {name} | {statistics.median(found):.1f} s |")
    print(f"median ratio {ratio:.2f}")
    return {"seconds": seconds, "ratio": ratio}


if __name__ == "__main__":
    main()
