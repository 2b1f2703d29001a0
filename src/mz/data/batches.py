"""Batches for inference, read and preprocessed in threads beside it, in order and a few ahead at most."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from mz.data.dataset import DamagedImageError, Dataset, Images
from mz.data.labels import gather
from mz.data.preprocess import Preprocess


@dataclass(frozen=True, slots=True)
class BatchInfo:
    """What is known of a batch's images beside their pixels.

    indices: int64 [N], their places in the data set. sizes: int64 [N, 2], height and width as stored.
    labels: int64 [N] for classes, else a list of N labels; None without labels.
    """

    indices: np.ndarray
    sizes: np.ndarray
    labels: np.ndarray | list[Any] | None = None


Batch = tuple[np.ndarray, BatchInfo]
"""Network input float32 [N, C, H, W], and what is known of its images."""

_Loaded = tuple[np.ndarray | None, BatchInfo, list[DamagedImageError]]


def batches(
    dataset: Dataset,
    preprocess: Preprocess,
    batch_size: int,
    threads: int = 2,
    damaged: Callable[[DamagedImageError], object] | None = None,
) -> Iterator[Batch]:
    """All images in order, `batch_size` at a time (the last batch may be smaller).

    damaged: told of every image that cannot be decoded, in order; the batch then comes without it (and not at all if
    it has no other). Without this function such an image is an error.
    At most `threads` + 1 batches wait in memory. The same batches come whatever the number of threads is.
    An error in reading or preprocessing is raised where its batch would have come.
    """

    def load(start: int) -> _Loaded:
        stop = min(start + batch_size, len(dataset))
        indices, images, faults = _read(dataset, start, stop, tolerant=damaged is not None)
        sizes = np.array([image.shape[:2] for image in images], np.int64).reshape(-1, 2)
        info = BatchInfo(indices, sizes, gather(dataset.labels, indices))
        if len(images) == 0:
            return None, info, faults
        if isinstance(images, np.ndarray):
            return preprocess(images), info, faults
        return np.concatenate([preprocess(image[None]) for image in images]), info, faults

    def given(future: Future[_Loaded]) -> Iterator[Batch]:
        x, info, faults = future.result()
        for fault in faults:
            assert damaged is not None
            damaged(fault)
        if x is not None:
            yield x, info

    waiting: deque[Future[_Loaded]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="mz-data")
    try:
        for start in range(0, len(dataset), batch_size):
            waiting.append(pool.submit(load, start))
            if len(waiting) > threads:
                yield from given(waiting.popleft())
        while waiting:
            yield from given(waiting.popleft())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _read(
    dataset: Dataset, start: int, stop: int, tolerant: bool
) -> tuple[np.ndarray, Images, list[DamagedImageError]]:
    """Places and images that could be decoded, and what was said of the others."""
    try:
        return np.arange(start, stop), dataset.read_many(start, stop), []
    except DamagedImageError:
        if not tolerant:
            raise
    kept: list[int] = []
    images: list[np.ndarray] = []
    faults: list[DamagedImageError] = []
    for index in range(start, stop):
        try:
            images.append(dataset.read(index))
            kept.append(index)
        except DamagedImageError as fault:
            faults.append(fault)
    return np.array(kept, np.int64), images, faults
