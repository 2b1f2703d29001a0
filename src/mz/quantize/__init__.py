"""Float networks to integers: statistics, ranges, weights, and what wins accuracy back."""

from __future__ import annotations

from mz.quantize.adaround import AdaRound, AdaRoundReport, adaround, block_count
from mz.quantize.checkpoint import Checkpoint, fingerprint
from mz.quantize.compression import (
    SHARES,
    Sensitivity,
    choose_four_bit,
    choose_sixteen_bit,
    sensitivities,
)
from mz.quantize.finetune import Finetune, FinetuneReport, finetune
from mz.quantize.histograms import histograms
from mz.quantize.mending import RANGE_ALONE, Mend, Range, mended, mends, output_noise, try_ranges, worst_first
from mz.quantize.noise_analysis import Alone, Observed, fake, noise_alone, observe
from mz.quantize.normalization_scales import normalization_scales
from mz.quantize.quantizer import activation_quants, quantize
from mz.quantize.range_choice import (
    REFINED_CANDIDATES,
    best_method,
    contenders,
    output_noise_by_method,
    refined_best,
)
from mz.quantize.ranges import tensor_quant
from mz.quantize.recipe import RANGE_METHODS, ActivationRange, Recipe
from mz.quantize.remainder import enough_images, image_limit
from mz.quantize.residual_streams import residual_streams
from mz.quantize.sequential import Refinements, image_count, refine, rounds_to_second_order
from mz.quantize.softmax_scales import softmax_scales
from mz.quantize.statistics import (
    FloatRunner,
    Gatherer,
    Statistics,
    TensorStatistics,
    collect,
    image_bytes,
    in_chunks,
    layer_bytes,
)
from mz.quantize.trial import Trial
from mz.quantize.visible import as_seen, scaled_ends, visible_ends

__all__ = [
    "RANGE_ALONE",
    "RANGE_METHODS",
    "REFINED_CANDIDATES",
    "SHARES",
    "ActivationRange",
    "AdaRound",
    "AdaRoundReport",
    "Alone",
    "Checkpoint",
    "Finetune",
    "FinetuneReport",
    "FloatRunner",
    "Gatherer",
    "Mend",
    "Observed",
    "Range",
    "Recipe",
    "Refinements",
    "Sensitivity",
    "Statistics",
    "TensorStatistics",
    "Trial",
    "activation_quants",
    "adaround",
    "as_seen",
    "best_method",
    "block_count",
    "choose_four_bit",
    "choose_sixteen_bit",
    "collect",
    "contenders",
    "enough_images",
    "fake",
    "finetune",
    "fingerprint",
    "histograms",
    "image_bytes",
    "image_count",
    "image_limit",
    "in_chunks",
    "layer_bytes",
    "mended",
    "mends",
    "noise_alone",
    "normalization_scales",
    "observe",
    "output_noise",
    "output_noise_by_method",
    "quantize",
    "refine",
    "refined_best",
    "residual_streams",
    "rounds_to_second_order",
    "scaled_ends",
    "sensitivities",
    "softmax_scales",
    "tensor_quant",
    "try_ranges",
    "visible_ends",
    "worst_first",
]
