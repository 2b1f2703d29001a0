# ruff: noqa: E501
"""Commands: what they set, whom they select, and what is refused with line, column and the nearest name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mz.errors import UserError
from mz.graph import Precision
from mz.script import ScriptSettings, apply, parse_script, render
from mz.script.changes import OUTPUT_ACTIVATIONS
from mz.script.commands import COMMANDS
from mz.script.published import NOTED, REFUSED, REFUSED_ALGORITHMS
from mz.script.settings import (
    BUDGETS,
    COMPRESSION_LEVELS,
    CONVERSIONS,
    EQUALIZATION_METHODS,
    IMPORTANCES,
    OPTIMIZATION_LEVELS,
    Equalization,
    InputConversion,
    InputResize,
    Normalization,
    OutputActivation,
    Pruning,
    TiledSqueezeExcite,
    Tuning,
)

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
        "pre_quantization_optimization(activation_clipping, layers=[dw1], mode=entropy)"
        "pre_quantization_optimization(weights_clipping, layers=[fc1], mode=mmse)"
        "post_quantization_optimization(finetune, policy=disabled)"
    )
    assert settings.precisions["fc1"] == Precision(16, 16)
    assert settings.precisions["conv1"] == Precision(8, 4)
    assert settings.activation_ranges == {
        "conv1": ("percentile", 0.01, 99.9),
        "conv2": ("manual", -1.0, 6.0),
        "conv10": ("percentile", 0.0, 100.0),
        "dw1": ("entropy", 0.0, 0.0),
    }
    assert settings.weight_clipping == {"fc1": ("mmse", 0.0, 0.0)}
    assert settings.disabled == ["finetune"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n quantization_params({*}, precision_mode=a8_w4)", "2:2: unknown command 'quantization_params'; the nearest is 'quantization_param'"),
        ("reshape(conv1)", "1:1: reshape is not carried by this version of mz: say it in the network's YAML"),
        ("normalization([1], [2], conv11)", "1:25: layer 'conv11' matches no layer; the nearest is 'conv1'"),
        ("normalization([1, 2], [2])", "1:1: normalization wants a mean and a positive std for every channel"),
        ("normalization([1], [0])", "1:1: normalization wants a mean and a positive std for every channel"),
        ("normalization([1])", "1:1: normalization wants 2 positional arguments, found 1"),
        ("conv1 = normalization([1], [2])", "1:1: normalization: the network has a layer named 'conv1' already"),
        ("input_conversion(bgr_to_bgr)", "1:1: input_conversion: 'bgr_to_bgr' is not carried by this version of mz: it carries bgr_to_rgb"),
        ("input_conversion()", "1:1: input_conversion wants 1 positional argument, found 0"),
        ("resize(input_layer1, resize_shapes=[0, 5])", "1:1: resize: resize_shapes wants two whole numbers"),
        ("change_output_activation(fc1, swoosh)", "1:1: change_output_activation: 'swoosh' is not carried"),
        ("remove_node(conv1)", "1:1: remove_node is not carried"),
        ("pre_quantization_optimization(se_optimization, method=tse, mode=custom, tile_height=7)", "1:1: se_optimization: layers names the global pools"),
        ("pre_quantization_optimization(se_optimization, method=tse, mode=sequential)", "1:1: pre_quantization_optimization: argument 'tile_height' is missing"),
        ("pre_quantization_optimization(pruning, ratio=1.0)", "1:1: pre_quantization_optimization: ratio wants a share below 1"),
        ("pre_quantization_optimization(equalization, max_scale=0.5)", "1:1: equalization: max_scale wants a number of at least 1"),
        ("pre_quantization_optimization(ew_add_fusing, policy=enabled)", "1:31: pre_quantization_optimization(ew_add_fusing, ...) is not carried by this version of mz: an addition"),
        ("pre_quantization_optimization(activation_clipping, layers=[conv1], mode=entropy, clipping_values=[0, 1])", "1:1: clipping_values has no meaning with mode=entropy"),
        ("pre_quantization_optimization(weights_clipping, layers=[conv1], mode=mmse, clipping_values=[0, 1])", "1:1: clipping_values has no meaning with mode=mmse"),
        ("pre_quantization_optimization(weights_clipping, layers=[conv1], mode=max)", "1:1: pre_quantization_optimization: mode is one of disabled, manual"),
        ("model_optimization_config(compression_params, auto_16bit_weights_ratio=2)", "1:1: model_optimization_config: auto_16bit_weights_ratio wants a share from 0 to 1"),
        ("quantization_param(conv1, weight_group_size=128)", "1:1: quantization_param: argument 'weight_group_size' is not carried by this version of mz: a layer has one"),
        ("quantization_param(conv11, precision_mode=a8_w8)", "1:20: layer 'conv11' matches no layer; the nearest is 'conv1'"),
        ("quantization_param([conv1,\n  {cnov*}], precision_mode=a8_w8)", "2:3: glob 'cnov*' matches no layer; the nearest is 'conv"),
        ("quantization_param([], precision_mode=a8_w8)", "1:1: quantization_param: the list of layers is empty"),
        ("quantization_param(5, precision_mode=a8_w8)", "1:1: quantization_param: layers are names as conv1"),
        ("quantization_param(precision_mode=a8_w8)", "1:1: quantization_param wants 1 positional argument, found 0"),
        ("quantization_param(conv1)", "1:1: quantization_param says nothing: it wants precision_mode or force_range_out"),
        ("quantization_param(conv1, precision_mode=a8_w7)", "1:1: precision 'a8_w7' is not of the form"),
        ("quantization_param(conv1, precision=a8_w8)", "1:1: quantization_param: unknown argument 'precision'; the nearest is 'precision_mode'"),
        ("x = quantization_param(conv1, precision_mode=a8_w8)", "1:1: quantization_param gives nothing that could be named 'x'"),
        ("model_optimization_flavor(optimization_level=7)", "1:1: model_optimization_flavor: optimization_level is one of -100, 0, 1, 2, 3, 4"),
        ("model_optimization_flavor(compression_level=True)", "1:1: model_optimization_flavor: compression_level is one of 0, "),
        ("model_optimization_flavor(2)", "1:1: model_optimization_flavor wants 0 positional arguments, found 1"),
        ("model_optimization_config(calibration, batch_size=0)", "1:1: model_optimization_config: batch_size wants a whole number"),
        ("model_optimization_config()", "1:1: model_optimization_config wants the name of an algorithm first"),
        ("pre_quantization_optimization(equalisation, policy=enabled)", "1:31: pre_quantization_optimization: unknown algorithm 'equalisation'; the nearest is 'equalization'"),
        ("pre_quantization_optimization(activation_clipping, layers=[conv1], mode=percentile, clipping_values=[1, 101])", "1:1: clipping_values=[1, 101]: percentiles rise from 0 to 100"),
        ("pre_quantization_optimization(activation_clipping, layers=[conv1], mode=manual, clipping_values=[2, 1])", "1:1: pre_quantization_optimization: clipping_values wants two rising numbers"),
        ("pre_quantization_optimization(activation_clipping, layers=[conv1], mode=manual)", "1:1: pre_quantization_optimization: argument 'clipping_values' is missing"),
        ("pre_quantization_optimization(activation_clipping, mode=manual)", "1:1: pre_quantization_optimization: argument 'layers' is missing"),
    ],
)  # fmt: skip
def test_refused(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        settings_of(text)
    assert str(caught.value).startswith(f"s.alls:{message}"), str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_name_is_both_carried_and_not() -> None:
    assert not set(COMMANDS) & {*REFUSED, *NOTED}
    assert not set(REFUSED) & set(NOTED)


def test_the_network_is_changed_in_order_and_new_layers_have_names() -> None:
    settings = settings_of(
        "net/norm1 = normalization([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])\n"
        "a, yuv = input_conversion(net/input_layer1, nv12_to_hailo_yuv, emulator_support=True)\n"
        "input_conversion(yuv_to_rgb)\n"
        "resize_input1 = resize(input_layer1, resize_shapes=[1080, 1920])\n"
        "change_output_activation(sigmoid) change_output_activation(fc1, softmax)\n"
        "quantization_param([norm1], precision_mode=a16_w16)"
    )
    assert settings.changes == [
        Normalization("norm1", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
        InputConversion("yuv", "nv12_to_yuv", "input_layer1"),
        InputConversion("input_conversion1", "yuv_to_rgb"),
        InputResize("resize_input1", (1080, 1920), "input_layer1"),
        OutputActivation("sigmoid"),
        OutputActivation("softmax", "fc1"),
    ]
    assert settings.precisions == {"norm1": Precision(16, 16)}


def test_full_precision_algorithms() -> None:
    settings = settings_of(
        "pre_quantization_optimization(equalization, policy=enabled, method=dfq, layers={conv*}, max_scale=8)"
        "pre_quantization_optimization(se_optimization, method=tse, mode=sequential, count=6, tile_height=8)"
        "pre_quantization_optimization(pruning, policy=enabled, ratio=0.3)"
        "pre_quantization_optimization(sparsity, ratio=0.5, layers=[fc1])"
        "pre_quantization_optimization(dead_channels_removal, policy=enabled)"
        "pre_quantization_optimization(global_avgpool_reduction, layers=conv2, division_factors=[4, 1])"
        "post_quantization_optimization(bias_correction, policy=disabled)"
    )
    assert settings == ScriptSettings(
        equalization=Equalization("enabled", "dfq", ("conv1", "conv2", "conv10"), 8.0),
        tse=TiledSqueezeExcite(8, "sequential", 6),
        pruning=Pruning(0.3),
        sparsity={"fc1": 0.5},
        dead_channels="enabled",
        avgpool_reduction={"conv2": (4, 1)},
        bias_correction=False,
    )


def test_clipping_modes() -> None:
    settings = settings_of(
        "pre_quantization_optimization(weights_clipping, layers=[conv1], mode=manual, clipping_values=[-32.5, 32.5])"
        "pre_quantization_optimization(weights_clipping, layers=[conv2], mode=percentile, clipping_values=[0.01, 99.99])"
        "pre_quantization_optimization(weights_clipping, layers=[fc1], mode=mmse_if4b)"
        "pre_quantization_optimization(activation_clipping, layers=[dw1], mode=percentile_force, clipping_values=[1, 99])"
        "quantization_param(fc1, force_range_out=[-3, 3], bias_mode=double_scale_initialization)"
    )
    assert settings.weight_clipping == {
        "conv1": ("manual", -32.5, 32.5),
        "conv2": ("percentile", 0.01, 99.99),
        "fc1": ("mmse_if4b", 0.0, 0.0),
    }
    assert settings.activation_ranges == {"dw1": ("percentile", 1.0, 99.0), "fc1": ("manual", -3.0, 3.0)}
    (note,) = settings.notes
    assert note.endswith(": bias_mode: biases have the accumulator's bits")


def test_ranges_of_inputs_and_what_is_left_out() -> None:
    settings = settings_of(
        "quantization_param([conv1, ew_add1], force_range_in=[-1, 2.5], force_range_index=1)"
        "quantization_param(fc1, force_range_in=[0, 1])"
        "model_optimization_config(calibration)"
    )
    assert settings == ScriptSettings(
        input_ranges={("conv1", 1): (-1.0, 2.5), ("ew_add1", 1): (-1.0, 2.5), ("fc1", 0): (0.0, 1.0)}
    )
    assert settings_of(render(settings)) == settings
    with pytest.raises(UserError, match="force_range_index wants a whole number of at least 0"):
        settings_of("quantization_param(fc1, force_range_in=[0, 1], force_range_index=-1)")


def test_settings_are_in_the_networks_order_whatever_the_scripts_is() -> None:
    settings = settings_of(
        "quantization_param([fc1], precision_mode=a16_w8) quantization_param([conv2, conv1], precision_mode=a8_w4)"
    )
    assert list(settings.precisions) == ["conv1", "conv2", "fc1"]


def test_gradient_based_algorithms_keep_their_arguments() -> None:
    settings = settings_of(
        "post_quantization_optimization(finetune, policy=enabled, epochs=4, learning_rate=0.0001, "
        "loss_layer_names=[conv1, net/fc1], loss_types=[l2rel, ce], loss_factors=[1, 2.0])"
        "post_quantization_optimization(adaround, policy=enabled, layers={conv*}, train_bias=False)"
    )
    assert settings.tuning == [
        Tuning(
            "finetune",
            (
                ("epochs", 4),
                ("learning_rate", 0.0001),
                ("loss_factors", (1, 2.0)),
                ("loss_layer_names", ("conv1", "fc1")),
                ("loss_types", ("l2rel", "ce")),
            ),
        ),
        Tuning("adaround", (("layers", ("conv1", "conv2", "conv10")), ("train_bias", False))),
    ]


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("context_0 = context([convX])", "s.alls:1:1: context: it places the network on one vendor's chip"),
        ("context_0.place(0)", "s.alls:1:1: context_0.place: it places"),
        ("{} = defuse_block(matmul1, defuse_count=4)", "s.alls:1:6: defuse_block: it places"),
        ('nms_postprocess("a.json", ssd)', "s.alls:1:1: nms_postprocess: boxes are decoded on the host"),
        ("remove_node(yolo_nms_postprocess)", "s.alls:1:1: remove_node(yolo_nms_postprocess): boxes are decoded"),
        ("remove_node(net/format_conversion1)", "s.alls:1:1: remove_node(net/format_conversion1): there is no such layer here"),
        ("quantization_param([net/output_layer1, {output_layer*}], precision_mode=a16_w16)", "s.alls:1:1: output_layer: an output has the bits"),
        ("quantization_param({conv*}, activation_fit=disabled)", "s.alls:1:1: activation_fit: an activation function is a table"),
        ("model_optimization_config(checker_cfg, policy=disabled)", "s.alls:1:1: checker_cfg: the noise"),
        ("model_optimization_config(negative_exponent, layers={*}, rank=0)", "s.alls:1:1: negative_exponent: accumulators"),
        ("pre_quantization_optimization(matmul_correction, layers={matmul*})", "s.alls:1:1: matmul_correction: zero points"),
    ],
)  # fmt: skip
def test_what_has_no_meaning_here_is_noted(text: str, note: str) -> None:
    settings = settings_of(text)
    assert len(settings.notes) == 1 and settings.notes[0].startswith(note), settings.notes
    assert render(settings) == ""


def by_layer(values: st.SearchStrategy) -> st.SearchStrategy:  # type: ignore[type-arg]
    return st.dictionaries(st.sampled_from(LAYERS), values)


bits = st.sampled_from([4, 8, 16])
percent = st.tuples(st.floats(0, 100), st.floats(0, 100)).filter(lambda p: p[0] < p[1])
numbers = st.tuples(st.floats(-1e30, 1e30), st.floats(-1e30, 1e30)).filter(lambda p: p[0] < p[1])
ranges = st.one_of(percent.map(lambda p: ("percentile", *p)), numbers.map(lambda p: ("manual", *p)))


channels = st.lists(st.floats(-300, 300), min_size=1, max_size=4).map(tuple)
selections = st.lists(st.sampled_from(LAYERS), min_size=1, unique=True).map(
    lambda names: tuple(name for name in LAYERS if name in names)
)
changes = st.one_of(
    channels.map(lambda mean: Normalization("n1", mean, (2.0,) * len(mean))),
    st.builds(
        InputConversion, st.just("c1"), st.sampled_from(CONVERSIONS), st.none() | st.just("input_layer1")
    ),
    st.builds(InputResize, st.just("r1"), st.tuples(st.integers(1, 4000), st.integers(1, 4000))),
    st.builds(OutputActivation, st.sampled_from(OUTPUT_ACTIVATIONS), st.none() | st.sampled_from(LAYERS)),
)
shares = st.floats(0, 0.99)
policies = st.sampled_from(["enabled", "allowed"])
activation_ranges = st.one_of(st.sampled_from(["mmse", "entropy"]).map(lambda mode: (mode, 0.0, 0.0)), ranges)
weight_ranges = st.one_of(
    st.sampled_from(["disabled", "mmse", "mmse_if4b"]).map(lambda mode: (mode, 0.0, 0.0)), ranges
)


@given(
    st.builds(
        ScriptSettings,
        optimization_level=st.none() | st.sampled_from(OPTIMIZATION_LEVELS),
        compression_level=st.none() | st.sampled_from(COMPRESSION_LEVELS),
        four_bit_ratio=st.none() | st.floats(0, 1),
        sixteen_bit_ratio=st.none() | st.floats(0, 1),
        calib_batch_size=st.none() | st.integers(1, 4096),
        calib_count=st.none() | st.integers(1, 10**6),
        changes=st.lists(changes, max_size=4, unique_by=lambda change: getattr(change, "name", change)),
        equalization=st.none()
        | st.builds(
            Equalization,
            policies,
            st.sampled_from(EQUALIZATION_METHODS),
            st.none() | selections,
            st.none() | st.floats(1, 100),
            st.sampled_from(["enabled", "allowed", "disabled"]),
        ),
        tse=st.none()
        | st.builds(TiledSqueezeExcite, st.integers(1, 99), count=st.none() | st.integers(1, 9))
        | st.builds(TiledSqueezeExcite, st.integers(1, 99), st.just("custom"), layers=selections),
        pruning=st.none()
        | st.builds(
            Pruning, shares, st.sampled_from(BUDGETS), st.sampled_from(IMPORTANCES), st.none() | selections
        ),
        sparsity=by_layer(shares),
        dead_channels=st.none() | st.sampled_from(["enabled", "allowed", "disabled"]),
        avgpool_reduction=by_layer(st.tuples(st.integers(1, 9), st.integers(1, 9))),
        bias_correction=st.none() | st.booleans(),
        tuning=st.lists(
            st.sampled_from(
                [
                    Tuning("finetune", (("epochs", 4), ("loss_types", ("l2rel",)))),
                    Tuning("adaround", (("layers", ("conv1",)), ("train_bias", True))),
                ]
            ),
            unique=True,
        ),
        precisions=by_layer(st.builds(Precision, bits, bits)),
        activation_ranges=by_layer(activation_ranges),
        weight_clipping=by_layer(weight_ranges),
        disabled=st.lists(
            st.sampled_from([*REFUSED_ALGORITHMS, "equalization", "finetune", "adaround"]), unique=True
        ),
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
