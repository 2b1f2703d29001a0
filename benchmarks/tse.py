"""Tiled squeeze-and-excite at every tile height: accuracy of the float network, and bytes of line buffers.

    MZ_MIRROR=models python benchmarks/tse.py --data DATA [NETWORK ...]
    python benchmarks/tse.py --table            only prints the tables again, from build/tse

Without --data only the bundled network is measured. Nothing is calibrated or trained; every test image is judged.
Rows go to build/tse, a file a network.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from judging import open_bench
from mz.graph import Graph
from mz.graph.pipeline import pipeline_buffers
from mz.optimize import SqueezeExcite, find_squeeze_excite, tiled_squeeze_excite

RESULTS = Path(__file__).resolve().parents[1] / "build" / "tse"
NETWORKS = ("mobilenet_v3_fashion", "ppocr_mobile_v2_cls")


def measure(name: str, folder: Path | None) -> list[dict[str, Any]]:
    bench = open_bench(name, folder, calibrate=1, judge=10_000, whole=True)
    graph, params = bench.archive.graph, bench.archive.params
    blocks = find_squeeze_excite(graph)
    heights = [graph.input_shapes(block.pool)[0][1] for block in blocks]
    rows = []
    for tile in range(1, max(heights) + 1):
        tiled, arrays, report = tiled_squeeze_excite(graph, params, tile_height=tile)
        row = {"network": name, "heights": heights, "tile_height": tile, "blocks": len(report.tiled)}
        row |= {"buffer_before": report.buffer_before, "buffer_after": report.buffer_after}
        row |= {"waiting_before": waiting(graph, blocks), "waiting_after": waiting(tiled, blocks)}
        rows.append(row | bench.judge(tiled, arrays))
        print(json.dumps(rows[-1]), flush=True)
    return rows


def waiting(graph: Graph, blocks: list[SqueezeExcite]) -> int:
    """Bytes of the maps that wait for their gates."""
    sizes = pipeline_buffers(graph)
    return sum(sizes[block.product.name] for block in blocks)


def table(rows: list[dict[str, Any]]) -> list[str]:
    first = rows[0]
    heights = ", ".join(map(str, first["heights"]))
    lines = [
        "",
        f"`{first['network']}`, {first['metric']} {first['float']:.2f} % of {first['images']:,} images; "
        f"its blocks pool over maps of {heights} rows:",
        "",
        "| tile height | tiled | metric | loss (95 % interval) | float SNR | line buffers | waiting for gates |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lost, low, high = row["lost"]
        cells = [str(row["tile_height"]), str(row["blocks"]), f"{row['value']:.2f}"]
        cells += [f"{lost:.2f} ({low:.2f} .. {high:.2f})"]
        cells += ["same" if row["snr_db"] >= 200 else f"{row['snr_db']:.1f} dB"]
        for what in ("buffer", "waiting"):
            change = 100 * (row[f"{what}_after"] / row[f"{what}_before"] - 1)
            cells += [f"{row[f'{what}_after']:,} bytes ({change:+.0f} %)"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("networks", nargs="*")
    parser.add_argument("--data", type=Path, help="folder of data sets")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    if not options.table:
        for name in options.networks or NETWORKS[: 2 if options.data else 1]:
            rows = measure(name, options.data)
            (RESULTS / f"{name}.json").write_text(json.dumps(rows, indent=1) + "\n")
    for path in sorted(RESULTS.glob("*.json")):
        print("\n".join(table(json.loads(path.read_text()))))


if __name__ == "__main__":
    main()
