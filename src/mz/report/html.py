"""A profile as one page of HTML that needs nothing but itself: style, script and data stand in it.

The page's policy (CSP) forbids it to load or send anything. Data stand in a script element of JSON, with every
character that could end it written as an escape; the page's script makes text nodes of them, never markup.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from importlib.resources import files
from string import Template
from typing import Any

from mz.report.layout import NODE_HEIGHT, NODE_WIDTH, layout

_SCRIPTS = (
    "base.js",
    "axes.js",
    "graph.js",
    "depth.js",
    "schedule.js",
    "memory.js",
    "histograms.js",
    "table.js",
    "inspector.js",
    "tiles.js",
    "accuracy.js",
    "sections.js",
    "main.js",
)
"""In the order in which they run, inside one function."""

_ESCAPES = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


def page(profile: Mapping[str, Any]) -> str:
    """The page of what `mz.flow.profile` gathers, to be written as UTF-8.

    Raises ValueError for data that are not JSON.
    """
    network = profile["network"]
    script = "\n".join(_part(name) for name in _SCRIPTS)
    return Template(_part("template.html")).substitute(
        title=html.escape(f"{network['name']}, {network['state']} for {network['hw_arch']}"),
        style=_part("style.css"),
        data=_embedded({**profile, "drawing": _drawing(profile["layers"])}),
        script=f'"use strict";\n(() => {{\n{script}\n}})();',
    )


def _part(name: str) -> str:
    return files("mz.report").joinpath("page", name).read_text(encoding="utf-8").rstrip("\n")


def _embedded(data: Mapping[str, Any]) -> str:
    """JSON that no sequence inside a script element can end or change."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.translate(_ESCAPES)


def _drawing(layers: list[Mapping[str, Any]]) -> dict[str, Any]:
    found = layout({layer["name"]: layer["inputs"] for layer in layers})
    return {
        "nodes": found.nodes,
        "edges": found.edges,
        "width": found.width,
        "height": found.height,
        "node": [NODE_WIDTH, NODE_HEIGHT],
    }
