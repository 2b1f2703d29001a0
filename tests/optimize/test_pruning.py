"""Pruning: smaller by what was asked for, better than chance, and exact where channels are copies of each other."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.optimize.networks import Builder, images, networks, output_db, step

from mz.errors import UserError
from mz.graph import Add, Graph, Params
from mz.optimize import channel_classes, prune, sparsify
from mz.optimize.elimination import eliminate
from mz.optimize.moments import input_moments
from mz.optimize.pruning_groups import pruning_groups
from mz.optimize.reconstruction import fit, held_out
from mz.optimize.sparsity import sparse_rows
from mz.quantize.covariance import chance, damped
from mz.script.settings import BUDGETS, IMPORTANCES

QUICK = settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))


def residual_network(seed: int = 0) -> tuple[Graph, Params]:
    builder = Builder(seed)
    trunk = builder.conv(builder.last, 8, 3)
    for _ in range(2):
        inner = builder.conv(trunk, 12, 1)
        inner = builder.conv(inner, 12, 3, groups=12)
        inner = builder.conv(inner, 8, 1, clip=(-np.inf, np.inf))
        trunk = builder.add(Add, [trunk, inner], trunk.shape)
    return builder.finish()


@pytest.mark.parametrize("importance", IMPORTANCES)
@pytest.mark.parametrize("budget", BUDGETS)
def test_the_budget_is_met(importance: str, budget: str) -> None:
    if importance == "taylor":
        pytest.importorskip("torch")
    graph, params = residual_network()
    smaller, fitted, report = prune(
        graph, params, images(graph, 64), ratio=0.3, budget=budget, importance=importance
    )
    if budget == "macs":
        assert sum(map(smaller.macs, smaller.layers)) == report.macs[1] <= 0.7 * report.macs[0]
    if budget == "parameters":
        weights = sum(p["kernel"].size for p in fitted.values())
        assert weights <= 0.7 * sum(p["kernel"].size for p in params.values())
    if budget == "channels":
        assert sum(len(p["bias"]) for p in fitted.values()) <= 0.7 * sum(
            len(p["bias"]) for p in params.values()
        )
    assert report.fitted_db > report.removed_db
    for name, (before, after) in report.channels.items():
        assert len(params[name]["bias"]) == before > after == len(fitted[name]["bias"])


@QUICK
@given(networks(), st.sampled_from([0.1, 0.3]))
def test_any_network_is_pruned_or_refused(network: tuple[Graph, Params], ratio: float) -> None:
    graph, params = network
    feeds = images(graph, 32)
    try:
        smaller, fitted, report = prune(graph, params, feeds, ratio=ratio)
    except UserError:
        return
    assert report.macs[1] <= (1 - ratio) * report.macs[0]
    assert not np.isnan(output_db(graph, params, smaller, fitted, feeds))


def test_products_of_tensors_count_and_cannot_be_saved() -> None:
    builder = Builder(5)
    builder.conv(builder.conv(builder.last, 8), 6)
    for _ in range(3):
        step(builder, "attention", 1, (0.0, np.inf))
    graph, params = builder.finish()
    feeds = images(graph, 32)
    _, _, report = prune(graph, params, feeds, ratio=0.03)
    assert report.macs[1] <= 0.97 * report.macs[0]
    with pytest.raises(UserError, match=r"at most \d+ % can"):
        prune(graph, params, feeds, ratio=0.8)


def test_channels_that_are_copies_go_without_loss() -> None:
    builder = Builder(3)
    first = builder.conv(builder.last, 8, 3)
    arrays = builder.params[first.name]
    arrays["kernel"][4:], arrays["bias"][4:] = arrays["kernel"][:4], arrays["bias"][:4]
    builder.conv(first, 6, 3)
    graph, params = builder.finish()
    feeds = images(graph, 64)
    smaller, fitted, _ = prune(graph, params, feeds, ratio=0.4, layers=[first.name])
    assert smaller[first.name].shape[0] <= 5
    assert output_db(graph, params, smaller, fitted, images(graph, 16, seed=1)) > 40


def test_layers_behind_that_cannot_lose_channels_are_fitted_too() -> None:
    builder = Builder(4)
    first = builder.conv(builder.last, 8, 3)
    second = builder.conv(first, 4, 1)
    grouped = builder.conv(second, 4, 3, groups=2)
    graph, params = builder.finish()
    smaller, fitted, report = prune(graph, params, images(graph, 32), ratio=0.3, layers=[first.name])
    assert list(report.channels) == [first.name]
    assert smaller[grouped.name] == graph[grouped.name]
    assert not np.array_equal(fitted[grouped.name]["kernel"], params[grouped.name]["kernel"])


def test_only_the_layers_asked_for_lose_channels() -> None:
    graph, params = residual_network()
    inner = next(layer.name for layer in graph.layers[2:] if layer.kind == "conv")
    smaller, _, report = prune(graph, params, images(graph, 32), ratio=0.1, layers=[inner])
    assert inner in report.channels
    assert smaller[graph.layers[1].name] == graph.layers[1]


def test_too_much_is_refused() -> None:
    graph, params = residual_network()
    with pytest.raises(UserError, match=r"99 % of the macs cannot be removed .* at most \d+ % can"):
        prune(graph, params, images(graph, 16), ratio=0.99)
    with pytest.raises(UserError, match="no channels of random can be removed among"):
        prune(graph, params, images(graph, 16), ratio=0.1, layers=[graph.outputs[0]])


def test_groups_bind_residual_and_depthwise_layers() -> None:
    graph, _ = residual_network()
    groups = pruning_groups(graph, channel_classes(graph, "removal"))
    assert [len(group.classes) for group in groups] == [8, 12, 12]
    assert len(groups[0].producers) == 3
    assert [len(group.uses) for group in groups[1:]] == [3, 3]


def test_elimination_predicts_the_error_of_the_best_fit() -> None:
    """The error that it states is the one that the damped least squares reach on the same samples."""
    builder = Builder(5)
    first = builder.conv(builder.last, 6)
    second = builder.conv(first, 5)
    graph, params = builder.finish()
    feeds = images(graph, 64)
    (group,) = (g for g in pruning_groups(graph, channel_classes(graph, "removal")) if g.name == first.name)
    moments = input_moments(graph, params, [second], feeds, np.random.default_rng(0))
    found = eliminate(group, params, moments)
    seen, kernel = moments[second.name], params[second.name]["kernel"][:, :, 0, 0].astype(float)
    assert seen.count == 64 * math.prod(first.shape[1:])
    covariance = damped(seen.covariance[None], chance(seen.count, 6))[0]
    gone = np.concatenate(found.chunks[:2])
    left = np.setdiff1d(np.arange(6), gone)
    best = np.linalg.solve(covariance[np.ix_(left, left)], covariance[left] @ kernel.T).T
    error = kernel.copy()
    error[:, left] -= best
    power = np.trace(kernel @ seen.covariance @ kernel.T)
    assert found.errors[1] == pytest.approx(np.trace(error @ covariance @ error.T) / power)


@given(st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_fit_finds_weights_that_exist(seed: int) -> None:
    rng = np.random.default_rng(seed)
    samples, rows = rng.normal(1, 1, (2, 2000, 5)), rng.normal(size=(2, 3, 5))
    wanted = samples @ rows.transpose(0, 2, 1) + 0.5
    found, bias = fit(np.zeros_like(rows), samples, wanted)
    np.testing.assert_allclose(found, rows, atol=0.02 * np.abs(rows).max())
    reached = samples @ found.transpose(0, 2, 1) + bias[:, None]
    assert np.abs(reached - wanted).std() < 0.02 * wanted.std()


@given(st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_fit_of_noise_to_few_samples_changes_little(seed: int) -> None:
    """What other samples do not have is not to be learned from these."""
    rng = np.random.default_rng(seed)
    samples, rows = rng.normal(size=(1, 60, 40)), np.zeros((1, 8, 40))
    found, _ = fit(rows, samples, rng.normal(size=(1, 60, 8)))
    others = rng.normal(size=(1, 1000, 40))
    assert np.square(others @ found.transpose(0, 2, 1)).mean() < 0.5
    free = np.linalg.lstsq(samples[0], rng.normal(size=(60, 8)), rcond=None)[0]
    assert np.square(others[0] @ free).mean() > 0.5


@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.25, 0.5, 0.9]))
@settings(max_examples=25, deadline=None)
def test_sparse_rows_are_the_best_with_their_zeros(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    samples = rng.normal(size=(400, 12)) @ rng.normal(size=(12, 12))
    covariance = samples.T @ samples / 400 + 1e-3 * np.eye(12)
    rows = rng.normal(size=(1, 6, 12))
    found = sparse_rows(rows, covariance[None], share)
    assert (found == 0).mean() >= share
    for before, after in zip(rows[0], found[0], strict=True):
        gradient = covariance @ (after - before)
        np.testing.assert_allclose(gradient[after != 0], 0, atol=1e-3)


def test_sparse_rows_beat_the_smallest_magnitudes() -> None:
    ratios = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        samples = rng.normal(size=(400, 12)) @ rng.normal(size=(12, 12))
        covariance, rows = samples.T @ samples / 400, rng.normal(size=(1, 6, 12))
        noise = [
            np.einsum("goi,ij,goj->", error, covariance, error)
            for error in (sparse_rows(rows, how, 0.5) - rows for how in (covariance[None], None))
        ]
        ratios.append(noise[0] / noise[1])
    assert np.median(ratios) < 0.75


def test_sparsify_zeroes_what_it_says_and_fits_the_rest() -> None:
    graph, params = residual_network()
    names = [layer.name for layer in graph.layers if layer.name in params]
    feeds = images(graph, 64)
    sparse, report = sparsify(graph, params, feeds, dict.fromkeys(names[1:], 0.5))
    assert all(share >= 0.5 for share in report.zeros.values())
    assert sparse[names[0]] is params[names[0]]
    assert report.float_db > 3
    with pytest.raises(UserError, match="input_layer1 has no weights"):
        sparsify(graph, params, feeds, {"input_layer1": 0.5})


@pytest.mark.parametrize("count", [1, 2, 8, 40])
def test_other_images_judge_than_those_that_are_fitted_to(count: int) -> None:
    graph, params = residual_network()
    feeds = images(graph, count)
    fitted, judges = ({*map(bytes, part["input_layer1"])} for part in held_out(feeds))
    assert len(judges) == max(1, count // 8) and not (fitted & judges if count > 1 else ())
    names = [layer.name for layer in graph.weighted]
    sparse, report = sparsify(graph, params, feeds, dict.fromkeys(names, 0.5))
    unseen = held_out(feeds)[1]
    assert report.float_db == pytest.approx(output_db(graph, params, graph, sparse, unseen), abs=0.1)
