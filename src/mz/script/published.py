"""Names of the published model-script language that this version of mz does not carry, and why.

A script that asks for one of them is refused by name and line: nothing that a user asked for is skipped silently.
"""

from __future__ import annotations

_PLACEMENT = "it places the network on one vendor's chip"
_INPUT = "say it in the network's YAML, under preprocessing"
_OUTPUT = "say it in the network's YAML, under postprocessing"
_GRAPH = (
    "it rewrites the network; change the ONNX file, or cut it with --start-node-names and --end-node-names"
)

COMMANDS: dict[str, str] = {
    "normalization": _INPUT,
    "input_conversion": _INPUT,
    "format_conversion": _INPUT,
    "resize": _INPUT,
    "reshape": _INPUT,
    "transpose": _INPUT,
    "nms_postprocess": _OUTPUT,
    "change_output_activation": _OUTPUT,
    "logits_layer": _OUTPUT,
    "set_seed": "use --seed",
    "remove_node": _GRAPH,
    "shape_splitter": _GRAPH,
    "transpose_concat": _GRAPH,
} | dict.fromkeys(
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
        "hef_param",
        "join",
        "mux_demux",
        "network_group",
        "output_layer",
        "performance_param",
        "place",
        "platform_param",
        "resources_param",
        "shortcut",
        "spatial_reshape_flow_params",
    ),
    _PLACEMENT,
)

PRE_QUANTIZATION = (
    "dead_channels_removal",
    "decompose_conv_factor",
    "defuse",
    "equalization",
    "ew_add_fusing",
    "global_avgpool_reduction",
    "layer_norm_decomposition",
    "matmul_correction",
    "matmul_equalization",
    "quantization_groups",
    "resolution_reduction",
    "se_optimization",
    "split_ew_mult_by_bit_significance",
    "zero_static_channels",
)
POST_QUANTIZATION = ("adaround", "bias_correction", "finetune", "mix_precision_search", "train_encoding")
CONFIGURATIONS = ("checker_cfg", "compression_params", "globals", "negative_exponent")
QUANTIZATION_PARAMETERS = (
    "activation_fit",
    "bias_mode",
    "force_range_in",
    "force_range_index",
    "force_range_out",
    "force_shared_sigmoid",
    "max_elementwise_feed_repeat",
    "max_bias_feed_repeat",
    "null_channels_cutoff_factor",
    "quantization_groups",
    "quantization_weight_bits",
    "signed_output",
    "weight_group_size",
)
