"""Screenshots of `mz profile` pages in headless Chromium, as docs/profile.md shows them.

    python benchmarks/screenshots.py A.har [B.har ...] --out docs/images

Writes for each archive <name>_<width>_<light|dark>.png, with the noisiest layer selected: at 1280 the page's top, its
memory map and its distributions; at 420 the page's top and its charts.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.report.browser import Page, browser

from mz.flow import profile_file
from mz.report.html import page

HEIGHTS = {1280: 900, 420: 900}
PARTS = {1280: ("overview", "memory", "distributions"), 420: ("overview", "depth", "layers")}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("archives", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, browser(Path(folder) / "chromium") as tab:
        for archive in arguments.archives:
            about = profile_file(archive)
            path = Path(folder) / "page.html"
            path.write_text(page(about), encoding="utf-8")
            noise = {row["name"]: row["snr_db"] for row in about["layers"] if row.get("snr_db") is not None}
            for width, height in HEIGHTS.items():
                for dark in (False, True):
                    tab.open(path, width=width, height=height, dark=dark)
                    if noise and width > 1000:
                        select(tab, min(noise, key=noise.__getitem__))
                    for part in PARTS[width]:
                        name = f"{about['network']['name']}_{part}_{width}_{'dark' if dark else 'light'}.png"
                        shoot(tab, part, width, arguments.out / name)


def select(tab: Page, layer: str) -> None:
    tab.run(
        "[...document.querySelectorAll('.layers tbody tr')].find((row) => row.querySelector('th').textContent ==="
        f" {layer!r}).click()"
    )


def shoot(tab: Page, part: str, width: int, path: Path) -> None:
    place = (
        "0"
        if part == "overview"
        else f"document.getElementById('{part}').offsetTop - {68 if width > 620 else 118}"
    )
    tab.run(
        f"scrollTo({{ top: {place}, behavior: 'instant' }}); new Promise((done) => setTimeout(done, 150))"
    )
    Image.open(io.BytesIO(tab.screenshot())).convert("RGB").save(path, optimize=True)
    print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
