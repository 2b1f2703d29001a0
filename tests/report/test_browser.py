"""The page in a real browser: layout, keys, search, and that nothing leaves it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.report.browser import CHROMIUM, Page, browser
from tests.report.networks import deep_archive, every_state, measured_archive

from mz.flow.profile import profile
from mz.report.html import page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small network of every section, the same with a hostile layer name, and 300 layers."""
    folder = tmp_path_factory.mktemp("pages")
    archives = {"small": measured_archive(), "hostile": measured_archive(HOSTILE), "deep": deep_archive(300)}
    archives |= every_state()
    for name, archive in archives.items():
        (folder / f"{name}.html").write_text(page(profile(archive)), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in archives}


HOSTILE = "</script><script>window.taken = 1</script><img src=x onerror='window.taken = 2'>"


@pytest.fixture(autouse=True)
def quiet(tab: Page) -> Iterator[None]:
    tab.requests.clear()
    tab.complaints.clear()
    yield
    assert not tab.complaints
    assert all(address.startswith(("file:", "data:", "about:")) for address in tab.requests)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [420, 1280, 1800])
@pytest.mark.parametrize("name", ["small", "deep"])
def test_layout_fits_its_width(tab: Page, files: dict[str, Path], name: str, width: int, dark: bool) -> None:
    tab.open(files[name], width=width, dark=dark)
    assert tab.run("document.documentElement.scrollWidth") <= width
    outside = tab.run(
        "[...document.querySelectorAll('.panel, .tile, .graph, header, h2, .chart svg')]"
        f".filter((one) => one.getBoundingClientRect().right > {width} + 0.5).map((one) => one.className || one.id)"
    )
    assert outside == []
    ground = tab.run("getComputedStyle(document.body).backgroundColor")
    brightness = np.mean([int(part) for part in ground[4:-1].split(",")])
    assert brightness < 60 if dark else brightness > 200
    assert tab.screenshot().startswith(b"\x89PNG")


@pytest.mark.parametrize("state", ["parsed", "fp_optimized", "quantized", "compiled"])
def test_every_state_draws_every_layer(tab: Page, files: dict[str, Path], state: str) -> None:
    """Walking over all layers shows each in the inspector; the page complains of none."""
    tab.open(files[state], width=1280)
    names = [layer.name for layer in every_state()[state].working_graph.layers]
    assert tab.run("[...document.querySelectorAll('.node .title')].map((one) => one.textContent)") == names
    shown = tab.run(
        "[...document.querySelectorAll('.layers tbody tr')].map((row) => { row.click();"
        " return document.querySelector('.inspector h2').textContent; })"
    )
    assert shown == names


@pytest.mark.parametrize("width", [420, 1280])
def test_nothing_moves_after_the_first_paint(tab: Page, files: dict[str, Path], width: int) -> None:
    tab.open(files["small"], width=width)
    shift = tab.run(
        "new Promise((done) => { let sum = 0; new PerformanceObserver((list) => { for (const one of list.getEntries())"
        " sum += one.value; }).observe({ type: 'layout-shift', buffered: true }); setTimeout(() => done(sum), 300); })"
    )
    assert shift < 0.01


def test_search_finds_a_layer(tab: Page, files: dict[str, Path]) -> None:
    tab.open(files["deep"], width=1280)
    tab.press("/", "/")
    assert tab.run("document.activeElement.id") == "search"
    tab.type("conv77")
    assert tab.run("document.querySelectorAll('.layers tbody tr:not([hidden])').length") == 1
    assert tab.run("document.getElementById('found').textContent").startswith("1 of")
    tab.press("Enter")
    assert tab.run("document.querySelector('.inspector h2').textContent") == "conv77"
    assert tab.run("document.querySelector('.layers tr.selected th').textContent") == "conv77"
    seen = tab.run(
        "(() => { const [a, b] = ['.node.selected', '#canvas'].map((one) => document.querySelector(one)"
        ".getBoundingClientRect()); return a.top >= b.top && a.bottom <= b.bottom; })()"
    )
    assert seen
    tab.press("Escape")
    assert tab.run("document.querySelectorAll('.layers tbody tr:not([hidden])').length") > 300


