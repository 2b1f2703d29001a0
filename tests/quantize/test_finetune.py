"""QFT on a small network: what it must gain, what it may not touch, and that a killed run ends like an unbroken one."""

from __future__ import annotations

import dataclasses
import importlib
from functools import cache

import numpy as np
import pytest
from tests.quantize.networks import images, residual_network

from mz.engines.float_ort import FloatSession
from mz.graph import Precision, Quantization
from mz.quantize import Checkpoint, Finetune, Recipe, collect, finetune, quantize
from mz.quantize.finetune import learning_rate

pytest.importorskip("torch")

from mz.quantize.learned.distillation import Target, default_layers
from mz.quantize.learned.judge import Judge, held_out
from mz.quantize.learned.variables import Tuned

SETTINGS = Finetune(epochs=3, batch_size=16, learning_rate=3e-3)


@cache
def start(precision: str = "a8_w4", per_layer: bool = False):
    graph, params = residual_network()
    session = FloatSession(graph, params, taps=[layer.name for layer in graph.layers])
    recipe = Recipe(Precision.parse(precision), per_layer_weight_scale=per_layer)
    return graph, params, quantize(graph, params, collect(session, [images(64)], 1), recipe)


def tuned(settings: Finetune = SETTINGS, precision: str = "a8_w4", **options):
    graph, params, quantization = start(precision, options.get("per_layer_scale", False))
    return finetune(graph, params, quantization, images(128), images(64, seed=9), settings, **options)


def same(a: Quantization, b: Quantization) -> bool:
    return a.tensors == b.tensors and all(
        np.array_equal(getattr(weight, key), getattr(b.weights[name], key))
        for name, weight in a.weights.items()
        for key in ("kernel", "scale", "bias")
    )


@pytest.mark.parametrize("precision", ["a8_w8", "a8_w4", "a4_w4", "a16_w16"])
def test_variables_begin_with_the_integers_given(precision: str) -> None:
    graph, params, quantization = start(precision)
    assert same(Tuned(graph, params, quantization).quantization(), quantization)


@pytest.mark.parametrize(("precision", "share"), [("a8_w4", 0.8), ("a4_w4", 0.95)])
def test_integers_come_closer_on_images_never_seen(precision: str, share: float) -> None:
    graph, params, before = start(precision)
    after, report = tuned(precision=precision)
    judge = Judge(graph, params, images(64, seed=77), [Target(name) for name in default_layers(graph)])
    assert judge.loss(after) < share * judge.loss(before)
    assert report.losses[report.best] == min(report.losses)
    for name, weight in after.weights.items():
        assert np.abs(weight.kernel.astype(int)).max() <= 7
        assert weight.kernel.dtype == np.int8
        assert (after.tensors[name].zero_point, after.tensors[name].bits) == (
            before.tensors[name].zero_point,
            before.tensors[name].bits,
        )


def test_the_backbone_and_the_outputs_are_taught() -> None:
    graph, *_ = start()
    assert default_layers(graph) == ["deconv1", "fc1"]


def test_the_start_comes_back_early_where_nothing_is_better() -> None:
    """Without a learning rate every epoch ends where it began."""
    *_, before = start()
    found, report = tuned(dataclasses.replace(SETTINGS, learning_rate=0.0, epochs=8))
    assert same(found, before)
    assert len(report.losses) == 1 + 3
    assert report.best == 0


def test_scales_that_are_fixed_stay_and_groups_share_theirs() -> None:
    *_, before = start()
    after, _ = tuned(fixed=["dw1"])
    changed = {name for name, tensor in after.tensors.items() if tensor.scale != before.tensors[name].scale}
    assert changed == set(before.tensors) - {"x", "dw1"}
    assert after.tensors["add1"] == after.tensors["pool1"]
    assert after.tensors["mean1"] == after.tensors["flat1"]
    after, _ = tuned(dataclasses.replace(SETTINGS, train_scales=False))
    assert after.tensors == before.tensors
    assert all(np.array_equal(w.scale, before.weights[name].scale) for name, w in after.weights.items())


def test_one_weight_scale_a_layer_stays_one() -> None:
    after, _ = tuned(per_layer_scale=True)
    assert all(len(set(w.scale.tolist())) == 1 for w in after.weights.values())


@pytest.mark.parametrize("kind", ["l2", "cosine", "ce"])
def test_other_losses_and_layers(kind: str) -> None:
    settings = dataclasses.replace(
        SETTINGS,
        learning_rate=1e-3,
        loss_layers=("add1", "fc1"),
        loss_types=("l2rel", kind),
        loss_factors=(0.5, 2.0),
    )
    _, report = tuned(settings)
    assert report.losses[report.best] < report.losses[0]


class _KilledError(Exception):
    pass


@pytest.mark.parametrize("after_images", [16, 128, 224])
def test_a_killed_run_ends_with_the_same_integers(tmp_path, monkeypatch, after_images: int) -> None:
    """Killed within the first epoch, at its end, and within the second."""
    monkeypatch.setattr(importlib.import_module("mz.quantize.finetune"), "_SAVE_SECONDS", -1.0)
    whole, report = tuned()
    checkpoint = Checkpoint(tmp_path / "deep" / "qft.npz")
    seen: list[int] = []

    def kill(count: int) -> None:
        seen.append(count)
        if sum(seen) >= after_images:
            raise _KilledError

    with pytest.raises(_KilledError):
        tuned(checkpoint=checkpoint, images_done=kill)
    again: list[int] = []
    found, resumed = tuned(checkpoint=checkpoint, images_done=again.append)
    assert again[0] == after_images
    assert sum(again) == 3 * 128
    assert resumed == report
    assert same(found, whole)


def test_a_damaged_checkpoint_is_no_checkpoint(tmp_path) -> None:
    path = tmp_path / "qft.npz"
    path.write_bytes(b"PK nonsense")
    assert Checkpoint(path).load() is None
    assert Checkpoint(tmp_path / "none.npz").load() is None
    assert Checkpoint().load() is None


def test_the_rate_warms_up_and_falls_to_nothing() -> None:
    settings = Finetune(learning_rate=1.0, warmup_epochs=1)
    rates = [learning_rate(settings, step, 40, 10) for step in range(40)]
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert max(rates) == pytest.approx(1.0)
    assert 0 < rates[-1] < 0.01


@pytest.mark.parametrize(("count", "apart"), [(1, 1), (2, 1), (16, 2), (1024, 128), (10_000, 256)])
def test_a_share_of_the_images_is_held_out(count: int, apart: int) -> None:
    assert held_out(count).sum() == apart
