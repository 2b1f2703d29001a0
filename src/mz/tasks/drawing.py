"""Pictures that tasks share: an image at a good size with lines of text under it, boxes and masks over it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mz.data import Boxes

if TYPE_CHECKING:
    from PIL.Image import Image

Line = tuple[str, str]
"""A text and its colour."""

BLACK, RED, WHITE = "black", "#b00020", "white"
_MARGIN_PIXELS = 8
_TEXT_PIXELS = 14
_LABEL_PIXELS = 12


def picture(image: np.ndarray, pixels: int, whole_factor: bool = False) -> Image:
    """uint8 [H, W] or [H, W, 3] with its longer side brought to `pixels`.

    whole_factor: small images are enlarged pixel by pixel, by a whole factor.
    """
    from PIL import Image

    found = Image.fromarray(np.ascontiguousarray(image)).convert("RGB")
    longer = max(found.size)
    if whole_factor and pixels // longer >= 1:
        factor = pixels // longer
        return found.resize((found.width * factor, found.height * factor), Image.Resampling.NEAREST)
    size = (max(1, round(found.width * pixels / longer)), max(1, round(found.height * pixels / longer)))
    return found.resize(size, Image.Resampling.LANCZOS)


def captioned(picture: Image, lines: list[Line]) -> Image:
    """The picture with lines of text, each in its colour, under it."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(_TEXT_PIXELS)
    line_pixels = _TEXT_PIXELS + 4
    width = max(picture.width, *(int(font.getlength(line)) + 1 for line, _ in lines), 1)
    height = picture.height + line_pixels * len(lines)
    canvas = Image.new("RGB", (width + 2 * _MARGIN_PIXELS, height + 3 * _MARGIN_PIXELS), WHITE)
    canvas.paste(picture, (_MARGIN_PIXELS, _MARGIN_PIXELS))
    pen = ImageDraw.Draw(canvas)
    for row, (line, colour) in enumerate(lines):
        top = picture.height + 2 * _MARGIN_PIXELS + row * line_pixels
        pen.text((_MARGIN_PIXELS, top), line, fill=colour, font=font)
    return canvas


def draw_boxes(
    picture: Image, corners: np.ndarray, texts: list[str], colours: list[str], width: int = 2
) -> None:
    """Draw boxes (shares of the picture, [n, 4]) into the picture, each with its text at its upper edge."""
    from PIL import ImageDraw, ImageFont

    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(_LABEL_PIXELS)
    scale = np.array([picture.width, picture.height] * 2)
    for box, text, colour in zip(corners * scale, texts, colours, strict=True):
        left, top, right, bottom = (float(side) for side in box)
        pen.rectangle((left, top, max(left, right), max(top, bottom)), outline=colour, width=width)
        if text:
            place = (max(left, 0), max(top - _LABEL_PIXELS - 2, 0))
            pen.rectangle(pen.textbbox(place, text, font=font), fill=colour)
            pen.text(place, text, fill=WHITE, font=font)


def draw_truth(picture: Image, label: Boxes | None) -> None:
    """The true boxes, thin and white."""
    if label is not None:
        draw_boxes(picture, label.corners, [""] * len(label), [WHITE] * len(label), width=1)


def colour(number: int) -> str:
    """A colour for a class, strong enough to write white on."""
    from colorsys import hls_to_rgb

    return "#" + "".join(f"{round(255 * part):02x}" for part in hls_to_rgb(number * 0.618034 % 1, 0.38, 0.8))


def palette() -> np.ndarray:
    """uint8 [256, 3]: the colours of all class numbers that a mask can hold."""
    return np.array([[int(colour(n)[i : i + 2], 16) for i in (1, 3, 5)] for n in range(256)], np.uint8)
