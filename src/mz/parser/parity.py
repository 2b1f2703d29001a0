"""The proof of a parse: the parsed graph against the original network on the same random input, in dB.

The engines that run the two are passed in, for the parser may not know them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from mz.errors import UserError
from mz.parser.parse import ParseResult

Run = Callable[[dict[str, np.ndarray]], Mapping[str, np.ndarray]]
"""Float32 arrays [N, ...] by input name -> arrays by output name."""

IDENTICAL_DB = 200.0
REQUIRED_DB = 80.0
"""Float32 rounding alone stays above 100 dB; a wrong layer falls far below 80."""
SCORE_TOLERANCE = 1e-5
"""Far above float32's step at 1, far below any score that matters."""


def signal_to_noise_db(reference: np.ndarray, candidate: np.ndarray) -> float:
    """10 log10(sum ref^2 / sum (ref - cand)^2), at most 200; minus infinity where sizes or non-finite values differ."""
    ref, cand = (np.asarray(array, np.float64).ravel() for array in (reference, candidate))
    if ref.size != cand.size:
        return -np.inf
    if np.array_equal(ref, cand, equal_nan=True):
        return IDENTICAL_DB
    with np.errstate(invalid="ignore"):
        noise, signal = float(np.sum((ref - cand) ** 2)), float(np.sum(ref**2))
    if not np.isfinite(noise) or signal == 0.0:
        return -np.inf
    return min(IDENTICAL_DB, 10 * float(np.log10(signal / noise)))


def parity_by_output(
    result: ParseResult, run_original: Run, run_graph: Run, *, seed: int = 0, batch: int = 2
) -> dict[str, float]:
    """dB by output layer, on standard normal input. The original is fed image by image, the graph all at once.

    run_original takes and gives ONNX tensor names, run_graph layer names. An output that is a sigmoid or a softmax is
    judged by what that reads (`ParseResult.scores`) where both runs give it in one shape and the outputs are equal to
    1e-5: a detector that sees nothing in noise has scores of 1e-12, and of those even the original gives others with
    every order of its sums.
    """
    random = np.random.default_rng(seed)
    images = {
        layer.name: random.standard_normal((batch, *layer.shape), np.float32) for layer in result.graph.inputs
    }
    originals = [
        run_original({result.input_names[name]: array[i : i + 1] for name, array in images.items()})
        for i in range(batch)
    ]
    parsed = run_graph(images)

    def pair(layer: str, tensor: str) -> tuple[np.ndarray, np.ndarray]:
        return np.stack([original[tensor] for original in originals]), parsed[layer]

    found = {layer: signal_to_noise_db(*pair(layer, tensor)) for layer, tensor in result.output_names.items()}
    for output, (layer, tensor) in result.scores.items():
        reference, candidate = pair(output, result.output_names[output])
        given = layer in parsed and tensor in originals[0]
        if given and np.allclose(reference.ravel(), candidate.ravel(), rtol=0, atol=SCORE_TOLERANCE):
            read, computed = pair(layer, tensor)
            if read.squeeze().shape == computed.squeeze().shape:
                found[output] = signal_to_noise_db(read, computed)
    return found


def parity_db(
    result: ParseResult, run_original: Run, run_graph: Run, *, seed: int = 0, batch: int = 2
) -> float:
    """The lowest dB over all outputs."""
    return min(parity_by_output(result, run_original, run_graph, seed=seed, batch=batch).values())


def require_parity(
    result: ParseResult, run_original: Run, run_graph: Run, *, seed: int = 0, batch: int = 2
) -> float:
    """`parity_db`; raises UserError below 80 dB."""
    found = parity_by_output(result, run_original, run_graph, seed=seed, batch=batch)
    layer = min(found, key=found.__getitem__)
    if found[layer] < REQUIRED_DB:
        raise UserError(
            f"{result.graph.name}: the parsed graph differs from its ONNX: {found[layer]:.1f} dB at output {layer}"
            f" ({result.output_names[layer]}), at least {REQUIRED_DB:.0f} are required;"
            " end the network earlier with --end-node-names, and please report this"
        )
    return found[layer]
