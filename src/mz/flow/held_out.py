"""Images to calibrate on and images to judge by, with none in both."""

from __future__ import annotations

from pathlib import Path

from mz import data, zoo
from mz.errors import UserError

_CALIBRATING = 4
"""One of so many images calibrates where one folder must serve for both and the user names no number."""


def split(
    config: zoo.NetworkConfig,
    calib_path: Path | None,
    calib_count: int | None,
    data_path: Path | None,
    data_count: int | None,
) -> tuple[data.Dataset, data.Dataset]:
    """The calibration set, and the evaluation set without its images.

    data_path: None is the network's own evaluation set, else what is left of the folder that calibrates.
    Raises UserError where nothing is left to judge by.
    """
    own = config.evaluation.dataset is not None and config.evaluation.dataset.kind == "bundled"
    whole = data.open_evaluation(config, data_path if data_path or own else calib_path)
    calibration = data.open_calibration(config, calib_path, calib_count)
    rest = data.without(whole, calibration)
    shared = len(whole) - (len(rest) if rest else 0)
    if calib_count is None and 2 * shared > len(whole):
        calibration = data.subset(calibration, max(1, len(calibration) // _CALIBRATING))
        rest = data.without(whole, calibration)
    if rest is None:
        raise UserError(
            f"{whole.name}: all its images calibrate, none is left to judge by: name others by --data-path, or "
            "calibrate on fewer by --calib-count"
        )
    return calibration, rest if data_count is None else data.subset(rest, data_count)
