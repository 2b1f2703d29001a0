"""Full-precision optimization: passes `(graph, params, ...) -> (graph, params, report)` in floating point, before any
integer exists. One algorithm a file; none of them knows of quantization.
"""

from __future__ import annotations

from mz.optimize.avgpool_reduction import reduce_global_avgpool
from mz.optimize.bias_absorption import AbsorptionReport, absorb_bias
from mz.optimize.channels import Channels, channel_classes
from mz.optimize.dead_channels import CHANNEL_BLOCK, remove_dead_channels
from mz.optimize.equalization import MAX_SCALE, METHODS, EqualizationReport, equalize
from mz.optimize.input_form import InputForm, device_input, own_pixels
from mz.optimize.input_normalization import fold_normalization
from mz.optimize.inputs import PIXELS, convert_input, resize_input
from mz.optimize.output_activation import added_activations, change_output_activation
from mz.optimize.peaks import PeakGatherer, Peaks, find_peaks
from mz.optimize.pools import pools_to_convolutions
from mz.optimize.prelu_fusing import fuse_prelus
from mz.optimize.pruning import PruningReport, group_count, prune
from mz.optimize.rescaling import rescale
from mz.optimize.sparsity import SparsityReport, sparsify
from mz.optimize.squeeze_excite import SqueezeExcite, find_squeeze_excite
from mz.optimize.tse import TseReport, tiled_squeeze_excite
from mz.optimize.weight_clipping import WeightClippingReport, clip_weights

__all__ = [
    "CHANNEL_BLOCK",
    "MAX_SCALE",
    "METHODS",
    "PIXELS",
    "AbsorptionReport",
    "Channels",
    "EqualizationReport",
    "InputForm",
    "PeakGatherer",
    "Peaks",
    "PruningReport",
    "SparsityReport",
    "SqueezeExcite",
    "TseReport",
    "WeightClippingReport",
    "absorb_bias",
    "added_activations",
    "change_output_activation",
    "channel_classes",
    "clip_weights",
    "convert_input",
    "device_input",
    "equalize",
    "find_peaks",
    "find_squeeze_excite",
    "fold_normalization",
    "fuse_prelus",
    "group_count",
    "own_pixels",
    "pools_to_convolutions",
    "prune",
    "reduce_global_avgpool",
    "remove_dead_channels",
    "rescale",
    "resize_input",
    "sparsify",
    "tiled_squeeze_excite",
]
