"""Names of the published model-script language that change no integer here, or that mz does not carry, and why.

What has no meaning here is read and noted; what would change the network and is not carried is refused by name and
line. Nothing that a user asked for is skipped silently.
"""

from __future__ import annotations

_PLACEMENT = "it places the network on one vendor's chip and changes no integer"

NOTED: dict[str, str] = dict.fromkeys(
    (
        "allocator_param",
        "bucket",
        "buffers",
        "compilation_param",
        "concat",
        "context",
        "context_switch_param",
        "defuse",
        "defuse_block",
        "format_conversion",
        "hef_param",
        "join",
        "mux_demux",
        "network_group",
        "output_layer",
        "performance_param",
        "place",
        "platform_param",
        "resources_param",
        "shape_splitter",
        "shortcut",
        "spatial_reshape_flow_params",
        "transpose_concat",
    ),
    _PLACEMENT,
) | {
    "nms_postprocess": "boxes are decoded on the host, as the network's YAML says under postprocessing",
    "logits_layer": "what follows the logits is on the host, as the network's YAML says under postprocessing",
}
"""Commands that are read and noted."""

REFUSED: dict[str, str] = {
    "reshape": "say it in the network's YAML, under preprocessing",
    "transpose": "say it in the network's YAML, under preprocessing",
    "set_seed": "use --seed",
}
"""Commands that are refused."""

FOREIGN_LAYERS: dict[str, str] = {
    "nms_postprocess": "boxes are decoded on the host in any case",
    "format_conversion": "there is no such layer here to remove",
    "postprocess_output_layer": "there is no such layer here to remove",
}
"""Parts of the names of layers that the published flow adds by itself, and why removing one asks for nothing."""

NOTED_CONFIGURATIONS: dict[str, str] = {
    "checker_cfg": "the noise of every layer is measured in every run",
    "globals": "it tunes the processes of one vendor's tool",
    "negative_exponent": "accumulators are exact here: there is nothing to shift",
}

NOTED_ALGORITHMS: dict[str, str] = {
    "matmul_correction": "zero points of both factors are exact here: there is nothing to correct",
    "matmul_equalization": "`equalization` goes through products of two tensors",
    "layer_norm_decomposition": "layer normalizations are written out in layers while parsing",
}
"""Algorithms that are read and noted, whatever they ask for."""

REFUSED_ALGORITHMS: dict[str, str] = {
    "decompose_conv_factor": "one convolution with 16-bit weights says more than two of 8: precision_mode=a8_w16",
    "defuse": _PLACEMENT,
    "ew_add_fusing": "an addition is a layer of its own, with integers of its own",
    "quantization_groups": "a layer has one weight scale, or one for each output channel, as the hw_arch says",
    "resolution_reduction": "give the network another input by input_shapes in its YAML",
    "split_ew_mult_by_bit_significance": "give the product 16 bits by quantization_param(..., precision_mode=a16_w8)",
    "mix_precision_search": "name the layers by quantization_param, or use compression_level",
    "train_encoding": "ranges are found by search",
}
"""Algorithms that are refused unless they come with policy=disabled."""

NOTED_QUANTIZATION: dict[str, str] = {
    "activation_fit": "an activation function is a table of its own values: nothing is fitted",
    "bias_mode": "biases have the accumulator's bits",
    "max_bias_feed_repeat": "biases have the accumulator's bits",
    "max_elementwise_feed_repeat": "ratios of element-wise layers have the bits that they need",
    "null_channels_cutoff_factor": "a channel without weights costs nothing",
}

OUTPUT_LAYER = "output_layer"
"""What the published flow calls the places where tensors leave the device: no layers here."""
NOTED_OUTPUT_LAYER = "an output has the bits of the layer that makes it"

REFUSED_QUANTIZATION: dict[str, str] = {
    "force_shared_sigmoid": "a table belongs to its layer",
    "quantization_groups": "a layer has one weight scale, or one for each output channel, as the hw_arch says",
    "quantization_weight_bits": "say it by precision_mode",
    "signed_output": "activations are unsigned, with a zero point",
    "weight_group_size": "a layer has one weight scale, or one for each output channel, as the hw_arch says",
}
