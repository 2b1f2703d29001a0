"""Where a network's layers stand when it is drawn: from top to bottom, one rank a step of the longest path.

K. Sugiyama, S. Tagawa, M. Toda, Methods for visual understanding of hierarchical system structures, IEEE Trans. SMC 11
(1981) 109-125: ranks, invisible nodes on long edges, ordering by barycentres. Columns are then found rank by rank as
the places nearest to the producers' that keep the order and the distances: an isotonic regression, solved exactly by
pooling (R. E. Barlow et al., Statistical Inference under Order Restrictions, 1972).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

NODE_WIDTH, NODE_HEIGHT = 184, 40
_RANK_HEIGHT = 64
_NODE_GAP, _EDGE_GAP = 18, 14
_SWEEPS = 8
_STRAIGHT, _NEXT, _LOOSE = 8.0, 4.0, 1e-6
"""How much an edge wants to be vertical: between invisible nodes, to the next rank, where a long edge begins or ends.
The last is least, so that a chain of layers stays straight and its shortcuts run beside it.
"""

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Layout:
    """nodes: middles by layer name. edges: (producer, consumer, points from the producer's lower side to the consumer's
    upper one). Lengths are in the page's pixels; the drawing's left upper corner is (0, 0).
    """

    nodes: Mapping[str, Point]
    edges: tuple[tuple[str, str, tuple[Point, ...]], ...]
    width: float
    height: float


@dataclass(slots=True)
class _Node:
    """A layer, or an invisible point where a long edge crosses a rank.

    fork: of a layer that joins branches, the layer where they part. It stands below that: else blocks drift sideways.
    """

    name: str
    rank: int
    seen: bool
    x: float = 0.0
    above: list[tuple[_Node, float]] = field(default_factory=list)
    below: list[tuple[_Node, float]] = field(default_factory=list)
    fork: _Node | None = None


def layout(inputs: Mapping[str, Sequence[str]]) -> Layout:
    """inputs: the producers of every layer, layers in topological order."""
    ranks = _ranks(inputs)
    rows: list[list[_Node]] = [[] for _ in range(max(ranks.values(), default=-1) + 1)]
    nodes = {name: _Node(name, rank, True) for name, rank in ranks.items()}
    for node in nodes.values():
        rows[node.rank].append(node)
    chains = []
    for name, producers in inputs.items():
        for producer in dict.fromkeys(producers):
            chain = _chain(nodes[producer], nodes[name], rows)
            chains.append((producer, name, chain))
    for name, fork in _forks(inputs).items():
        nodes[name].fork = nodes[fork]
    _order(rows)
    _columns(rows)
    left = min((node.x - NODE_WIDTH / 2 for node in nodes.values()), default=0.0)
    left = min([left, *(node.x for row in rows for node in row)])
    for row in rows:
        for node in row:
            node.x = round(node.x - left, 1)
    right = [node.x + (NODE_WIDTH / 2 if node.seen else 0) for row in rows for node in row]
    return Layout(
        nodes={name: (node.x, _middle(node)) for name, node in nodes.items()},
        edges=tuple((producer, name, _points(chain)) for producer, name, chain in chains),
        width=max(right, default=0.0),
        height=len(rows) * _RANK_HEIGHT - (_RANK_HEIGHT - NODE_HEIGHT) if rows else 0.0,
    )


def _ranks(inputs: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Longest path from an input; a layer without producers stands right above its first consumer."""
    ranks: dict[str, int] = {}
    for name, producers in inputs.items():
        ranks[name] = 1 + max((ranks[producer] for producer in producers), default=-1)
    first: dict[str, int] = {}
    for name, producers in inputs.items():
        for producer in producers:
            first[producer] = min(first.get(producer, ranks[name]), ranks[name])
    return {
        name: rank if inputs[name] or name not in first else first[name] - 1 for name, rank in ranks.items()
    }


