"""The four commands on the bundled networks, as a user would type them, and a table of what was lost.

`make demo` runs this with the core install alone. Archives and compiled files stay in build/demo.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

NETWORKS = ("resnet8_fashion", "mobilenet_v2_fashion", "mobilenet_v3_fashion")
FOLDER = Path(__file__).resolve().parents[1] / "build" / "demo"


def mz(*arguments: str) -> dict[str, Any]:
    """Shows the command, runs it with its output in view, and returns what it wrote as JSON."""
    print(f"\n$ mz {' '.join(arguments)}", flush=True)
    answer = FOLDER / "answer.json"
    command = [sys.executable, "-m", "mz", *arguments, "--json", answer.name]
    subprocess.run(command, cwd=FOLDER, check=True)
    found: dict[str, Any] = json.loads(answer.read_text())
    answer.unlink()
    return found


def run(network: str) -> list[str]:
    """All four commands on one network; its row of the table."""
    har = f"{network}.har"
    mz("eval", network)
    mz("optimize", network)
    emulated = mz("eval", network, "--target", "emulator", "--har", har)
    compiled = mz("compile", network, "--har", har, "--verify")
    lost = emulated["degradation"]["top1"]
    summary = compiled["summary"]
    return [
        network,
        f"{emulated['baseline']['metrics']['top1']:.2f}",
        f"{emulated['metrics']['top1']:.2f}",
        f"{lost['value']:.2f} ({lost['low']:.2f} .. {lost['high']:.2f})",
        f"{emulated['agreement']:.2f} %",
        f"{emulated['snr_db']:.1f}",
        f"{summary['float_weight_bytes'] / 1000:,.0f} kB",
        f"{(summary['weight_bytes'] + summary['bias_bytes']) / 1000:,.0f} kB",
    ]


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    rows = [["network", "float", "8-bit", "degradation", "agreement", "dB", "weights", "8-bit weights"]]
    rows += [run(network) for network in NETWORKS]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    print()
    for row in rows:
        first, *others = (f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True))
        print("  ".join([f"{first.strip():<{widths[0]}}", *others]))
    print(
        f"\n10,000 test images each; degradation in points of top-1 with its paired 95 % interval; "
        f"{time.monotonic() - began:.0f} s. Files are in build/demo."
    )


if __name__ == "__main__":
    main()
