"""Work of the host done by the network instead: colour conversion and resizing, right behind an Input.

Every pass adds layers that all engines and emitters know already, and says what the host then has to feed (input_form).
Each stands before what earlier passes put there, so the last one meets the pixels first.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from mz.errors import UserError
from mz.graph import Concat, Conv, Graph, Input, Layer, Params, Reshape, Resize, Slice, Transpose
from mz.optimize.input_form import CHROMA_OFFSET, RGB_TO_YUV, InputForm

Changed = tuple[Graph, Params, InputForm]
PIXELS = (0.0, 255.0)


def convert_input(
    graph: Graph, params: Params, *, name: str, conversion: str, source: str | None = None
) -> Changed:
    """Takes another colour format: `bgr_to_rgb`, `rgbx_to_rgb`, `yuv_to_rgb`, `nv12_to_yuv`, `nv12_to_rgb`,
    `yuy2_to_yuv` or `yuy2_to_rgb`. Byte layouts are those of `input_form`.

    Chroma of nv12 and yuy2 is stretched to nearest. Raises UserError where the input is no image of three channels, or
    its sides are odd.
    """
    image = only_image(graph, source, name)
    if image.shape[0] != 3:
        raise UserError(
            f"{name}: {conversion} wants an image of 3 channels, and {image.name} has {image.shape[0]}"
        )
    taken, _, given = conversion.partition("_to_")
    if taken in ("nv12", "yuy2"):
        _check_even(image, name, rows=taken == "nv12")
    if taken == "bgr":
        kernel = np.eye(3, dtype=np.float32)[::-1].copy().reshape(3, 3, 1, 1)
        layer = pointwise(name, image.name, image.shape)
        arrays = {"kernel": kernel, "bias": np.zeros(3, np.float32)}
        return _insert(graph, image, image, [layer]), params | {name: arrays}, [{"step": "swap"}]
    if taken == "rgbx":
        four = dataclasses.replace(image, shape=(4, *image.shape[1:]))
        cut = Slice(
            name=name,
            inputs=(image.name,),
            shape=image.shape,
            starts=(0, 0, 0),
            stops=image.shape,
            steps=(1, 1, 1),
        )
        return _insert(graph, image, four, [cut]), params, [{"step": "fourth_channel"}]
    layers: list[Layer] = []
    form: list[dict[str, str]] = []
    device = image
    planes = image.name
    if taken != "yuv":
        planes = name if given == "yuv" else f"{name}_yuv"
        device, layers = (_from_nv12 if taken == "nv12" else _from_yuy2)(image, planes)
        form.append({"step": taken})
    if given == "rgb":
        layers.append(pointwise(name, planes, image.shape, clip=PIXELS))
        inverse = np.linalg.inv(RGB_TO_YUV)
        params = params | {
            name: {
                "kernel": inverse.astype(np.float32).reshape(3, 3, 1, 1),
                "bias": (-inverse @ CHROMA_OFFSET).astype(np.float32),
            }
        }
        form.insert(0, {"step": "yuv"})
    return _insert(graph, image, device, layers), params, form


def resize_input(
    graph: Graph, params: Params, *, name: str, shape: tuple[int, int], source: str | None = None
) -> Changed:
    """Takes images of `shape` (height, width) and resizes them, bilinear with half-pixel centres."""
    image = only_image(graph, source, name)
    device = dataclasses.replace(image, shape=(image.shape[0], *shape))
    scales = (image.shape[1] / shape[0], image.shape[2] / shape[1])
    layer = Resize(name=name, inputs=(image.name,), shape=image.shape, mode="bilinear", scales=scales)
    return _insert(graph, image, device, [layer]), params, [{"step": "resize", "shape": list(shape)}]


def only_image(graph: Graph, source: str | None, name: str) -> Input:
    """The network's only image, for the change `name`, or UserError."""
    inputs = [layer for layer in graph.inputs if source in (None, layer.name)]
    if len(inputs) != 1 or len(inputs[0].shape) != 3:
        raise UserError(
            f"{name}: wants one input image [C, H, W]; {graph.name} has "
            + ", ".join(f"{layer.name} {list(layer.shape)}" for layer in graph.inputs)
        )
    return inputs[0]


