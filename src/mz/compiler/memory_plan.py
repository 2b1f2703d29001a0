"""The static memory plan: in which order layers run, and where in one arena each activation tensor stands.

A tensor lives from the step of its layer to that of its last reader, both included; inputs from the beginning, tensors
that leave the accelerator to the end. Tensors that share their bytes on purpose are one block:

- a reshape whose values keep their order in memory is a view of its input;
- an activation function, sum, difference or product writes over an operand of its own shape and element size that
  nobody reads afterwards (element i is read before it is written, and no other element depends on it).

A concatenation is never laid out in place: its operands would have to begin at multiples of the alignment inside one
block, stand apart from the bytes that their other readers see, and lie on the outermost axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mz.compiler.arena import SEARCH_STEPS, Block, Placement, greedy_by_size, lower_bound, place
from mz.compiler.execution_order import Task, Work, lower_peak
from mz.graph import Activation, Elementwise, Graph, Input, Layer, Quantization, Reshape

ALIGNMENT = 16

TensorBytes = Callable[[int, int], int]
"""(values, bits of each) -> bytes."""

Layout = Literal["channels_first", "channels_last"]


def whole_bytes(values: int, bits: int) -> int:
    """One byte a value, two above 8 bits: how code without bit fields stores activations."""
    return values * (2 if bits > 8 else 1)


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes throughout. Steps count the places of `order`.

    order: accelerator layers as they run, inputs first. offsets, sizes: of each layer's tensor; sizes are not aligned.
    lifetimes: first and last step at which a tensor's values are needed. shares: layers that write into the bytes of
    one of their inputs, and which. scratch_offsets: of the layers that asked for scratch.
    arena_bytes: what the arena must hold. lower_bound: the largest sum of aligned blocks that live at one step of
    `order`. heuristic: whose offsets won. graph_order_bound: the bound for the graph's own order.
    greedy_by_size_bytes: the arena of the usual way, graph order and greedy by size, nothing in place but views.
    """

    order: tuple[str, ...]
    offsets: dict[str, int]
    sizes: dict[str, int]
    lifetimes: dict[str, tuple[int, int]]
    arena_bytes: int
    lower_bound: int
    heuristic: str
    alignment: int
    graph_order_bound: int
    greedy_by_size_bytes: int
    shares: dict[str, str] = field(default_factory=dict)
    scratch_offsets: dict[str, int] = field(default_factory=dict)

    def peak_step(self) -> int:
        """The first step at which the most bytes live; tensors in the same place count once."""

        def live(step: int) -> int:
            alive = [name for name, (first, last) in self.lifetimes.items() if first <= step <= last]
            return sum({self.offsets[name]: self.sizes[name] for name in alive}.values())

        return max(range(len(self.order)), key=live)

    def to_dict(self) -> dict[str, Any]:
        """A form that JSON can hold: the figures, then `tensors` in the order of execution."""
        figures = {
            key: getattr(self, key)
            for key in (
                "arena_bytes", "lower_bound", "heuristic", "alignment", "graph_order_bound", "greedy_by_size_bytes",
            )
        }  # fmt: skip
        tensors = [
            {
                "name": name,
                "offset": self.offsets[name],
                "bytes": self.sizes[name],
                "first_step": self.lifetimes[name][0],
                "last_step": self.lifetimes[name][1],
            }
            | ({"shares": self.shares[name]} if name in self.shares else {})
            for name in self.order
        ]
        return figures | {"tensors": tensors}


