"""The zoo's own networks: their arenas against the bound, in both layouts and with 4 and 16 bits mixed in."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.compiler.random_graphs import with_bits

from mz import zoo
from mz.compiler.memory_plan import Layout, plan_memory
from mz.compiler.summary import packed_bytes
from mz.errors import UserError
from mz.graph import Graph
from mz.parser import parse
from mz.zoo.schema import BundledSource

BUNDLED = [
    name for name in zoo.network_names() if isinstance(zoo.load_network(name).paths.source, BundledSource)
]


def graph_of(model: str) -> Graph:
    config = zoo.load_network(model)
    own = config.parser
    return parse(
        zoo.model_path(config, offline=True), name=model, start_nodes=own.start_node_names,
        end_nodes=own.end_node_names, input_shapes=own.input_shapes or None,
    ).graph  # fmt: skip


def check(graph: Graph, layout: Layout) -> None:
    names = [layer.name for layer in graph.layers if not layer.host]
    for bits in (
        dict.fromkeys(names, 8),
        {name: (4, 8, 16)[place % 3] for place, name in enumerate(names)},
    ):
        for tensor_bytes in (None, packed_bytes):
            options = {} if tensor_bytes is None else {"tensor_bytes": tensor_bytes}
            plan = plan_memory(graph, with_bits(bits), layout=layout, **options)
            assert plan.lower_bound <= plan.arena_bytes <= 1.05 * plan.lower_bound
            assert plan.arena_bytes <= plan.greedy_by_size_bytes
            assert plan.lower_bound <= plan.graph_order_bound


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize("model", BUNDLED)
def test_arenas_of_bundled_networks(model: str, layout: Layout):
    check(graph_of(model), layout)


@pytest.mark.slow
@pytest.mark.parametrize("model", [name for name in zoo.network_names() if name not in BUNDLED])
def test_arenas_of_real_networks(model: str, mirror: Path):
    try:
        graph = graph_of(model)
    except UserError as error:
        pytest.skip(str(error))
    check(graph, "channels_first")
