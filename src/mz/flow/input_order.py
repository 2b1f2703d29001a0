"""Whether the changes of an input that a script asks for fit the network and each other.

Each stands before what earlier ones put there. So from the network outwards it is known what the values are: normalized
or pixels, in which colours, and whether planes of one size are left that can be resized.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mz.errors import UserError
from mz.script import InputConversion, InputResize, Normalization
from mz.zoo import Preprocessing

InputChange = Normalization | InputConversion | InputResize
_SWAPPED = {"rgb": "bgr", "bgr": "rgb"}
_COLOURS = (*_SWAPPED, "yuv")


def check_input_order(changes: Sequence[InputChange], preprocessing: Preprocessing) -> None:
    """Raises UserError, naming the change and the way out, where the device would be fed other images than the
    network wants. changes: in the script's order.
    """
    if changes and preprocessing.layout == "channels_last":
        raise UserError(
            f"{changes[0].name}: the network's input is [H, W, C]: cut its first transpose off with --start-node-names"
        )
    held: str = preprocessing.decode
    pixels = set(preprocessing.mean) == {0.0} and set(preprocessing.std) == {1.0}
    swapped = False
    for change in changes:
        swap = isinstance(change, InputConversion) and change.conversion == "bgr_to_rgb"
        if isinstance(change, Normalization):
            _check_normalization(change, preprocessing, swapped)
            pixels = True
        elif not (pixels or swap):
            raise UserError(
                f"{change.name}: the network takes normalized values, which are no pixels: put a normalization "
                "before it"
            )
        elif isinstance(change, InputResize):
            if held not in (*_COLOURS, "gray"):
                raise UserError(
                    f"{change.name}: {held} cannot be resized: put the resize before the conversion"
                )
        elif isinstance(change, InputConversion):
            held = _converted(change, held)
            swapped ^= swap
    if changes and not pixels:
        raise UserError(
            f"{changes[-1].name}: the network takes normalized values, which are no pixels: put a normalization "
            "before it"
        )


def _converted(change: InputConversion, held: str) -> str:
    """What the device takes if `change` stands before a network that takes `held`."""
    taken, _, given = change.conversion.partition("_to_")
    if taken == "bgr" and held in _SWAPPED:
        return _SWAPPED[held]
    if taken != "bgr" and given == held:
        return taken
    if held == "bgr" and given == "rgb":
        raise UserError(
            f"{change.name}: {change.conversion} gives RGB, and the network takes BGR: put "
            "input_conversion(bgr_to_rgb), which turns their order, before it"
        )
    if held == "rgb" and given == "yuv":
        raise UserError(
            f"{change.name}: {change.conversion} gives YUV, and the network takes RGB: put "
            "input_conversion(yuv_to_rgb) before it"
        )
    raise UserError(f"{change.name}: {change.conversion} cannot stand before a network that takes {held}")


def _check_normalization(change: Normalization, preprocessing: Preprocessing, swapped: bool) -> None:
    if len(change.mean) != preprocessing.channels:
        raise UserError(
            f"{change.name}: has {len(change.mean)} channels, and the network's images have {preprocessing.channels}"
        )
    for key in ("mean", "std"):
        asked, given = getattr(change, key), np.broadcast_to(getattr(preprocessing, key), len(change.mean))
        if not np.allclose(asked, given[::-1] if swapped else given, rtol=1e-4, atol=1e-4):
            raise UserError(
                f"{change.name}: {key} {list(asked)} is not that of the network's preprocessing, "
                f"{[float(value) for value in given]}: the network takes over what the host did, and no other"
            )
