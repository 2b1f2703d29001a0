"""AdaRound by blocks: where a network is cut, what may change, and that a killed run ends like an unbroken one."""

from __future__ import annotations

import dataclasses
import math
from functools import cache

import numpy as np
import pytest
from tests.quantize.networks import images, residual_network

from mz.emulator.numerics import weight_max
from mz.engines.float_ort import FloatSession
from mz.graph import Graph, Precision
from mz.quantize import AdaRound, Checkpoint, Recipe, adaround, collect, quantize
from mz.quantize.blocks import blocks

SETTINGS = AdaRound(epochs=30, batch_size=32)
RECIPE = Recipe(Precision(8, 4))


def test_a_residual_block_is_one_and_movement_goes_along() -> None:
    graph, _ = residual_network()
    assert [(block.weighted, block.inputs, block.output) for block in blocks(graph)] == [
        (["conv1"], ("x",), "conv1"),
        (["dw1", "conv2"], ("conv1",), "pool1"),
        (["deconv1"], ("pool1",), "mean1"),
        (["fc1"], ("mean1",), "fc1"),
    ]


def test_what_a_shortcut_spans_is_taken_layer_by_layer_if_it_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mz.quantize.blocks._MOST_WEIGHTED", 1)
    graph, _ = residual_network()
    assert [block.output for block in blocks(graph)] == ["conv1", "dw1", "conv2", "mean1", "fc1"]


def test_inner_outputs_are_no_place_to_cut() -> None:
    """An output of the network that the next layers also read is carried on beside them."""
    graph, _ = residual_network()
    graph = Graph(graph.name, graph.layers, ("conv1", "fc1"))
    assert [block.output for block in blocks(graph)] == ["conv1", "fc1"]


@cache
def start():
    graph, params = residual_network()
    session = FloatSession(graph, params, taps=[layer.name for layer in graph.layers])
    return graph, params, quantize(graph, params, collect(session, [images(64)], 1), RECIPE)


def learned(settings: AdaRound = SETTINGS, **options):
    pytest.importorskip("torch")
    graph, params, quantization = start()
    return adaround(graph, params, quantization, images(128), images(64, seed=9), settings, RECIPE, **options)


def test_blocks_come_closer() -> None:
    _, _, before = start()
    after, report = learned()
    assert after.tensors == before.tensors
    assert all(ours <= theirs for theirs, ours in report.blocks.values())
    theirs, ours = report.blocks["fc1"]
    assert ours < 0.5 * theirs
    for weight in after.weights.values():
        assert np.abs(weight.kernel).max() <= weight_max(4)


def test_steps_on_large_maps_take_fewer_images_and_blocks_still_come_closer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("torch")
    from mz.quantize.learned import soft_rounding

    monkeypatch.setattr(soft_rounding, "_STEP_VALUES", 1 << 11)
    seen: dict[str, set[int]] = {}
    batch_error = soft_rounding._batch_error

    def counted(given, integers, chosen):
        seen.setdefault(given.block.output, set()).add(len(chosen))
        return batch_error(given, integers, chosen)

    monkeypatch.setattr(soft_rounding, "_batch_error", counted)
    graph, _, _ = start()
    _, report = learned()
    judged = 32
    for block in blocks(graph):
        largest = max(
            math.prod(graph[name].shape) for name in (*block.inputs, *(one.name for one in block.layers))
        )
        assert seen[block.output] - {judged} == {min(SETTINGS.batch_size, max(4, (1 << 11) // largest))} - {
            judged
        }
    assert min(map(min, seen.values())) < SETTINGS.batch_size
    theirs, ours = report.blocks["fc1"]
    assert ours < 0.5 * theirs


def test_the_layers_of_a_block_are_first_rounded_for_what_reaches_them_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without any learning blocks are closer than before already; of the first block, which has the same start either
    way, learning makes more. (What that does to the starts of later ones is chance in so small a network.)
    """
    pytest.importorskip("torch")
    from mz.quantize.learned import soft_rounding

    def nothing(given, error, *_):
        return given.quantization, error

    _, whole = learned()
    monkeypatch.setattr(soft_rounding, "reconstruct", nothing)
    _, refined = learned()
    theirs, ours = refined.blocks["fc1"]
    assert ours < 0.7 * theirs
    assert whole.blocks["conv1"][1] < refined.blocks["conv1"][1]


def test_with_biases_kept_weights_move_by_one_at_most_and_scales_stay() -> None:
    _, _, before = start()
    after, report = learned(dataclasses.replace(SETTINGS, train_bias=False))
    theirs, ours = report.blocks["fc1"]
    assert ours < 0.9 * theirs
    for name, weight in after.weights.items():
        step = weight.kernel.astype(int) - before.weights[name].kernel
        assert np.abs(step).max() <= 1
        np.testing.assert_array_equal(weight.scale, before.weights[name].scale)
        np.testing.assert_array_equal(weight.bias, before.weights[name].bias)
    assert any(not np.array_equal(w.kernel, before.weights[name].kernel) for name, w in after.weights.items())


def test_only_the_layers_named_change_and_biases_only_if_asked() -> None:
    _, _, before = start()
    after, _ = learned(dataclasses.replace(SETTINGS, layers=("conv2",), train_bias=False))
    changed = {n for n, w in after.weights.items() if not np.array_equal(w.kernel, before.weights[n].kernel)}
    assert changed == {"conv2"}
    assert all(np.array_equal(w.bias, before.weights[name].bias) for name, w in after.weights.items())


class _KilledError(Exception):
    pass


def test_a_killed_run_ends_with_the_same_integers(tmp_path) -> None:
    settings = dataclasses.replace(SETTINGS, epochs=6)
    whole, report = learned(settings)
    checkpoint = Checkpoint(tmp_path / "adaround.npz")

    def kill(block: str) -> None:
        if block == "pool1":
            raise _KilledError

    with pytest.raises(_KilledError):
        learned(settings, checkpoint=checkpoint, block_done=kill)
    again, resumed = learned(settings, checkpoint=checkpoint)
    assert resumed == report
    for name, weight in whole.weights.items():
        np.testing.assert_array_equal(weight.kernel, again.weights[name].kernel)
        np.testing.assert_array_equal(weight.bias, again.weights[name].bias)
        np.testing.assert_array_equal(weight.scale, again.weights[name].scale)
