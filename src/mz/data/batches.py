"""Batches for inference, read and preprocessed in threads beside it, in order and a few ahead at most."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from mz.data.dataset import Dataset
from mz.data.preprocess import Preprocess

Batch = tuple[np.ndarray, np.ndarray | None]
"""Network input float32 [N, C, H, W], and labels int64 [N] or None."""


def batches(dataset: Dataset, preprocess: Preprocess, batch_size: int, threads: int = 2) -> Iterator[Batch]:
    """All images in order, `batch_size` at a time (the last batch may be smaller).

    At most `threads` + 1 batches wait in memory. The same batches come whatever the number of threads is.
    An error in reading or preprocessing is raised where its batch would have come.
    """

    def load(start: int) -> Batch:
        stop = min(start + batch_size, len(dataset))
        images = dataset.read_many(start, stop)
        if isinstance(images, np.ndarray):
            x = preprocess(images)
        else:
            x = np.concatenate([preprocess(image[None]) for image in images])
        return x, None if dataset.labels is None else dataset.labels[start:stop]

    waiting: deque[Future[Batch]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="mz-data")
    try:
        for start in range(0, len(dataset), batch_size):
            waiting.append(pool.submit(load, start))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
