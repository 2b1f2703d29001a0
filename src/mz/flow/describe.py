"""A configuration for a network that is in no zoo: what its graph says, what the user says, and what is assumed.

The result is the same for `mz init`, which writes it as YAML, and for `--ckpt` alone, which uses it at once. May import
the zoo and the parser's results.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mz import zoo
from mz.errors import UserError
from mz.flow.options import InputOptions
from mz.graph import Graph
from mz.parser import ParseResult
from mz.parser.integer_inputs import integer_inputs
from mz.zoo.cache import digest

Steps = Callable[[int, int], list[dict[str, Any]]]
"""Preprocessing steps for a network that reads images of (height, width)."""

RESIZES: dict[str, tuple[str, Steps]] = {
    "crop": (
        "the middle 7/8 of the shorter side, then bilinear to the network's size",
        lambda h, w: [{"center_crop": [7, 8]}, {"resize": {"height": h, "width": w, "method": "bilinear"}}],
    ),
    "stretch": ("stretched to the network's size", lambda h, w: [{"stretch": [h, w]}]),
    "fit": ("at the top left with its proportions kept, the rest padded", lambda h, w: [{"fit": [h, w]}]),
    "none": ("as it is: images must have the network's size", lambda h, w: []),
}
"""What `--resize` takes: in words, and as steps."""


@dataclass(frozen=True, slots=True)
class Described:
    """config: as the YAML says it. assumed: one line for each thing that neither graph nor user has said."""

    config: zoo.NetworkConfig
    assumed: tuple[str, ...]
    text: str


def describe(
    result: ParseResult,
    ckpt: Path,
    wishes: InputOptions,
    *,
    start_nodes: Sequence[str] = (),
    end_nodes: Sequence[str] = (),
    folder: Path | None = None,
) -> Described:
    """The configuration of a parsed network. folder: of the YAML, from which its path to `ckpt` counts.

    Raises UserError for a network that does not read one image, or wishes that do not fit it.
    """
    tensor, shape = _image_input(result, ckpt)
    last, (channels, height, width) = _layout(shape, ckpt, tensor)
    said = _Said()
    task = said.of("task", wishes.task, *_task(result.graph))
    decode = said.of("decode", wishes.decode, *_decode(channels))
    mean = said.of("mean", _list(wishes.mean), [0.0], "pixels are not shifted (--mean)")
    std = said.of("std", _list(wishes.std), *_std(tensor in integer_inputs(ckpt)))
    usual = "crop" if task == "classification" and height == width else "stretch"
    resize = said.of("resize", wishes.resize, usual, f"an image is taken {RESIZES[usual][0]} (--resize)")
    if resize not in RESIZES:
        raise UserError(f"--resize {resize}: is none of {', '.join(RESIZES)}")
    preprocessing: dict[str, Any] = {"decode": decode, "steps": RESIZES[resize][1](height, width)}
    preprocessing |= {"mean": mean, "std": std}
    if last:
        preprocessing["layout"] = "channels_last"
    path = Path(os.path.relpath(ckpt.resolve(), folder.resolve())) if folder else Path(ckpt.name)
    source = {"kind": "file", "path": path.as_posix(), "sha256": digest(ckpt), "bytes": ckpt.stat().st_size}
    parser: dict[str, Any] = {"input_shapes": {tensor: list(shape)}}
    parser |= {"start_node_names": list(start_nodes)} if start_nodes else {}
    parser |= {"end_node_names": list(end_nodes)} if end_nodes else {}
    data = {
        "network": {"name": name_of(ckpt), "task": task},
        "paths": {"source": source},
        "parser": parser,
        "preprocessing": preprocessing,
    }
    config = zoo.from_dict(data, str(ckpt))
    if config.preprocessing.channels != channels:
        raise UserError(
            f"{ckpt}: input {tensor!r} has {channels} channels, --decode {decode} gives "
            f"{config.preprocessing.channels}"
        )
    return Described(config, tuple(said.assumed.values()), _text(data, said.assumed, result.graph))


def name_of(ckpt: Path) -> str:
    """The file's name as a network's: letters, digits, `_`, `.` and `-`."""
    return re.sub(r"[^A-Za-z0-9_.\-]+", "_", ckpt.stem).lstrip(".-") or "network"


class _Said:
    """Takes what the user says, else the usual value, which is noted as assumed with what it means."""

    def __init__(self) -> None:
        self.assumed: dict[str, str] = {}

    def of(self, key: str, wish: Any, usual: Any, meaning: str) -> Any:
        if wish is not None:
            return wish
        self.assumed[key] = f"{key}: {json.dumps(usual)}, assumed: {meaning}"
        return usual


def _image_input(result: ParseResult, ckpt: Path) -> tuple[str, tuple[int, ...]]:
    """Name and shape, without the batch axis, of the network's only input."""
    inputs = result.graph.inputs
    if len(inputs) != 1:
        names = ", ".join(result.input_names.values())
        raise UserError(f"{ckpt}: has {len(inputs)} inputs ({names}); mz feeds networks of one image input")
    return result.input_names[inputs[0].name], inputs[0].shape


