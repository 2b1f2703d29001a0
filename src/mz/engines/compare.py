"""One engine's integers held against another's: the only place where mz decides whether two runs are the same.

The eval stage, the compile stage's verification, `mz diff` and the benchmarks all count with `Comparison`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a layer's integers part first. image: counted over all batches. index: inside the layer's tensor.

    expected, found: the two integers there. differing, total: integers of this layer in that batch.
    """

    layer: str
    image: int
    index: tuple[int, ...]
    expected: int
    found: int
    differing: int
    total: int

    def __str__(self) -> str:
        return (
            f"{self.layer}: image {self.image}, index {list(self.index)}: {self.expected} expected, "
            f"{self.found} found; {self.differing} of {self.total} integers differ"
        )


@dataclass(slots=True)
class Comparison:
    """Counts over batches. layers: by name, in the order of the first batch, integers that differ."""

    images: int = 0
    integers: int = 0
    layers: dict[str, int] = field(default_factory=dict)
    first: dict[str, Difference] = field(default_factory=dict)

    @property
    def differing(self) -> int:
        """Integers that differ, over all layers."""
        return sum(self.layers.values())

    @property
    def first_difference(self) -> Difference | None:
        """The first difference of the first layer, in the graph's order, that has any."""
        return next((self.first[name] for name in self.layers if name in self.first), None)

    def update(self, expected: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray]) -> None:
        """One batch: integers [N, *shape] by layer, of the judge and of the engine under test.

        Layers that only one of the two has are left out. Other shapes count as all integers differing.
        """
        images = 0
        for name, wanted in expected.items():
            if name not in found:
                continue
            images, got = len(wanted), found[name]
            self.integers += wanted.size
            self.layers.setdefault(name, 0)
            unequal = wanted != got if wanted.shape == got.shape else np.ones(wanted.shape, bool)
            if differing := int(np.count_nonzero(unequal)):
                self.layers[name] += differing
                if name not in self.first:
                    image, *index = (int(i) for i in np.unravel_index(int(np.argmax(unequal)), wanted.shape))
                    value = int(got[(image, *index)]) if wanted.shape == got.shape else -1
                    self.first[name] = Difference(
                        layer=name,
                        image=self.images + image,
                        index=tuple(index),
                        expected=int(wanted[(image, *index)]),
                        found=value,
                        differing=differing,
                        total=wanted.size,
                    )
        self.images += images