def plan_memory(
    graph: Graph,
    quantization: Quantization,
    *,
    alignment: int = ALIGNMENT,
    tensor_bytes: TensorBytes = whole_bytes,
    layout: Layout = "channels_first",
    in_place: bool = True,
    reorder: bool = True,
    scratch: Mapping[str, int] | None = None,
) -> MemoryPlan:
    """Places every accelerator tensor of `graph`; of `quantization` only the bits of tensors are read.

    alignment: offsets are multiples of it. layout: how maps [C, H, W] lie in memory, which decides what reshapes move.
    in_place: whether element-wise layers may write over an operand; a kernel that declares its pointers as not
    overlapping must say False. reorder: whether layers may run in another order than the graph's.
    scratch: bytes that a layer needs while it runs, by name.
    The arena is never larger than that of the graph's order with greedy-by-size offsets.
    """
    if alignment < 1:
        raise ValueError(f"alignment {alignment} is below 1")
    layers = _layers(graph)
    sizes = {
        layer.name: tensor_bytes(math.prod(layer.shape), quantization.tensors[layer.name].bits)
        for layer in layers
    }
    views = {
        layer.name: layer.inputs[0]
        for layer in layers
        if isinstance(layer, Reshape)
        and sizes[layer.name] == sizes[layer.inputs[0]]
        and keeps_order(graph.input_shapes(layer)[0], layer.shape, layout)
    }
    problem = _Problem(graph, layers, sizes, views, alignment, dict(scratch or {}))
    plain = problem.candidate(layers, in_place=False)
    usual = greedy_by_size(plain.blocks)
    given = problem.candidate(layers, in_place=in_place)
    candidates = [given, plain]
    if reorder:
        order = [layers[index] for index in lower_peak(problem.work(in_place))]
        if order != layers:
            candidates.insert(0, problem.candidate(order, in_place))
    best: tuple[_Candidate, Placement] | None = None
    for (
        candidate
    ) in candidates:  # the later ones only stand in where the first turns out worse than greedy by size
        placement = place(candidate.blocks, SEARCH_STEPS if candidate is candidates[0] else 0)
        if best is None or placement.arena_bytes < best[1].arena_bytes:
            best = candidate, placement
        if best[1].arena_bytes == lower_bound(candidates[0].blocks):
            break
    assert best is not None
    chosen, placement = best
    return MemoryPlan(
        order=tuple(layer.name for layer in chosen.order),
        offsets={name: placement.offsets[block] for name, block in chosen.block_of.items()},
        sizes=sizes,
        lifetimes=chosen.lifetimes,
        arena_bytes=placement.arena_bytes,
        lower_bound=lower_bound(chosen.blocks),
        heuristic=placement.heuristic,
        alignment=alignment,
        graph_order_bound=lower_bound(given.blocks),
        greedy_by_size_bytes=usual.arena_bytes,
        shares=chosen.shares,
        scratch_offsets={name: placement.offsets[block] for name, block in chosen.scratch_of.items()},
    )


def keeps_order(before: tuple[int, ...], after: tuple[int, ...], layout: Layout) -> bool:
    """Whether a row-major reshape leaves the values where they are in memory."""
    if layout == "channels_first":
        return True

    def is_row_major(shape: tuple[int, ...]) -> bool:
        return len(shape) != 3 or shape[0] == 1 or shape[1] * shape[2] == 1

    return (is_row_major(before) and is_row_major(after)) or (
        len(before) == len(after) == 3 and before[0] == after[0]
    )


def _layers(graph: Graph) -> list[Layer]:
    """The accelerator's layers, inputs first, else in the graph's order."""
    inside = [layer for layer in graph.layers if not layer.host]
    return sorted(inside, key=lambda layer: not isinstance(layer, Input))


@dataclass(frozen=True)
class _Candidate:
    """One order, and the blocks that its tensors make; block_of, scratch_of: their places in `blocks`."""

    order: list[Layer]
    blocks: list[Block]
    block_of: dict[str, int]
    scratch_of: dict[str, int]
    lifetimes: dict[str, tuple[int, int]]
    shares: dict[str, str]


