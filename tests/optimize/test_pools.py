"""Average pools that are faint beside what they share a scale with become convolutions, and only those."""

from __future__ import annotations

import numpy as np
import pytest
from tests.optimize.networks import Builder, images

from mz.engines.float_ort import FloatSession
from mz.graph import AvgPool, Concat, Conv, Graph
from mz.optimize import equalize, find_peaks, pools_to_convolutions


def pyramid(loud: float, **pool) -> tuple[Graph, dict]:
    """Pooled pixels beside a feature map of `loud` times their size."""
    builder = Builder(1, size=8)
    first = builder.last
    pooled = builder.add(AvgPool, [first], (4, 4, 4), kernel_shape=(3, 3), strides=(2, 2), **pool)
    features = builder.conv(builder.add(AvgPool, [first], (4, 4, 4), kernel_shape=(2, 2), strides=(2, 2)), 6)
    builder.params[features.name]["kernel"] *= loud
    builder.params[features.name]["bias"] *= loud
    joined = builder.add(Concat, [features, pooled], (10, 4, 4))
    builder.conv(joined, 5)
    return builder.finish()


@pytest.mark.parametrize(
    ("loud", "pool", "becomes"),
    [
        (1000.0, {"pads": (1, 1, 0, 0), "count_include_pad": True}, ["avgpool1"]),
        (1000.0, {"pads": (1, 1, 0, 0)}, []),  # its windows differ at the border
        (0.5, {"pads": (1, 1, 0, 0), "count_include_pad": True}, []),  # not faint
    ],
)
def test_faint_pools_become_convolutions(loud, pool, becomes) -> None:
    graph, params = pyramid(loud, **pool)
    feeds = images(graph, 16)
    peaks = find_peaks(graph, params, [feeds])
    changed, arrays, names = pools_to_convolutions(graph, params, peaks)
    assert names == becomes and (changed == graph) == (not becomes)
    before, after = (FloatSession(*network).run(feeds) for network in ((graph, params), (changed, arrays)))
    for name in graph.outputs:
        np.testing.assert_allclose(
            before[name], after[name], rtol=1e-5, atol=1e-4 * np.abs(before[name]).max()
        )
    if becomes:
        assert isinstance(changed["avgpool1"], Conv)
        _, scaled, _ = equalize(changed, arrays, peaks, method="one_step", layer_scale=False)
        assert (scaled["avgpool1"]["kernel"] > 10 * arrays["avgpool1"]["kernel"]).all()
