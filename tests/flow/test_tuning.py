"""QFT and AdaRound as stages see them: levels, scripts, refusals, and a killed run that ends with the same bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mz import archive as har
from mz import data, flow, script
from mz.errors import UserError
from mz.flow.calibration import without
from mz.flow.networks import configuration
from mz.flow.optimize import optimize_archive
from mz.flow.options import ModelRef, OptimizeOptions
from mz.flow.tuning import as_tuning, fitted, plan_tuning, too_few_images, without_torch
from mz.quantize import AdaRound, Finetune, Refinements, refine
from mz.script import ScriptSettings

MODEL = ModelRef(model="resnet8_fashion")
SCRIPT = """model_optimization_flavor(optimization_level=-100)
quantization_param({*}, precision_mode=a8_w4)
post_quantization_optimization(adaround, policy=enabled, dataset_size=32, epochs=2, layers=[conv1])
post_quantization_optimization(finetune, policy=enabled, dataset_size=48, epochs=2, batch_size=16)
"""


def settings_of(text: str) -> ScriptSettings:
    return script.apply(script.parse_script(text, "s.alls"), ["conv1", "fc1"])


def test_levels() -> None:
    assert [plan_tuning(level, ScriptSettings()) for level in (-100, 0, 1)] == [(), (), ()]
    (qft,) = plan_tuning(2, ScriptSettings())
    assert isinstance(qft, Finetune) and (qft.dataset_size, qft.epochs) == (1024, 4)
    (rounding,) = plan_tuning(3, ScriptSettings())
    assert isinstance(rounding, AdaRound) and rounding.dataset_size == 256
    first, second = plan_tuning(4, ScriptSettings())
    assert isinstance(first, AdaRound) and first.dataset_size == 1024
    assert isinstance(second, Finetune)


def test_the_script_wins_and_is_written_back() -> None:
    settings = settings_of(
        "post_quantization_optimization(finetune, policy=enabled, epochs=7, learning_rate=0.0001, "
        "loss_layer_names=[conv1, fc1], loss_types=[l2rel, ce], def_loss_type=l2, meta_arch=yolov5)\n"
        "post_quantization_optimization(adaround, policy=disabled)"
    )
    planned = plan_tuning(4, settings)
    assert planned == (
        Finetune(
            epochs=7, learning_rate=1e-4, loss_layers=("conv1", "fc1"), loss_types=("l2rel", "ce"), default_loss="l2"
        ),
    )  # fmt: skip
    written = script.render(ScriptSettings(tuning=[as_tuning(a) for a in planned]))
    assert plan_tuning(0, settings_of(written)) == planned


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("finetune, epochs=0", "epochs wants a whole number"),
        ("finetune, dataset_size=3", "dataset_size wants a whole number of at least 16"),
        ("finetune, train_scales=1", "train_scales wants True or False"),
        ("finetune, def_loss_type=l7", "def_loss_type wants one of l2rel"),
        ("finetune, loss_layer_names=[conv1], loss_types=[l2, ce]", "loss_types has 2 entries for 1"),
        ("adaround, learning_rate=-1", "learning_rate wants a number"),
    ],
)
def test_arguments_are_checked_before_any_work(arguments: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        plan_tuning(0, settings_of(f"post_quantization_optimization({arguments}, policy=enabled)"))


def test_what_cannot_be_had_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    planned = plan_tuning(4, ScriptSettings())
    assert [step.name for step in too_few_images(planned, 500)] == ["AdaRound", "QFT"]
    assert not too_few_images(planned, 1024)
    assert [algorithm.dataset_size for algorithm in fitted(planned, 500)] == [500, 500]
    with pytest.raises(UserError, match="at least 16 calibration images; there are 7"):
        fitted(planned, 7)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert all("pip install 'mz[qft]'" in step.note for step in without_torch(planned))


def test_too_few_images_end_before_any_work(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    (tmp_path / "s.alls").write_text(
        "post_quantization_optimization(finetune, policy=enabled, dataset_size=99999)"
    )
    result = flow.optimize(MODEL, OptimizeOptions(script=tmp_path / "s.alls"))
    assert result.archive.state == "parsed"
    (step,) = result.steps
    assert (step.name, step.requested, step.applied) == ("QFT", True, False)
    assert "wants 99999 calibration images" in step.note


def test_what_judges_has_been_seen_by_neither_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """Integers fitted to the images that judge would look better than what has learned without them."""
    pytest.importorskip("torch")
    from mz.quantize.learned import judge

    walked: list[np.ndarray] = []
    judged: list[np.ndarray] = []

    def refined(graph, params, quantization, recipe, images, *rest, **options):
        walked.extend(images.values())
        return refine(graph, params, quantization, recipe, images, *rest, **options)

    class Judge(judge.Judge):
        def __init__(self, graph, params, images, targets) -> None:
            judged.extend(images.values())
            super().__init__(graph, params, images, targets)

    monkeypatch.setattr("mz.flow.integers.refine", refined)
    monkeypatch.setattr(judge, "Judge", Judge)
    settings = settings_of(
        "post_quantization_optimization(finetune, policy=enabled, dataset_size=64, epochs=1)"
    )
    archive = flow.parse(MODEL)
    config = configuration(archive, MODEL)
    calibration = data.subset(data.open_calibration(config), 64)
    optimize_archive(
        archive, config, settings, OptimizeOptions(optimization_level=1, cache=False), calibration
    )
    assert len(judged[0]) == 8 and len(walked[0]) == 56
    seen = {image.tobytes() for image in walked[0]}
    assert not any(image.tobytes() in seen for image in judged[0])


@pytest.mark.parametrize("policy", ["enabled", "disabled"])
def test_bias_correction_after_learning_is_tried_unless_switched_off(
    policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    tried = []

    def refined(graph, params, quantization, recipe, images, refinements, **options):
        tried.append(refinements)
        return refine(graph, params, quantization, recipe, images, refinements, **options)

    monkeypatch.setattr("mz.flow.tune.refine", refined)
    text = f"""post_quantization_optimization(bias_correction, policy={policy})
