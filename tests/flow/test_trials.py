"""How many images a trial takes of a network."""

from __future__ import annotations

import pytest

from mz.flow import contest
from mz.flow.range_method import (
    FEWEST_REFINED,
    JUDGED_MACS,
    MOST_REFINED,
    MOST_REFINED_JUDGED,
    REFINED_MACS,
)
from mz.flow.trials import affordable
from mz.graph import Conv, Graph, Input


@pytest.mark.parametrize(
    ("size", "channels", "refined", "judged", "contested"),
    [
        (8, 4, 64, 256, 512),
        (32, 1024, 64, 256, 512),
        (32, 20_000, 64, 139, 279),
        (224, 4, 64, 111, 128),
        (64, 20_000, 17, 34, 128),
        (64, 50_000, 16, 16, 128),
    ],
    ids=["cheap", "still cheap", "dearer", "large images", "dearer still", "dear"],
)
def test_cheap_networks_are_tried_on_more_images(size, channels, refined, judged, contested) -> None:
    image = Input(name="input_layer1", inputs=(), shape=(3, size, size))
    conv = Conv(
        name="conv1", inputs=(image.name,), shape=(channels, size, size), kernel_shape=(1, 1), strides=(1, 1),
        pads=(0, 0, 0, 0), dilations=(1, 1), groups=1,
    )  # fmt: skip
    graph = Graph("network", (image, conv), ("conv1",))
    assert affordable(graph, REFINED_MACS, FEWEST_REFINED, MOST_REFINED) == refined
    assert affordable(graph, JUDGED_MACS, FEWEST_REFINED, MOST_REFINED_JUDGED) == judged
    assert contest.image_count(graph) == contested