def _forks(inputs: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The last layer that every path to a joining layer crosses: its immediate dominator, where there is one."""
    dominator: dict[str, str | None] = {}
    depth: dict[str | None, int] = {None: 0}
    forks = {}
    for name, producers in inputs.items():
        common: str | None = producers[0] if producers else None
        for producer in producers[1:]:
            other: str | None = producer
            while common != other:
                if depth[common] >= depth[other]:
                    assert common is not None
                    common = dominator[common]
                else:
                    assert other is not None
                    other = dominator[other]
        dominator[name] = common
        depth[name] = depth[common] + 1
        if common is not None and len(set(producers)) > 1:
            forks[name] = common
    return forks


def _chain(producer: _Node, consumer: _Node, rows: list[list[_Node]]) -> list[_Node]:
    """The edge's nodes from producer to consumer, its invisible ones put into their rows."""
    chain = [producer]
    for rank in range(producer.rank + 1, consumer.rank):
        hidden = _Node(f"{producer.name} {consumer.name}", rank, False)
        rows[rank].append(hidden)
        chain.append(hidden)
    chain.append(consumer)
    for upper, lower in pairwise(chain):
        weight = _NEXT if len(chain) == 2 else _LOOSE if upper.seen or lower.seen else _STRAIGHT
        upper.below.append((lower, weight))
        lower.above.append((upper, weight))
    return chain


def _order(rows: list[list[_Node]]) -> None:
    """Sorts each row by the mean place of the neighbours, downwards and upwards in turn; x is the place meanwhile."""
    for row in rows:
        _number(row)
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        for row in rows if down else reversed(rows):
            row.sort(key=lambda node: _barycentre(node, node.above if down else node.below))
            _number(row)


def _number(row: list[_Node]) -> None:
    for place, node in enumerate(row):
        node.x = place - (len(row) - 1) / 2


def _barycentre(node: _Node, neighbours: list[tuple[_Node, float]]) -> float:
    return sum(other.x for other, _ in neighbours) / len(neighbours) if neighbours else node.x


def _columns(rows: list[list[_Node]]) -> None:
    """Downwards, every node as near to its producers as its row allows, and joins below their forks."""
    for row in rows:
        weights = [sum(weight for _, weight in _above(node)) or 0.01 for node in row]
        wanted = [
            sum(weight * other.x for other, weight in _above(node)) / total
            for node, total in zip(row, weights, strict=True)
        ]
        _place(row, wanted, weights)


def _above(node: _Node) -> list[tuple[_Node, float]]:
    return [(node.fork, _NEXT)] if node.fork else node.above


def _distance(left: _Node, right: _Node) -> float:
    halves = sum(NODE_WIDTH / 2 if node.seen else 0 for node in (left, right))
    return halves + (_NODE_GAP if left.seen and right.seen else _EDGE_GAP)


def _place(row: list[_Node], wanted: list[float], weights: list[float]) -> None:
    """The places nearest to the wanted ones, by weighted squares, that keep order and distances."""
    offset, offsets = 0.0, []
    for before, node in pairwise([None, *row]):
        assert node is not None
        offset += _distance(before, node) if before else 0.0
        offsets.append(offset)
    pools: list[list[float]] = []  # [weight, weighted sum, nodes]
    for target, weight, shift in zip(wanted, weights, offsets, strict=True):
        pools.append([weight, weight * (target - shift), 1])
        while len(pools) > 1 and pools[-2][1] / pools[-2][0] >= pools[-1][1] / pools[-1][0]:
            last = pools.pop()
            pools[-1] = [a + b for a, b in zip(pools[-1], last, strict=True)]
    means = [total / weight for weight, total, count in pools for _ in range(int(count))]
    for node, mean, shift in zip(row, means, offsets, strict=True):
        node.x = mean + shift


def _middle(node: _Node) -> float:
    return node.rank * _RANK_HEIGHT + NODE_HEIGHT / 2


def _points(chain: list[_Node]) -> tuple[Point, ...]:
    """Down from the producer's lower side, through the ranks between, to the consumer's upper side."""
    first, last = chain[0], chain[-1]
    points = [(first.x, _middle(first) + NODE_HEIGHT / 2)]
    for node in chain[1:-1]:
        points += [(node.x, _middle(node) - NODE_HEIGHT / 2), (node.x, _middle(node) + NODE_HEIGHT / 2)]
    return (*points, (last.x, _middle(last) - NODE_HEIGHT / 2))
