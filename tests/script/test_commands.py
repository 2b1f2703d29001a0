# ruff: noqa: E501
"""Commands: what they set, whom they select, and what is refused with line, column and the nearest name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mz.errors import UserError
from mz.graph import Precision
from mz.script import ScriptSettings, apply, parse_script, render
from mz.script.commands import COMMANDS
from mz.script.published import COMMANDS as REFUSED
from mz.script.published import CONFIGURATIONS, POST_QUANTIZATION, PRE_QUANTIZATION
from mz.script.settings import COMPRESSION_LEVELS, OPTIMIZATION_LEVELS, WEIGHT_CLIPPING_MODES

LAYERS = ["input_layer1", "conv1", "conv2", "dw1", "conv10", "ew_add1", "fc1"]


def settings_of(text: str) -> ScriptSettings:
    return apply(parse_script(text, "s.alls"), LAYERS)


def test_levels_and_calibration() -> None:
    settings = settings_of(
        "model_optimization_flavor(optimization_level=-100, compression_level=1, batch_size=4)\n"
        "model_optimization_config(calibration, calibset_size=64)\n"
        "model_optimization_config(calibration, batch_size=8)\n"
    )
    assert settings == ScriptSettings(
        optimization_level=-100, compression_level=1, calib_batch_size=8, calib_count=64
    )


@pytest.mark.parametrize(
    ("selection", "layers"),
    [
        ("conv1", ["conv1"]),
        ("{conv*}", ["conv1", "conv2", "conv10"]),
        ("{conv[0-9]}", ["conv1", "conv2"]),
        ("[fc1, conv1]", ["conv1", "fc1"]),
        ("[{dw*}, fc1]", ["dw1", "fc1"]),
        ("net/conv1", ["conv1"]),
        ("{net/conv1*}", ["conv1", "conv10"]),
        ("{*}", LAYERS),
    ],
)
def test_selection(selection: str, layers: list[str]) -> None:
    settings = settings_of(f"quantization_param({selection}, precision_mode=a8_w4)")
    assert settings.precisions == dict.fromkeys(layers, Precision(8, 4))
    assert list(settings.precisions) == layers


def test_the_later_statement_holds() -> None:
    settings = settings_of(
        "quantization_param({*}, precision_mode=a8_w4) quantization_param([fc1], precision_mode=a16_w16)"
        "pre_quantization_optimization(activation_clipping, layers={conv*}, mode=percentile, clipping_values=[0.01, 99.9])"
        "pre_quantization_optimization(activation_clipping, layers=[conv2], mode=manual, clipping_values=[-1, 6])"
        "pre_quantization_optimization(activation_clipping, layers=[conv10], mode=disabled)"
        "pre_quantization_optimization(weights_clipping, layers=[fc1], mode=mmse)"
        "post_quantization_optimization(finetune, policy=disabled)"
    )
    assert settings.precisions["fc1"] == Precision(16, 16)
    assert settings.precisions["conv1"] == Precision(8, 4)
    assert settings.activation_ranges == {
        "conv1": ("percentile", 0.01, 99.9),
        "conv2": ("manual", -1.0, 6.0),
        "conv10": ("percentile", 0.0, 100.0),
    }
    assert settings.weight_clipping == {"fc1": "mmse"}
    assert settings.disabled == ["finetune"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n quantization_params({*}, precision_mode=a8_w4)", "2:2: unknown command 'quantization_params'; the nearest is 'quantization_param'"),
        ("context_0 = context([conv1])", "1:1: context is not carried by this version of mz: it places"),
        ("c = place(0, [conv1])", "1:1: place is not carried"),
        ("context_0.place(0)", "1:1: context_0.place is not carried"),
        ("n = normalization([1], [2])", "1:1: normalization is not carried by this version of mz: say it in the network's YAML"),
        ("quantization_param(conv11, precision_mode=a8_w8)", "1:20: layer 'conv11' matches no layer; the nearest is 'conv1'"),
        ("quantization_param([conv1,\n  {cnov*}], precision_mode=a8_w8)", "2:3: glob 'cnov*' matches no layer; the nearest is 'conv"),
        ("quantization_param([], precision_mode=a8_w8)", "1:1: quantization_param: the list of layers is empty"),
        ("quantization_param(5, precision_mode=a8_w8)", "1:1: quantization_param: layers are names as conv1"),
        ("quantization_param(precision_mode=a8_w8)", "1:1: quantization_param wants 1 positional argument, found 0"),
        ("quantization_param(conv1)", "1:1: quantization_param says nothing: it wants precision_mode"),
        ("quantization_param(conv1, precision_mode=a8_w7)", "1:1: precision 'a8_w7' is not of the form"),
        ("quantization_param(conv1, precision_mode=a16_w8_a16)", "1:1: precision 'a16_w8_a16' is not of the form"),
        ("quantization_param(conv1, bias_mode=double_scale)", "1:1: quantization_param: argument 'bias_mode' is not carried"),
        ("quantization_param(conv1, precision=a8_w8)", "1:1: quantization_param: unknown argument 'precision'; the nearest is 'precision_mode'"),
        ("x = quantization_param(conv1, precision_mode=a8_w8)", "1:1: quantization_param gives nothing that could be named 'x'"),
        ("model_optimization_flavor(optimization_level=7)", "1:1: model_optimization_flavor: optimization_level is one of -100, 0, 1, 2, 3, 4"),
        ("model_optimization_flavor(compression_level=True)", "1:1: model_optimization_flavor: compression_level is one of 0, "),
        ("model_optimization_flavor(2)", "1:1: model_optimization_flavor wants 0 positional arguments, found 1"),
        ("model_optimization_config(checker_cfg, policy=disabled)", "1:27: model_optimization_config(checker_cfg, ...) is not carried"),
        ("model_optimization_config(calibration, batch_size=0)", "1:1: model_optimization_config: batch_size wants a whole number"),
        ("model_optimization_config()", "1:1: model_optimization_config wants the name of an algorithm first"),
        ("pre_quantization_optimization(equalization, policy=enabled)", "1:31: pre_quantization_optimization(equalization, ...) is not carried"),
        ("pre_quantization_optimization(equalisation, policy=enabled)", "1:31: pre_quantization_optimization: unknown algorithm 'equalisation'; the nearest is 'equalization'"),
        ("post_quantization_optimization(finetune, policy=enabled, epochs=4)", "1:32: post_quantization_optimization(finetune, ...) is not carried"),
        ("pre_quantization_optimization(activation_clipping, layers=[conv1], mode=percentile_force, clipping_values=[1, 99])", "1:1: pre_quantization_optimization: mode=percentile_force is not carried"),
        ("pre_quantization_optimization(activation_clipping, layers=[conv1], mode=percentile, clipping_values=[1, 101])", "1:1: clipping_values=[1, 101]: percentiles rise from 0 to 100"),
        ("pre_quantization_optimization(activation_clipping, layers=[conv1], mode=manual, clipping_values=[2, 1])", "1:1: pre_quantization_optimization: clipping_values wants two rising numbers"),
        ("pre_quantization_optimization(activation_clipping, layers=[conv1], mode=manual)", "1:1: pre_quantization_optimization: argument 'clipping_values' is missing"),
        ("pre_quantization_optimization(activation_clipping, mode=manual)", "1:1: pre_quantization_optimization: argument 'layers' is missing"),
        ("pre_quantization_optimization(weights_clipping, layers=[conv1], mode=manual, clipping_values=[0, 1])", "1:1: pre_quantization_optimization: argument 'clipping_values' is not carried"),
        ("pre_quantization_optimization(weights_clipping, layers=[conv1], mode=max)", "1:1: pre_quantization_optimization: mode is one of disabled, mmse"),
    ],
)  # fmt: skip
def test_refused(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        settings_of(text)
    assert str(caught.value).startswith(f"s.alls:{message}"), str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_name_is_both_carried_and_refused() -> None:
    assert not set(COMMANDS) & set(REFUSED)
    assert not {"activation_clipping", "weights_clipping"} & {*PRE_QUANTIZATION, *POST_QUANTIZATION}
    assert "calibration" not in CONFIGURATIONS
    assert not set(PRE_QUANTIZATION) & set(POST_QUANTIZATION)


def by_layer(values: st.SearchStrategy) -> st.SearchStrategy:  # type: ignore[type-arg]
    return st.dictionaries(st.sampled_from(LAYERS), values)


bits = st.sampled_from([4, 8, 16])
percent = st.tuples(st.floats(0, 100), st.floats(0, 100)).filter(lambda p: p[0] < p[1])
numbers = st.tuples(st.floats(-1e30, 1e30), st.floats(-1e30, 1e30)).filter(lambda p: p[0] < p[1])
ranges = st.one_of(percent.map(lambda p: ("percentile", *p)), numbers.map(lambda p: ("manual", *p)))


@given(
    st.builds(
        ScriptSettings,
        optimization_level=st.none() | st.sampled_from(OPTIMIZATION_LEVELS),
        compression_level=st.none() | st.sampled_from(COMPRESSION_LEVELS),
        calib_batch_size=st.none() | st.integers(1, 4096),
        calib_count=st.none() | st.integers(1, 10**6),
        precisions=by_layer(st.builds(Precision, bits, bits)),
        activation_ranges=by_layer(ranges),
        weight_clipping=by_layer(st.sampled_from(WEIGHT_CLIPPING_MODES)),
        disabled=st.lists(st.sampled_from([*PRE_QUANTIZATION, *POST_QUANTIZATION]), unique=True),
    )
)
def test_what_is_rendered_reads_back(settings: ScriptSettings) -> None:
    text = render(settings)
    again = settings_of(text)
    assert again == settings
    assert settings_of(render(again)) == settings


def test_render_is_canonical() -> None:
    settings = settings_of(
        "quantization_param({conv*}, precision_mode=a8_w4)\nmodel_optimization_flavor(optimization_level=0)"
    )
    assert render(settings) == (
        "model_optimization_flavor(optimization_level=0)\n"
        "quantization_param([conv1, conv2, conv10], precision_mode=a8_w4)\n"
    )
    assert render(ScriptSettings()) == ""
