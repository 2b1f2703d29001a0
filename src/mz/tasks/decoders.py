"""From a detector's tensors to boxes, one function a family of networks, each as that network's own code has it.

A decoder takes the outputs of a batch in the order of the network and the input's size, and gives for each image boxes
in shares of the network's input, scores and classes; nothing is thresholded or suppressed here.

FastestDet: dog-qiuqiu/FastestDet. Ultra-Light-Fast-Generic-Face-Detector: Linzaer, priors as W. Liu et al., SSD, ECCV
2016. YuNet: W. Wu et al., YuNet: A Tiny Millisecond-level Face Detector, MIR 2023.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mz.errors import UserError
from mz.tasks.base import shapes_of
from mz.tasks.boxes import Detections

Decoder = Callable[[str, list[np.ndarray], tuple[int, int]], list[Detections]]
"""(network's name, outputs, (height, width) of its input) -> Detections of each image."""

_ULTRAFACE_PIXELS = ((10, 16, 24), (32, 48), (64, 96), (128, 192, 256))
_CENTRE_VARIANCE, _SIZE_VARIANCE = np.float32(0.1), np.float32(0.2)


def fastestdet(name: str, outputs: list[np.ndarray], size: tuple[int, int]) -> list[Detections]:
    """One output [N, 5 + classes, h, w]: objectness, x, y, width, height, then class probabilities.

    score = objectness^0.6 * probability^0.4; the centre is tanh(x), tanh(y) cells from its own cell's corner, the size
    sigmoid(width), sigmoid(height) of the image.
    """
    if len(outputs) != 1 or outputs[0].ndim != 4 or outputs[0].shape[1] < 6:
        raise UserError(
            f"{name}: decoder fastestdet expects [N, 5 + classes, h, w], not {shapes_of(outputs)}"
        )
    (out,) = outputs
    rows, columns = out.shape[2:]
    best = out[:, 5:].argmax(axis=1)
    scores = np.maximum(out[:, 0], 0) ** 0.6 * np.maximum(out[:, 5:].max(axis=1), 0) ** 0.4
    x = (np.arange(columns)[None, None] + np.tanh(out[:, 1])) / columns
    y = (np.arange(rows)[None, :, None] + np.tanh(out[:, 2])) / rows
    corners = _corners(x, y, _sigmoid(out[:, 3]), _sigmoid(out[:, 4]))
    return [
        Detections(corners[n].reshape(-1, 4), scores[n].ravel(), best[n].ravel().astype(np.int64))
        for n in range(len(out))
    ]


def ultraface(name: str, outputs: list[np.ndarray], size: tuple[int, int]) -> list[Detections]:
    """A pair (class scores, box offsets) for each of the strides 8, 16, 32, 64, straight from the convolutions:
    [N, 2 a, h, w] and [N, 4 a, h, w] for a priors a cell; or the two outputs of the whole network, which decodes
    itself.
    """
    if [output.shape[-1] for output in outputs] == [2, 4]:
        return [_faces(box, score[:, 1]) for score, box in zip(*outputs, strict=True)]
    wanted = [per * len(sides) for sides in _ULTRAFACE_PIXELS for per in (2, 4)]
    if [output.shape[1] for output in outputs] != wanted:
        channels = ", ".join(f"[N, {count}, h, w]" for count in wanted)
        raise UserError(f"{name}: decoder ultraface expects {channels}, not {shapes_of(outputs)}")
    logits = np.concatenate([_anchors(output, 2) for output in outputs[::2]], axis=1)
    offsets = np.concatenate([_anchors(output, 4) for output in outputs[1::2]], axis=1)
    grids = [output.shape[2:] for output in outputs[::2]]
    priors = np.concatenate(
        [_priors(grid, sides, size) for grid, sides in zip(grids, _ULTRAFACE_PIXELS, strict=True)]
    )
    centres = offsets[..., :2] * _CENTRE_VARIANCE * priors[:, 2:] + priors[:, :2]
    sizes = np.exp(offsets[..., 2:] * _SIZE_VARIANCE) * priors[:, 2:]
    corners = np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=2)
    powers = np.exp(logits - logits.max(axis=2, keepdims=True))
    scores = powers[..., 1] / powers.sum(axis=2)
    return [_faces(corners[n], scores[n]) for n in range(len(scores))]


def yunet(name: str, outputs: list[np.ndarray], size: tuple[int, int]) -> list[Detections]:
    """Class, objectness, box and landmarks, each for the strides 8, 16, 32: [N, cells, 1, 1, 4 or 10] in that order.

    score = sqrt(class * objectness); the centre is (x, y) cells from its own cell, the size exp(width, height) cells.
    """
    if len(outputs) not in (9, 12) or [output.shape[-1] for output in outputs[:9]] != [1] * 6 + [4] * 3:
        raise UserError(
            f"{name}: decoder yunet expects class, objectness and box, each for three strides, not {shapes_of(outputs)}"
        )
    corners, scores = [], []
    for level, stride in enumerate((8, 16, 32)):
        rows, columns = -(-size[0] // stride), -(-size[1] // stride)
        probability, objectness = (np.clip(outputs[level + place][..., 0], 0, 1) for place in (0, 3))
        box = outputs[level + 6]
        if box.shape[1] != rows * columns:
            raise UserError(f"{name}: decoder yunet expects {rows * columns} cells of stride {stride}")
        y, x = np.divmod(np.arange(rows * columns), columns)
        unit_x, unit_y = stride / size[1], stride / size[0]
        sides = np.exp(box[..., 2]) * unit_x, np.exp(box[..., 3]) * unit_y
        corners.append(_corners((x + box[..., 0]) * unit_x, (y + box[..., 1]) * unit_y, *sides))
        scores.append(np.sqrt(probability * objectness))
    every_corner, every_score = np.concatenate(corners, axis=1), np.concatenate(scores, axis=1)
    return [_faces(box, score) for box, score in zip(every_corner, every_score, strict=True)]


DECODERS: dict[str, Decoder] = {"fastestdet": fastestdet, "ultraface": ultraface, "yunet": yunet}
"""By the name that `postprocessing.decoder` has."""


def _faces(corners: np.ndarray, scores: np.ndarray) -> Detections:
    return Detections(corners, scores, np.zeros(len(scores), np.int64))


def _corners(x: np.ndarray, y: np.ndarray, width: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Centres and sizes -> [..., 4]."""
    return np.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], axis=-1)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-x)))


def _anchors(output: np.ndarray, values: int) -> np.ndarray:
    """[N, a * values, h, w] -> [N, h * w * a, values]."""
    return output.transpose(0, 2, 3, 1).reshape(len(output), -1, values)


def _priors(grid: tuple[int, ...], sides: tuple[int, ...], size: tuple[int, int]) -> np.ndarray:
    """Centre x, y, width and height of the square priors of every cell, in shares of the input, cut to 0..1:
    float32 [h * w * len(sides), 4].
    """
    rows, columns = grid
    y, x = np.divmod(np.repeat(np.arange(rows * columns), len(sides)), columns)
    pixels = np.tile(np.array(sides, np.float64), rows * columns)
    priors = [(x + 0.5) / columns, (y + 0.5) / rows, pixels / size[1], pixels / size[0]]
    return np.clip(np.stack(priors, axis=1), 0, 1).astype(np.float32)