def test_the_table_by_keyboard(tab: Page, files: dict[str, Path]) -> None:
    tab.open(files["small"], width=1280)
    tab.run("document.querySelector('.layers tbody tr[tabindex=\"0\"]').focus()")
    for _ in range(3):
        tab.press("ArrowDown")
    chosen = tab.run("document.querySelectorAll('.layers tbody tr')[3].querySelector('th').textContent")
    assert tab.run("document.querySelector('.inspector h2').textContent") == chosen
    assert tab.run("document.activeElement.querySelector('th').textContent") == chosen
    assert tab.run("document.querySelectorAll('.layers tbody tr[tabindex=\"0\"]').length") == 1
    tab.press("Escape")
    assert tab.run("document.querySelector('.node.selected')") is None


def test_the_graph_by_keyboard(tab: Page, files: dict[str, Path]) -> None:
    tab.open(files["small"], width=1280)
    tab.run("document.getElementById('canvas').focus()")
    before = tab.run("document.querySelector('.network g').getAttribute('transform')")
    tab.press("ArrowDown")
    tab.press("ArrowDown")
    assert tab.run("document.querySelector('.node.selected .title').textContent") == "conv1"
    assert tab.run("document.getElementById('canvas').getAttribute('aria-activedescendant')") == "node-1"
    tab.press("+", "+")
    assert tab.run("document.querySelector('.network g').getAttribute('transform')") != before


def test_sorting_by_a_column(tab: Page, files: dict[str, Path]) -> None:
    tab.open(files["small"], width=1280)
    tab.run(
        "[...document.querySelectorAll('.layers thead button')].find((one) => one.textContent === 'MACs').click()"
    )
    assert tab.run("document.querySelector('[aria-sort]').getAttribute('aria-sort')") == "descending"
    wanted = max(profile(measured_archive())["layers"], key=lambda row: row["macs"])["name"]
    assert tab.run("document.querySelector('.layers tbody th').textContent") == wanted


def test_a_hostile_name_is_only_text(tab: Page, files: dict[str, Path]) -> None:
    tab.open(files["hostile"], width=1280)
    assert tab.run("window.taken") is None
    assert tab.run("document.querySelectorAll('img').length") == 0
    assert tab.run(
        "[...document.querySelectorAll('.layers th')].some((one) => one.textContent.includes('onerror'))"
    )


def test_the_policy_forbids_what_a_script_might_try(tab: Page, files: dict[str, Path]) -> None:
    tab.open(files["small"], width=1280)
    refused = tab.run(
        "new Promise((done) => { const seen = []; document.addEventListener('securitypolicyviolation', (event) => {"
        " seen.push(event.effectiveDirective); if (seen.length === 2) done(seen.sort()); });"
        " new Image().src = 'http://127.0.0.1:9/x.png'; fetch('http://127.0.0.1:9/x').catch(() => {}); })"
    )
    assert refused == ["connect-src", "img-src"]
    assert all("127.0.0.1" in text for text in tab.complaints)
    tab.complaints.clear()
    tab.requests.clear()


def test_every_button_and_field_has_a_name(tab: Page, files: dict[str, Path]) -> None:
    tab.open(files["small"], width=420)
    tab.run("document.querySelectorAll('.layers tbody tr')[1].click()")
    nameless = tab.run(
        "[...document.querySelectorAll('button, input, select, [tabindex=\"0\"]')]"
        ".filter((one) => !(one.textContent.trim() || one.getAttribute('aria-label') || one.labels?.length))"
        ".map((one) => one.outerHTML.slice(0, 80))"
    )
    assert nameless == []