@dataclass(frozen=True)
class _Problem:
    """What orders and placements are made for; views: reshapes that move nothing, and what they are views of."""

    graph: Graph
    layers: list[Layer]
    sizes: dict[str, int]
    views: dict[str, str]
    alignment: int
    scratch: dict[str, int]

    def aligned(self, size: int) -> int:
        return -(-size // self.alignment) * self.alignment

    def root(self, name: str) -> str:
        """The tensor whose values `name` shows."""
        while name in self.views:
            name = self.views[name]
        return name

    def kept(self) -> set[str]:
        """Tensors that live to the end, as one of them or a view of it leaves the accelerator."""
        return {self.root(name) for name in self.graph.accelerator_outputs()}

    def overwritable(self, layer: Layer) -> tuple[str, ...]:
        """Operands into whose bytes the layer may write if they are dead after it."""
        if not isinstance(layer, Activation | Elementwise):
            return ()
        same = [
            name
            for name in layer.inputs
            if self.graph[name].shape == layer.shape and self.sizes[name] == self.sizes[layer.name]
        ]
        return tuple(
            dict.fromkeys(
                name
                for name in same
                # an operand of another shape that shows the same bytes is read at other places than are written
                if all(self.root(other) != self.root(name) or other in same for other in layer.inputs)
            )
        )

    def work(self, in_place: bool) -> Work:
        """The problem in numbers: tensors that are views of one another are one."""
        index = {layer.name: number for number, layer in enumerate(self.layers)}
        return Work(
            tasks=tuple(
                Task(
                    after=tuple(index[name] for name in layer.inputs),
                    reads=tuple(dict.fromkeys(index[self.root(name)] for name in layer.inputs)),
                    writes=index[self.root(layer.name)],
                    over=tuple(index[self.root(name)] for name in self.overwritable(layer))
                    if in_place
                    else (),
                    scratch=self.aligned(self.scratch.get(layer.name, 0)),
                )
                for layer in self.layers
            ),
            sizes=tuple(self.aligned(self.sizes[layer.name]) for layer in self.layers),
            kept=frozenset(index[name] for name in self.kept()),
            inputs=len(self.graph.inputs),
        )

    def candidate(self, order: list[Layer], in_place: bool) -> _Candidate:
        steps = {layer.name: step for step, layer in enumerate(order)}
        lifetimes = self._lifetimes(steps)
        dies: dict[str, int] = {}
        for name, (_, last) in lifetimes.items():
            dies[self.root(name)] = max(last, dies.get(self.root(name), 0))
        kept = self.kept()
        block_of: dict[str, int] = {}
        shares: dict[str, str] = {}
        blocks: list[Block] = []
        for step, layer in enumerate(order):
            name = layer.name
            first = lifetimes[name][0]
            over = self.overwritable(layer) if in_place else ()
            dead = (one for one in over if dies[self.root(one)] == step and self.root(one) not in kept)
            taken = next(dead, None)
            source = self.views.get(name, taken)
            if source is None:
                block_of[name] = len(blocks)
                blocks.append(Block(self.aligned(self.sizes[name]), first, dies[name]))
                continue
            shares[name] = source
            block_of[name] = block = block_of[source]
            last = max(blocks[block].last, dies[self.root(name)])
            blocks[block] = Block(blocks[block].size, blocks[block].first, last)
        scratch_of: dict[str, int] = {}
        for name, size in self.scratch.items():
            scratch_of[name] = len(blocks)
            blocks.append(Block(self.aligned(size), steps[name], steps[name]))
        return _Candidate(order, blocks, block_of, scratch_of, lifetimes, shares)

    def _lifetimes(self, steps: Mapping[str, int]) -> dict[str, tuple[int, int]]:
        outputs = set(self.graph.accelerator_outputs())
        lifetimes = {}
        for name, step in steps.items():
            reads = [steps[reader.name] for reader in self.graph.consumers[name] if reader.name in steps]
            last = len(steps) - 1 if name in outputs else max(reads, default=step)
            lifetimes[name] = (0 if isinstance(self.graph[name], Input) else step, last)
        return lifetimes
