"""Float networks to integers: statistics, ranges, weights, and what wins accuracy back."""

from __future__ import annotations

from mz.quantize.adaround import AdaRound, AdaRoundReport, adaround, block_count
from mz.quantize.checkpoint import Checkpoint, fingerprint
from mz.quantize.compression import SHARES, Sensitivity, choose_four_bit, sensitivities
from mz.quantize.finetune import Finetune, FinetuneReport, finetune
from mz.quantize.quantizer import activation_quants, quantize
from mz.quantize.range_choice import best_method, output_noise_by_method
from mz.quantize.recipe import RANGE_METHODS, ActivationRange, Recipe
from mz.quantize.sequential import Refinements, image_count, refine, rounds_to_second_order
from mz.quantize.statistics import FloatRunner, Statistics, TensorStatistics, collect, image_bytes, in_chunks
from mz.quantize.trial import Trial

__all__ = [
    "RANGE_METHODS",
    "SHARES",
    "ActivationRange",
    "AdaRound",
    "AdaRoundReport",
    "Checkpoint",
    "Finetune",
    "FinetuneReport",
    "FloatRunner",
    "Recipe",
    "Refinements",
    "Sensitivity",
    "Statistics",
    "TensorStatistics",
    "Trial",
    "activation_quants",
    "adaround",
    "best_method",
    "block_count",
    "choose_four_bit",
    "collect",
    "finetune",
    "fingerprint",
    "image_bytes",
    "image_count",
    "in_chunks",
    "output_noise_by_method",
    "quantize",
    "refine",
    "rounds_to_second_order",
    "sensitivities",
]