post_quantization_optimization(finetune, policy=enabled, dataset_size=32, epochs=1)"""
    archive = flow.parse(MODEL)
    config = configuration(archive, MODEL)
    calibration = data.subset(data.open_calibration(config), 32)
    options = OptimizeOptions(optimization_level=0, cache=False)
    optimize_archive(archive, config, settings_of(text), options, calibration)
    assert tried == ([Refinements(rounding=False)] if policy == "enabled" else [])


def test_a_calibration_set_of_nothing_but_judges_stays() -> None:
    images = {"x": np.arange(6, dtype=np.float32).reshape(3, 2)}
    assert without(images, {"x": images["x"][1:2]})["x"].tolist() == [[0, 1], [4, 5]]
    assert without(images, images)["x"].tolist() == images["x"].tolist()


def test_there_is_no_level_beyond_four() -> None:
    with pytest.raises(UserError, match="no optimization level 5"):
        flow.optimize(MODEL, OptimizeOptions(optimization_level=5))


class _KilledError(Exception):
    pass


def test_a_killed_run_ends_with_the_same_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """AdaRound, then QFT, killed after QFT's first epoch; nothing stays behind in the cache, and the script of the
    archive alone asks for the same again.
    """
    pytest.importorskip("torch")
    (tmp_path / "s.alls").write_text(SCRIPT)

    def run(name: str, text: Path, kill_after: int | None = None) -> bytes:
        monkeypatch.setenv("MZ_CACHE", str(tmp_path / name))
        options = OptimizeOptions(script=text, calib_count=16, allow_fallback=True)
        archive = flow.optimize(MODEL, options, progress=_Watch(kill_after)).archive
        har.write(archive, tmp_path / f"{name}.har")
        assert not list((tmp_path / name).rglob("tuning/*.npz"))
        return (tmp_path / f"{name}.har").read_bytes()

    whole = run("whole", tmp_path / "s.alls")
    with pytest.raises(_KilledError):
        run("killed", tmp_path / "s.alls", kill_after=32)
    assert len(list((tmp_path / "killed" / "tuning").glob("*.npz"))) == 2
    assert run("killed", tmp_path / "s.alls") == whole
    steps = {step["name"]: step for step in har.read(tmp_path / "whole.har").report["optimize"]["steps"]}
    assert steps["QFT"]["applied"] and steps["AdaRound"]["applied"]
    (tmp_path / "again.alls").write_text(har.read(tmp_path / "whole.har").script)
    again = tmp_path / "again"
    run("again", tmp_path / "again.alls")
    first, second = (
        har.read(tmp_path / "whole.har").quantization,
        har.read(again.with_suffix(".har")).quantization,
    )
    assert first is not None and second is not None
    assert first.tensors == second.tensors
    assert all((first.weights[name].kernel == second.weights[name].kernel).all() for name in first.weights)


class _Watch:
    """A progress that kills the run once QFT has learned from so many images."""

    def __init__(self, kill_after: int | None) -> None:
        self.kill_after, self.label, self.seen = kill_after, "", 0

    def __call__(self, label: str, total: int | None, unit: str = "images") -> _Watch:
        self.label, self.seen = label, 0
        return self

    def __enter__(self):
        return self.advance

    def __exit__(self, *_: object) -> None:
        return None

    def advance(self, count: int) -> None:
        self.seen += count
        if self.kill_after is not None and self.label.startswith("QFT") and self.seen > self.kill_after:
            raise _KilledError
