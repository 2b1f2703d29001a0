"""Text orientation: whether a line of text is upright (class 0) or turned by 180 degrees (class 1).

The data set shows every line both ways (`mz.data.TurnedDataset`), so that half of the images belong to each class.
"""

from __future__ import annotations

from types import MappingProxyType

from mz.tasks.classification import Classification


class TextOrientation(Classification):
    """Classification with one metric, the share of lines whose orientation is told right."""

    tops = MappingProxyType({"accuracy": 1})
    metric_names = ("accuracy",)
    picture_pixels = 320
