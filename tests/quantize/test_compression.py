"""Which layers' weights go to 4 bits."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.quantize.networks import images, residual_network

from mz.engines.float_ort import FloatSession
from mz.graph import Weighted
from mz.quantize import (
    SHARES,
    Recipe,
    Sensitivity,
    choose_four_bit,
    choose_sixteen_bit,
    collect,
    quantize,
    sensitivities,
)

LAYERS = st.lists(st.tuples(st.floats(0, 10), st.integers(1, 1000)), min_size=1, max_size=12).map(
    lambda pairs: [Sensitivity(f"conv{i}", noise, weights) for i, (noise, weights) in enumerate(pairs)]
)


@given(LAYERS, st.sampled_from(sorted(SHARES.values())), st.randoms(use_true_random=False))
def test_the_share_is_reached_by_no_layer_too_many(found, share, shuffling: random.Random):
    chosen = choose_four_bit(found, share)
    total = sum(s.weights for s in found)
    reached = sum(s.weights for s in found if s.layer in chosen)
    assert reached >= share * total
    if chosen:
        worst = max((s for s in found if s.layer in chosen), key=lambda s: (s.noise / s.weights, s.layer))
        assert reached - worst.weights < share * total
        left = [s for s in found if s.layer not in chosen]
        assert all(s.noise / s.weights >= worst.noise / worst.weights for s in left)
    shuffled = list(found)
    shuffling.shuffle(shuffled)
    assert choose_four_bit(shuffled, share) == chosen


@given(LAYERS)
def test_levels_run_from_none_to_all_and_only_add(found):
    by_level = [choose_four_bit(found, SHARES[level]) for level in range(6)]
    assert by_level[0] == set()
    assert by_level[5] == {s.layer for s in found}
    assert all(less <= more for less, more in pairwise(by_level))


@given(LAYERS, st.floats(0, 1))
def test_16_bits_go_where_they_help_most_for_their_bytes(found, share):
    chosen = choose_sixteen_bit(found, share)
    taken = sum(s.weights for s in found if s.layer in chosen)
    room = share * sum(s.weights for s in found) - taken
    assert room >= -1e-9
    assert all(s.weights > room for s in found if s.layer not in chosen and s.noise > 0)
    best = max(found, key=lambda s: s.noise / s.weights)
    assert best.layer in chosen or best.noise == 0 or best.weights > share * sum(s.weights for s in found)


def test_equal_layers_go_by_name():
    found = [Sensitivity(name, 1.0, 10) for name in ("conv3", "conv1", "conv2")]
    assert choose_four_bit(found, 0.6) == {"conv1", "conv2"}


def test_sensitivities_are_the_noise_of_one_layer_in_4_bits():
    graph, params = residual_network()
    params["conv2"]["kernel"] = np.sign(params["conv2"]["kernel"])
    names = [layer.name for layer in graph.layers if isinstance(layer, Weighted)]
    session = FloatSession(graph, params, taps=[layer.name for layer in graph.layers])
    x = images(8)
    quantization = quantize(graph, params, collect(session, [x], 1), Recipe())
    seen: list[str] = []
    found = sensitivities(graph, params, quantization, x, per_layer_scale=False, layer_done=seen.append)
    assert [s.layer for s in found] == names == seen
    assert [s.weights for s in found] == [params[name]["kernel"].size for name in names]
    noise = {s.layer: s.noise for s in found}
    assert noise["conv2"] == pytest.approx(0, abs=1e-9)
    assert all(1e-6 < noise[name] < 1 for name in names if name != "conv2")
