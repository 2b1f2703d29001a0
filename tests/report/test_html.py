"""The page as text: nothing in it is loaded from elsewhere, and no name can end its data."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.report.networks import deep_archive, every_state, measured_archive

from mz.flow.profile import profile
from mz.report.html import page


class _Reader(HTMLParser):
    """Elements with their attributes, and the text of each script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] == "script" and self.scripts:
            self.scripts[-1] += data


@pytest.mark.parametrize("state", ["parsed", "fp_optimized", "quantized", "compiled"])
def test_a_page_from_every_state(state: str) -> None:
    about = profile(every_state()[state])
    read = _Reader(page(about))
    data = json.loads(read.scripts[0])
    drawing = data.pop("drawing")
    assert data == about
    assert list(drawing["nodes"]) == [row["name"] for row in about["layers"]]


def test_nothing_is_loaded_from_elsewhere() -> None:
    text = page(profile(measured_archive()))
    read = _Reader(text)
    for tag, attributes in read.elements:
        for key in ("src", "href", "srcset", "action", "data", "poster"):
            value = attributes.get(key)
            assert value is None or value.startswith(("#", "data:")), f"{tag} {key}={value}"
    assert not re.search(r"@import|url\(", text)
    addresses = set(re.findall(r"https?://[^\s\"'`)]+", text))
    assert addresses <= {"http://www.w3.org/2000/svg"}
    (policy,) = (a["content"] for _, a in read.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy and policy.startswith(
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
    )


@settings(max_examples=40)
@given(
    st.text(min_size=1, max_size=60)
    | st.sampled_from(["</script>", "<!--<script>", "$data", "${x}", "\u2028", "]]>"])
)
def test_any_layer_name_is_data(name: str) -> None:
    about = {
        "network": {"name": name, "state": "parsed", "hw_arch": "mz8"},
        "layers": [{"name": name, "inputs": []}],
    }
    text = page(about)
    read = _Reader(text)
    assert [tag for tag, _ in read.elements].count("script") == 2
    assert json.loads(read.scripts[0])["layers"][0]["name"] == name


def test_300_layers_stay_small() -> None:
    assert len(page(profile(deep_archive(300))).encode()) < 1_000_000
