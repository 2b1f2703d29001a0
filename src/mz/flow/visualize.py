"""Writes what a network says of its first images as pictures: float and integers side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mz.data import BatchInfo, Dataset
from mz.errors import UserError
from mz.tasks import Task

MOST_IMAGES = 32


class Gallery:
    """Takes the outputs batch by batch, in the data set's order, and draws the first 32 images."""

    def __init__(self, folder: Path, task: Task, dataset: Dataset) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{folder}: cannot be made: {error.strerror}") from error
        self._folder, self._task, self._dataset, self._drawn = folder, task, dataset, 0

    def add(
        self, float_outputs: list[np.ndarray], integer_outputs: list[np.ndarray] | None, about: BatchInfo
    ) -> None:
        """One picture an image: a panel for each network, and one for the truth where the task draws it apart."""
        from PIL import Image

        for row in range(len(float_outputs[0])):
            if self._drawn >= MOST_IMAGES:
                return
            index = int(about.indices[row])
            image = self._dataset.read(index)
            label = None if about.labels is None else about.labels[row]
            wanted: list[tuple[str, list[np.ndarray] | None]] = [("float", float_outputs)]
            if integer_outputs is not None:
                wanted.append(("integers", integer_outputs))
            if label is not None and self._task.truth_apart:
                wanted.append(("true", None))
            panels = [
                self._task.draw(
                    image,
                    None if outputs is None else [value[row] for value in outputs],
                    label,
                    title=title,
                    class_names=self._dataset.class_names,
                )
                for title, outputs in wanted
            ]
            sheet = Image.new("RGB", (sum(p.width for p in panels), max(p.height for p in panels)), "white")
            left = 0
            for panel in panels:
                sheet.paste(panel, (left, 0))
                left += panel.width
            sheet.save(self._folder / f"{index:05d}.png")
            self._drawn += 1
