"""Data sets: bundled ones, and the forms in which users have theirs; read in order, preprocessed beside inference.

May import `mz.zoo` (what a configuration says of data) and `mz.errors`. Pillow is imported when a file is decoded.
"""

from __future__ import annotations

from mz.data.batches import Batch, BatchInfo, batches
from mz.data.dataset import (
    ArrayDataset,
    DamagedImageError,
    Dataset,
    FileDataset,
    Images,
    TurnedDataset,
    content_key,
    without,
)
from mz.data.labels import Boxes, LabelList, MaskFiles
from mz.data.opening import calibration_pool, open_calibration, open_dataset, open_evaluation, subset
from mz.data.preprocess import Preprocess, preprocessing

__all__ = [
    "ArrayDataset",
    "Batch",
    "BatchInfo",
    "Boxes",
    "DamagedImageError",
    "Dataset",
    "FileDataset",
    "Images",
    "LabelList",
    "MaskFiles",
    "Preprocess",
    "TurnedDataset",
    "batches",
    "calibration_pool",
    "content_key",
    "open_calibration",
    "open_dataset",
    "open_evaluation",
    "preprocessing",
    "subset",
    "without",
]
