"""The calibration set as a network takes it, and the statistics of a float network on it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mz import data, tasks, zoo
from mz.engines.float_ort import TappedSession
from mz.errors import UserError
from mz.flow.options import Note, Progress, no_note
from mz.flow.statistics_cache import load, save, statistics_path
from mz.graph import Graph, Params
from mz.quantize import Gatherer, Statistics, collect, image_bytes, image_count, scaled_ends

Images = dict[str, np.ndarray]
"""float32 [N, *shape] by Input layer."""


def as_parsed(images: np.ndarray) -> np.ndarray:
    """What the parsed network takes: preprocessed images as they are."""
    return images


@dataclass(frozen=True, slots=True)
class CalibrationSet:
    """feed: the network's only Input. adapt: from what the parsed network takes to what this one takes.

    preprocessing: what `preprocess` does, in words that change with it, so that statistics of the set may be kept from
    run to run; None keeps none.
    """

    dataset: data.Dataset
    preprocess: Callable[..., np.ndarray]
    feed: str
    batch_size: int
    adapt: Callable[[np.ndarray], np.ndarray] = as_parsed
    preprocessing: str | None = None

    def batches(self) -> Iterator[np.ndarray]:
        for images, _ in data.batches(self.dataset, self.preprocess, self.batch_size):
            yield self.adapt(images)

    def sample(self, count: int) -> Images:
        """At most `count` of the images, evenly spaced."""
        part = data.subset(self.dataset, min(count, len(self.dataset)))
        found = [self.adapt(images) for images, _ in data.batches(part, self.preprocess, self.batch_size)]
        return {self.feed: np.concatenate(found)}


def open_set(
    dataset: data.Dataset,
    task: tasks.Task,
    feed: str,
    batch_size: int,
    cached: zoo.NetworkConfig | None = None,
) -> CalibrationSet:
    """cached: the configuration of the network, where statistics of the set may be kept from run to run."""
    preprocessing = None
    if cached is not None:
        preprocessing = repr((cached.network.task, cached.parser.input_shapes, cached.preprocessing))
    return CalibrationSet(dataset, task.preprocess_batch, feed, batch_size, preprocessing=preprocessing)


def calibrate(
    graph: Graph, params: Params, images: CalibrationSet, progress: Progress, note: Note = no_note
) -> tuple[Statistics, Images]:
    """Statistics of every accelerator tensor over the calibration set, from an earlier run where it kept them, and the
    images that later steps look at again, evenly spaced over the set.
    """
    if images.preprocessing is None:
        return _calibration_pass(graph, params, images, progress)
    total = len(images.dataset)
    settings = {
        "images": data.content_key(images.dataset),
        "preprocessing": images.preprocessing,
        "feed": images.feed,
        "batch_size": images.batch_size,
    }
    path = statistics_path(graph, params, settings)
    if os.path.isfile(path):  # False for a folder that may not be read, too
        sample = images.sample(image_count(graph, total, four_bit=True))
        known = load(path, sample)
        if known is not None:
            note(f"calibration: statistics of {total} images from the cache")
            return known, sample
    statistics, sample = _calibration_pass(graph, params, images, progress)
    try:
        save(path, statistics, sample)
    except UserError as error:
        note(f"calibration: statistics are not kept for other runs: {error}")
    return statistics, sample


def _calibration_pass(
    graph: Graph, params: Params, images: CalibrationSet, progress: Progress
) -> tuple[Statistics, Images]:
    total = len(images.dataset)
    wanted = image_count(graph, total, four_bit=True)
    places = np.arange(wanted) * total // wanted
    kept: list[np.ndarray] = []

    def batches() -> Iterator[Images]:
        start = 0
        with progress("calibration", total) as advance:
            for batch in images.batches():
                stop = start + len(batch)
                kept.append(batch[places[(places >= start) & (places < stop)] - start])
                yield {images.feed: batch}
                advance(len(batch))
                start = stop

    statistics = statistics_of(graph, params, batches())
    return statistics, {images.feed: np.concatenate(kept)}


def statistics_of(
    graph: Graph,
    params: Params,
    batches: Iterable[Mapping[str, np.ndarray]],
    gatherers: Sequence[Gatherer] = (),
) -> Statistics:
    """Statistics of every accelerator tensor in one pass of the float network (`mz.quantize.collect`)."""
    session, ends = TappedSession(graph, params), scaled_ends(graph, params)
    return collect(session, batches, image_bytes(graph), gatherers, ends)


def some(images: Mapping[str, np.ndarray], count: int) -> Images:
    """At most `count` of the images, evenly spaced."""
    size = len(next(iter(images.values())))
    if count >= size:
        return dict(images)
    chosen = np.arange(min(count, size)) * size // min(count, size)
    return {name: value[chosen] for name, value in images.items()}


def without(images: Mapping[str, np.ndarray], others: Mapping[str, np.ndarray]) -> Images:
    """Those of the images of a network's one input that are not, value by value, among the others; all if none is."""
    ((name, values),) = images.items()
    known = {_digest(image) for image in others[name]}
    rest = [_digest(image) not in known for image in values]
    return {name: values[rest] if any(rest) else values}


def _digest(image: np.ndarray) -> bytes:
    return hashlib.sha256(image.tobytes()).digest()


def halves(images: Mapping[str, np.ndarray], first: int, second: int) -> tuple[Images, Images]:
    """At most `first` of every other image, and at most `second` of those between: to choose on, and to judge on."""
    seen = {name: value[::2] for name, value in images.items()}
    unseen = {name: value[1::2] if len(value) > 1 else value for name, value in images.items()}
    return some(seen, first), some(unseen, second)
