"""AdaRound: whether each weight rounds up or down is learned, block by block, to keep the block's output.

Source: Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization" (ICML 2020), sections 3 and 4, with
blocks instead of layers as in Li et al., "BRECQ" (ICLR 2021). A block reads what the integer network before it really
gives, and is to give what the float network gives. The rounding it begins with is the one handed in.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mz.emulator import numerics
from mz.engines.float_ort import FloatSession
from mz.engines.integer_ort import IntegerOrtSession
from mz.graph import Graph, Input, Layer, Params, Quantization
from mz.quantize.blocks import Block, blocks
from mz.quantize.checkpoint import Arrays, Checkpoint
from mz.quantize.recipe import Recipe
from mz.quantize.sequential import Refinements, refine
from mz.quantize.statistics import image_bytes, in_chunks

if TYPE_CHECKING:
    from mz.quantize.learned.soft_rounding import Given

_BOUNDARY_BYTES = 768 << 20
_FEWEST_IMAGES = 32


@dataclass(frozen=True, slots=True)
class AdaRound:
    """layers: those whose rounding is learned, () for all. learning_rate: of the variables behind the rounding."""

    epochs: int = 25
    dataset_size: int = 1024
    batch_size: int = 32
    learning_rate: float = 3e-2
    train_bias: bool = True
    layers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AdaRoundReport:
    """blocks: held-out squared error of each block's output over its power, before and after, by the block's output;
    images: how many were learned from.
    """

    blocks: Mapping[str, tuple[float, float]]
    images: int


def block_count(graph: Graph) -> int:
    """How many times `block_done` is called."""
    return len(blocks(graph))


def image_limit(graph: Graph) -> int:
    """Images whose tensors between two blocks, float and integer, stay within 768 MiB; at least 32."""
    largest = max(
        (math.prod(graph[name].shape) for block in blocks(graph) for name in (*block.inputs, block.output)),
        default=1,
    )
    return max(_FEWEST_IMAGES, _BOUNDARY_BYTES // (6 * largest))


def adaround(
    graph: Graph,
    params: Params,
    start: Quantization,
    images: Mapping[str, np.ndarray],
    judged: Mapping[str, np.ndarray],
    settings: AdaRound,
    recipe: Recipe,
    *,
    seed: int = 0,
    checkpoint: Checkpoint | None = None,
    block_done: Callable[[str], object] = lambda name: None,
) -> tuple[Quantization, AdaRoundReport]:
    """A quantization with the same activation scales and learned kernels and, with `train_bias`, biases and weight
    scales.

    start: made by `recipe`. images: float32 [N, *shape] by Input layer, to learn from; judged: others, held out: a
    block that does not gain on them keeps what it had. Needs PyTorch. With a checkpoint, a run that was killed goes on
    with the block it was at.
    """
    from mz.quantize.learned.soft_rounding import Given

    share = min(1.0, image_limit(graph) / sum(len(next(iter(feeds.values()))) for feeds in (images, judged)))
    taken = [
        {name: x[: math.ceil(share * len(x))] for name, x in feeds.items()} for feeds in (images, judged)
    ]
    sizes = [len(next(iter(feeds.values()))) for feeds in taken]
    feeds = {name: np.concatenate([part[name] for part in taken]) for name in images}
    apart = np.arange(sum(sizes)) >= sizes[0]
    checkpoint = checkpoint or Checkpoint()
    done = checkpoint.load() or {}
    current = Quantization(dict(start.tensors), dict(start.weights))
    walk = _Walk(graph, params, current, feeds)
    errors: dict[str, tuple[float, float]] = {}
    for block in blocks(graph):
        wanted = [name for name in block.weighted if not settings.layers or name in settings.layers]
        inputs, real, expected = walk.up_to(block)
        if wanted:
            if f"{block.output}/error" not in done:
                given = Given(graph, params, current, block, inputs, expected, apart)
                learned, error = _learned(given, wanted, settings, recipe, real, seed)
                done |= _arrays(block, wanted, learned, error)
                checkpoint.save(done)
            for name in wanted:
                kernel, bias, scale = (done[f"{name}/{key}"] for key in ("kernel", "bias", "scale"))
                current.weights[name] = dataclasses.replace(
                    current.weights[name], kernel=kernel, bias=bias, scale=scale
                )
            before, after = done[f"{block.output}/error"].tolist()
            errors[block.output] = (before, after)
        block_done(block.output)
    return current, AdaRoundReport(errors, sizes[0])


def _arrays(block: Block, names: Sequence[str], learned: Quantization, error: tuple[float, float]) -> Arrays:
    arrays: Arrays = {f"{block.output}/error": np.array(error)}
    for name in names:
        weight = learned.weights[name]
        arrays |= {
            f"{name}/kernel": weight.kernel,
            f"{name}/bias": weight.bias,
            f"{name}/scale": weight.scale,
        }
    return arrays


def _learned(
    given: Given, names: Sequence[str], settings: AdaRound, recipe: Recipe, real: Arrays, seed: int
) -> tuple[Quantization, tuple[float, float]]:
    """The best weights found for layers `names` of a block, and its error before and with them."""
    from mz.quantize.learned.soft_rounding import block_error, reconstruct

    before = block_error(given)
    best, least = given.quantization, before
    if settings.train_bias and list(names) == given.block.weighted:
        found = _refined(given, recipe, real, seed)
        error = block_error(dataclasses.replace(given, quantization=found))
        if error < least:
            best, least = found, error
    found, error = reconstruct(dataclasses.replace(given, quantization=best), least, names, settings, seed)
    return (found, (before, error)) if error < least else (best, (before, least))


def _refined(given: Given, recipe: Recipe, real: Arrays, seed: int) -> Quantization:
    """The block's weights by second-order rounding and its biases corrected on the integers that reach it now: those
    that it has are fitted to what blocks before it gave when they had not learned.

    real: what the block reads in the float network, [N, *shape].
    """
    block, current, chosen = given.block, given.quantization, ~given.apart
    sources = tuple(Input(name=name, inputs=(), shape=given.graph[name].shape) for name in block.inputs)
    part = Graph(given.graph.name, (*sources, *block.layers), (block.output,))
    return refine(
        part,
        given.params,
        current,
        recipe,
        {name: current.tensors[name].dequantize(q[chosen]) for name, q in given.x.items()},
        Refinements(),
        real={name: x[chosen] for name, x in real.items()},
        seed=seed,
    )


class _Walk:
    """The float network's and the integer network's tensors on all images, kept for as long as somebody reads them.

    The integers follow `current` as it is when they are computed.
    """

    def __init__(
        self, graph: Graph, params: Params, current: Quantization, images: Mapping[str, np.ndarray]
    ) -> None:
        self._graph, self._params, self._current = graph, params, current
        self._layers = [layer for layer in graph.layers if not layer.host and not isinstance(layer, Input)]
        self._last_reader = {name: place for place, layer in enumerate(self._layers) for name in layer.inputs}
        self._real = dict(images)
        self._integers = {}
        for name, x in images.items():
            t = current.tensors[name]
            self._integers[name] = numerics.quantize(x, t.scale, t.zero_point, t.bits).astype(t.carrier)
        self._real_place = self._integer_place = 0

    def up_to(self, block: Block) -> tuple[Arrays, Arrays, np.ndarray]:
        """What the block reads, [N, *shape], in integers and in the float network, and what it is to give in the
        latter.
        """
        first = self._layers.index(block.layers[0])
        before, through = self._layers[self._integer_place : first], first + len(block.layers)
        self._integers |= self._run(before, first, self._integer_run)
        self._integer_place = first
        self._real |= self._run(
            self._layers[self._real_place : through], through, self._float_run, block.output
        )
        self._real_place = through
        expected = self._real[block.output]
        integers, real = (
            {name: live[name] for name in block.inputs} for live in (self._integers, self._real)
        )
        for live, place in ((self._integers, first), (self._real, through)):
            for name in [name for name in live if self._last_reader.get(name, -1) < place]:
                del live[name]
        return integers, real, expected

    def _run(
        self, layers: Sequence[Layer], place: int, run: Callable[[Graph], Arrays], also: str = ""
    ) -> Arrays:
        """Those tensors of `layers` that something at `place` or behind it reads, and `also`."""
        own = {layer.name for layer in layers}
        wanted = [name for name in own if name == also or self._last_reader.get(name, -1) >= place]
        if not wanted:
            return {}
        read = dict.fromkeys(name for layer in layers for name in layer.inputs if name not in own)
        inputs = tuple(Input(name=name, inputs=(), shape=self._graph[name].shape) for name in read)
        return run(Graph(self._graph.name, (*inputs, *layers), tuple(sorted(wanted))))

    def _float_run(self, part: Graph) -> Arrays:
        session = FloatSession(part, self._params)
        return _in_pieces(part, lambda piece: session.run(piece), self._real)

    def _integer_run(self, part: Graph) -> Arrays:
        tensors = self._current.tensors
        engine = IntegerOrtSession(part, self._params, self._current)

        def run(piece: Arrays) -> Arrays:
            found = engine.run({name: tensors[name].dequantize(q) for name, q in piece.items()})
            return {name: found[name].astype(tensors[name].carrier) for name in part.outputs}

        return _in_pieces(part, run, self._integers)


def _in_pieces(part: Graph, run: Callable[[Arrays], Arrays], live: Arrays) -> Arrays:
    feeds = {layer.name: live[layer.name] for layer in part.inputs}
    pieces = [run(piece) for piece in in_chunks(feeds, image_bytes(part))]
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in part.outputs}