def _insert(graph: Graph, image: Input, device: Input, layers: list[Layer]) -> Graph:
    """The graph with `device` in the place of `image` and `layers` between it and its readers."""
    last = layers[-1].name
    rest: list[Layer] = []
    for layer in graph.layers:
        if layer is image:
            rest += [device, *layers]
            continue
        inputs = tuple(last if name == image.name else name for name in layer.inputs)
        rest.append(layer if inputs == layer.inputs else dataclasses.replace(layer, inputs=inputs))
    return dataclasses.replace(graph, layers=tuple(rest))


def pointwise(
    name: str,
    source: str,
    shape: tuple[int, ...],
    groups: int = 1,
    clip: tuple[float, float] = (-np.inf, np.inf),
) -> Conv:
    """A 1x1 convolution of an image of `shape`."""
    return Conv(name=name, inputs=(source,), shape=shape, kernel_shape=(1, 1), groups=groups, clip=clip)


def _check_even(image: Input, name: str, rows: bool) -> None:
    _, height, width = image.shape
    if width % 2 or (rows and height % 2):
        raise UserError(f"{name}: halved chroma wants even sides, and {image.name} is {height} x {width}")


def _from_nv12(image: Input, name: str) -> tuple[Input, list[Layer]]:
    _, height, width = image.shape
    source = image.name
    device = dataclasses.replace(image, shape=(1, height * 3 // 2, width))
    layers: list[Layer] = [
        _rows(f"{name}_luma", source, (1, height, width), 0),
        _rows(f"{name}_chroma", source, (1, height // 2, width), height),
        Reshape(name=f"{name}_pairs", inputs=(f"{name}_chroma",), shape=(height // 2, width // 2, 2)),
        Transpose(
            name=f"{name}_planes",
            inputs=(f"{name}_pairs",),
            shape=(2, height // 2, width // 2),
            permutation=(2, 0, 1),
        ),
        _stretched(f"{name}_stretched", f"{name}_planes", (2, height, width), (2.0, 2.0)),
        Concat(name=name, inputs=(f"{name}_luma", f"{name}_stretched"), shape=image.shape),
    ]
    return device, layers


def _from_yuy2(image: Input, name: str) -> tuple[Input, list[Layer]]:
    _, height, width = image.shape
    half = width // 2
    device = dataclasses.replace(image, shape=(1, height, 2 * width))
    layers: list[Layer] = [
        Reshape(name=f"{name}_pairs", inputs=(image.name,), shape=(height, half, 4)),
        Transpose(
            name=f"{name}_planes", inputs=(f"{name}_pairs",), shape=(4, height, half), permutation=(2, 0, 1)
        ),
        _every_second(f"{name}_luma_planes", f"{name}_planes", (2, height, half), 0),
        Transpose(
            name=f"{name}_luma_pairs",
            inputs=(f"{name}_luma_planes",),
            shape=(height, half, 2),
            permutation=(1, 2, 0),
        ),
        Reshape(name=f"{name}_luma", inputs=(f"{name}_luma_pairs",), shape=(1, height, width)),
        _every_second(f"{name}_chroma", f"{name}_planes", (2, height, half), 1),
        _stretched(f"{name}_stretched", f"{name}_chroma", (2, height, width), (1.0, 2.0)),
        Concat(name=name, inputs=(f"{name}_luma", f"{name}_stretched"), shape=image.shape),
    ]
    return device, layers


def _rows(name: str, source: str, shape: tuple[int, ...], start: int) -> Slice:
    stops = (shape[0], start + shape[1], shape[2])
    return Slice(name=name, inputs=(source,), shape=shape, starts=(0, start, 0), stops=stops, steps=(1, 1, 1))


def _every_second(name: str, source: str, shape: tuple[int, ...], start: int) -> Slice:
    return Slice(
        name=name,
        inputs=(source,),
        shape=shape,
        starts=(start, 0, 0),
        stops=(4, *shape[1:]),
        steps=(2, 1, 1),
    )


def _stretched(name: str, source: str, shape: tuple[int, ...], scales: tuple[float, float]) -> Resize:
    return Resize(
        name=name,
        inputs=(source,),
        shape=shape,
        mode="nearest",
        scales=scales,
        coordinates="asymmetric",
        nearest_mode="floor",
    )