def _layout(shape: tuple[int, ...], ckpt: Path, tensor: str) -> tuple[bool, tuple[int, int, int]]:
    """Whether the channels come last, and (channels, height, width)."""
    if len(shape) == 3 and shape[0] in (1, 3):
        return False, (shape[0], shape[1], shape[2])
    if len(shape) == 3 and shape[2] in (1, 3):
        return True, (shape[2], shape[0], shape[1])
    raise UserError(
        f"{ckpt}: input {tensor!r} of shape {list(shape)} (without the batch) is no image of 1 or 3 channels; "
        "begin the network where it reads an image, with --start-node-names"
    )


def _task(graph: Graph) -> tuple[str, str]:
    """What the outputs look like, and why."""
    shapes = [graph[name].shape for name in graph.outputs]
    if len(shapes) == 1 and sum(size > 1 for size in shapes[0]) == 1 and shapes[0][0] > 1:
        return "classification", f"the one output holds {shapes[0][0]} scores (--task)"
    shown = ", ".join(str(list(shape)) for shape in shapes)
    return "outputs", f"outputs {shown} are only compared, not judged (--task)"


def _decode(channels: int) -> tuple[str, str]:
    if channels == 1:
        return "gray", "the input has one channel (--decode)"
    return "rgb", "three channels in the order red, green, blue (--decode bgr for OpenCV's)"


def _std(integers: bool) -> tuple[list[float], str]:
    if integers:
        return [1.0], "pixels stay 0..255, as the file takes integers (--std)"
    return [255.0], "pixels 0..255 become 0..1 (--std)"


def _list(values: tuple[float, ...] | None) -> list[float] | None:
    return None if values is None else list(values)


def _text(data: dict[str, Any], assumed: dict[str, str], graph: Graph) -> str:
    """The YAML, with a comment for everything that is assumed."""
    coverage = graph.coverage()
    network, source, parser, images = (
        data["network"],
        data["paths"]["source"],
        data["parser"],
        data["preprocessing"],
    )

    def line(indent: int, key: str, value: Any, about: str = "") -> str:
        comment = f"{' ' * indent}# {assumed[about].partition(', ')[2]}\n" if about in assumed else ""
        return f"{comment}{' ' * indent}{key}: {json.dumps(value, ensure_ascii=False)}"

    lines = [
        "# Written by mz init. What is marked as assumed was neither in the ONNX file nor given: check it.",
        f"# {coverage.layers_percent:.0f} % of the layers and {coverage.macs_percent:.1f} % of the MACs run on the "
        "accelerator.",
        "network:",
        line(2, "name", network["name"]),
        line(2, "task", network["task"], "task"),
        "paths:",
        "  source:",
        *(line(4, key, value) for key, value in source.items()),
        "parser:",
        "  input_shapes:",
        *(line(4, json.dumps(key), value) for key, value in parser["input_shapes"].items()),
        *(line(2, key, parser[key]) for key in ("start_node_names", "end_node_names") if key in parser),
        "preprocessing:",
        line(2, "decode", images["decode"], "decode"),
        line(2, "steps", images["steps"], "resize"),
        line(2, "mean", images["mean"], "mean"),
        line(2, "std", images["std"], "std"),
        *([line(2, "layout", images["layout"])] if "layout" in images else []),
        "quantization:",
        "  calibration:",
        "    count: 1024  # of the images in --calib-path, or as many as there are",
        "# evaluation:",
        "#   dataset:",
        "#     class_names: []  # in the order of the network's outputs",
    ]
    return "\n".join(lines) + "\n"
