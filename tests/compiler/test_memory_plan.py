"""Memory plans are run: every layer writes its mark into its bytes, and finds the right marks in what it reads."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.compiler.random_graphs import graphs, with_bits

from mz.compiler.execution_order import Task, Work, lower_peak, peak_bytes
from mz.compiler.memory_plan import MemoryPlan, keeps_order, plan_memory
from mz.graph import (
    Activation,
    Add,
    Concat,
    Conv,
    Dense,
    Graph,
    Input,
    Layer,
    Quantization,
    Reshape,
    Softmax,
)


def run(graph: Graph, plan: MemoryPlan) -> None:
    """Runs the plan on an arena that holds, byte by byte, whose value stands there; reshapes pass the marks on."""
    inside = [layer for layer in graph.layers if not layer.host]
    assert sorted(plan.order) == sorted(layer.name for layer in inside)
    arena = np.full(plan.arena_bytes, "", object)
    marks: dict[str, np.ndarray] = {}

    def place(name: str) -> slice:
        offset = plan.offsets[name]
        assert offset % plan.alignment == 0 and offset + plan.sizes[name] <= plan.arena_bytes
        return slice(offset, offset + plan.sizes[name])

    def put(layer: Layer) -> None:
        values = [f"{layer.name}.{i}" for i in range(plan.sizes[layer.name])]
        if isinstance(layer, Reshape):
            values = list(marks[layer.inputs[0]])
        marks[layer.name] = np.array(values, object)
        arena[place(layer.name)] = marks[layer.name]

    for layer in graph.inputs:
        put(layer)
    for name in plan.order:
        layer = graph[name]
        for source in layer.inputs:
            assert source in marks, f"{name} runs before {source}"
            assert (arena[place(source)] == marks[source]).all(), f"{name} finds {source} overwritten"
        if isinstance(layer, Input):
            continue
        source = plan.shares.get(name)
        for other in layer.inputs:  # bytes may be shared as the plan says, and not otherwise
            shared = max(plan.offsets[name], plan.offsets[other]) < min(
                plan.offsets[name] + plan.sizes[name], plan.offsets[other] + plan.sizes[other]
            )
            if shared:
                assert (
                    source is not None and plan.offsets[other] == plan.offsets[source] == plan.offsets[name]
                )
        put(layer)
    for name in graph.accelerator_outputs():
        assert (arena[place(name)] == marks[name]).all(), f"output {name} is overwritten"


@given(graphs(), st.sampled_from((1, 4, 16)), st.booleans(), st.booleans())
@settings(max_examples=200)
def test_every_layer_finds_what_was_written_for_it(network, alignment: int, in_place: bool, reorder: bool):
    graph, bits = network
    plan = plan_memory(graph, bits, alignment=alignment, in_place=in_place, reorder=reorder)
    run(graph, plan)
    assert plan.lower_bound <= plan.arena_bytes <= plan.greedy_by_size_bytes
    steps = range(len(plan.order))
    live = [
        {plan.offsets[n]: n for n in plan.order if plan.lifetimes[n][0] <= step <= plan.lifetimes[n][1]}
        for step in steps
    ]
    aligned = [sum(-(-plan.sizes[n] // alignment) * alignment for n in names.values()) for names in live]
    # a view shows through all of its block's life, so the bound is at least what the tensors themselves say
    assert max(aligned) <= plan.lower_bound
    assert plan == plan_memory(graph, bits, alignment=alignment, in_place=in_place, reorder=reorder)


@given(graphs(max_layers=6))
def test_the_order_is_the_best_of_all_topological_orders(network):
    graph, bits = network
    plan = plan_memory(graph, bits, alignment=1, in_place=False)
    names = [layer.name for layer in graph.layers]
    first = [layer.name for layer in graph.inputs]
    rest = [name for name in names if name not in first]
    best = min(
        plan_memory(
            Graph("p", tuple(graph[n] for n in (*first, *order)), graph.outputs), bits, alignment=1, in_place=False,
            reorder=False,
        ).lower_bound
        for order in itertools.permutations(rest)
        if _is_topological(graph, (*first, *order))
    )  # fmt: skip
    assert min(plan.lower_bound, plan.graph_order_bound) == best


def _is_topological(graph: Graph, order: tuple[str, ...]) -> bool:
    return all(order.index(source) < order.index(name) for name in order for source in graph[name].inputs)


def layer(cls, name: str, size: int, *inputs: str, **fields) -> Layer:
    return cls(name=name, inputs=inputs, shape=(size,), **fields)


def table(name: str, size: int, source: str) -> Layer:
    return layer(Activation, name, size, source, function="abs")


def planned(
    *layers: Layer, outputs: tuple[str, ...], bits: dict[str, int] | None = None, **options
) -> MemoryPlan:
    names = [one.name for one in layers if not one.host]
    return plan_memory(
        Graph("g", layers, outputs),
        with_bits(dict.fromkeys(names, 8) | (bits or {})),
        **{"alignment": 1} | options,
    )


X = layer(Input, "x", 100)


def test_a_chain_by_hand():
    chain = (X, layer(Dense, "a", 30, "x"), layer(Dense, "b", 200, "a"), layer(Dense, "c", 10, "b"))
    plan = planned(*chain, outputs=("c",))
    assert plan.arena_bytes == plan.lower_bound == 230
    assert plan.lifetimes == {"x": (0, 1), "a": (1, 2), "b": (2, 3), "c": (3, 3)}
    assert planned(*chain, outputs=("c",), alignment=64).lower_bound == 64 + 256


def test_a_long_branch_runs_before_a_wide_one():
    """Graph order holds both wide tensors; one branch after the other holds one."""
    layers = (
        X,
        layer(Dense, "wide1", 500, "x"),
        layer(Dense, "wide2", 500, "x"),
        layer(Dense, "thin1", 10, "wide1"),
        layer(Dense, "thin2", 10, "wide2"),
        layer(Add, "sum", 10, "thin1", "thin2"),
    )
    plan = planned(*layers, outputs=("sum",))
    assert plan.order == ("x", "wide1", "thin1", "wide2", "thin2", "sum")
    assert plan.graph_order_bound == 1100
    assert plan.arena_bytes == plan.lower_bound == 610
    kept = planned(*layers, outputs=("sum",), reorder=False)
    assert kept.order == tuple(one.name for one in layers) and kept.arena_bytes == 1100


def test_element_wise_layers_write_over_dead_operands():
    chain = (X, layer(Dense, "a", 80, "x"), table("b", 80, "a"), layer(Add, "c", 80, "b", "b"))
    plan = planned(*chain, outputs=("c",))
    assert plan.shares == {"b": "a", "c": "b"}
    assert plan.offsets["a"] == plan.offsets["b"] == plan.offsets["c"]
    assert plan.lower_bound == 180
    assert planned(*chain, outputs=("c",), in_place=False).shares == {}


@pytest.mark.parametrize(
    ("outputs", "bits", "why"),
    [
        (("b", "a"), {}, "a leaves the network"),
        (("b",), {"b": 16}, "the elements of b are larger"),
    ],
)
def test_what_is_still_needed_is_not_overwritten(outputs, bits, why):
    assert (
        planned(X, layer(Dense, "a", 80, "x"), table("b", 80, "a"), outputs=outputs, bits=bits).shares == {}
    ), why


def test_a_broadcast_operand_is_not_overwritten():
    row = Input(name="x", inputs=(), shape=(1, 1, 8))
    wide = Conv(name="a", inputs=("x",), shape=(4, 1, 8), kernel_shape=(1, 1))
    graph = (row, wide, Add(name="b", inputs=("x", "a"), shape=(4, 1, 8)))
    assert planned(*graph, outputs=("b",)).shares == {"b": "a"}


def test_views_of_the_same_bytes_in_two_shapes_are_not_overwritten():
    """b reads bytes of one tensor at two places: element i may be overwritten before it is read the second time."""
    x = Input(name="x", inputs=(), shape=(4, 1, 1))
    flat = Reshape(name="v", inputs=("x",), shape=(1, 1, 4))
    both = Add(name="b", inputs=("x", "v"), shape=(4, 1, 4))
    assert planned(x, flat, both, outputs=("b",)).shares == {"v": "x"}
    square = Input(name="x", inputs=(), shape=(1, 2, 2))
    column = Reshape(name="v", inputs=("x",), shape=(4, 1, 1))
    odd = Add(name="b", inputs=("x", "v"), shape=(4, 2, 2))
    assert planned(square, column, odd, outputs=("b",)).shares == {"v": "x"}


def test_a_view_lives_on_in_the_bytes_of_its_input():
    layers = (
        X,
        layer(Dense, "a", 60, "x"),
        layer(Reshape, "v", 60, "a"),
        table("b", 60, "a"),
        table("c", 60, "v"),
    )
    plan = planned(*layers, layer(Concat, "d", 120, "b", "c"), outputs=("d",), reorder=False)
    assert plan.shares == {"v": "a", "c": "v"}  # b may not take a's bytes: v still shows them
    run(Graph("g", (*layers, layer(Concat, "d", 120, "b", "c")), ("d",)), plan)


def test_reshapes_where_channels_come_last():
    assert keeps_order((6, 2, 2), (24,), "channels_first")
    assert not keeps_order((6, 2, 2), (24,), "channels_last")
    assert keeps_order((24, 1, 1), (24,), "channels_last")
    assert keeps_order((6, 2, 2), (6, 1, 4), "channels_last")
    assert not keeps_order((6, 2, 2), (12, 1, 2), "channels_last")


def test_scratch_stands_apart_from_what_lives_then():
    chain = (X, layer(Dense, "a", 30, "x"), layer(Dense, "b", 200, "a"), layer(Dense, "c", 10, "b"))
    plan = planned(*chain, outputs=("c",), scratch={"a": 90})
    assert plan.arena_bytes == plan.lower_bound == 230
    assert planned(*chain, outputs=("c",), scratch={"a": 500}).lower_bound == 630
    begin = plan.scratch_offsets["a"]
    for name in ("x", "a"):
        assert begin + 90 <= plan.offsets[name] or plan.offsets[name] + plan.sizes[name] <= begin


def test_host_layers_are_left_out_and_what_they_read_stays():
    layers = (
        X,
        layer(Dense, "a", 30, "x"),
        layer(Softmax, "s", 30, "a", host=True),
        layer(Dense, "b", 9, "a"),
    )
    plan = planned(*layers, outputs=("s", "b"))
    assert plan.order == ("x", "a", "b") and plan.lifetimes["a"] == (1, 2)


def test_bytes_of_a_value_are_a_parameter():
    chain = (X, layer(Dense, "a", 31, "x"))
    bits = {"x": 4, "a": 16}
    assert planned(*chain, outputs=("a",), bits=bits).sizes == {"x": 100, "a": 62}
    packed = planned(*chain, outputs=("a",), bits=bits, tensor_bytes=lambda values, b: -(-values * b // 8))
    assert packed.sizes == {"x": 50, "a": 62}


def test_a_plan_in_json():
    import json

    plan = planned(X, layer(Dense, "a", 80, "x"), table("b", 80, "a"), outputs=("b",))
    held = json.loads(json.dumps(plan.to_dict()))
    assert held["arena_bytes"] == 180 and held["tensors"][2] == {
        "name": "b", "offset": plan.offsets["a"], "bytes": 80, "first_step": 2, "last_step": 2, "shares": "a",
    }  # fmt: skip


@given(st.data())
@settings(max_examples=30)
def test_a_hurried_search_is_never_worse_than_the_order_given(data):
    count = data.draw(st.integers(2, 14))
    tasks = [Task((), (), 0)]
    for index in range(1, count):
        sources = data.draw(st.lists(st.integers(0, index - 1), min_size=1, max_size=3, unique=True))
        tasks.append(Task(tuple(sources), tuple(sources), index))
    sizes = tuple(data.draw(st.lists(st.integers(1, 99), min_size=count, max_size=count)))
    work = Work(tuple(tasks), sizes, frozenset({count - 1}), inputs=1)
    given_peak = peak_bytes(work, range(count))
    for moves in (1, 60, 100_000):
        order = lower_peak(work, moves)
        assert sorted(order) == list(range(count))
        assert all(order.index(s) < order.index(t) for t, task in enumerate(tasks) for s in task.after)
        assert peak_bytes(work, order) <= given_peak


def test_bits_are_all_that_is_read_of_the_quantization():
    assert Quantization().weights == with_bits({"x": 8}).weights == {}


def test_a_wide_network_is_planned_in_bounded_time(monkeypatch: pytest.MonkeyPatch):
    """Forty branches of three layers in the worst order: breadth first holds all of them, depth first one."""
    from mz.compiler import execution_order

    tried = 0
    run_one = execution_order._Memory.run

    def counted(*args):
        nonlocal tried
        tried += 1
        return run_one(*args)

    monkeypatch.setattr(execution_order._Memory, "run", counted)
    levels = [[layer(Dense, f"b{b}_0", 1000 + b, "x") for b in range(40)]]
    levels.append([layer(Dense, f"b{b}_1", 1000 - b, f"b{b}_0") for b in range(40)])
    levels.append([layer(Dense, f"b{b}_2", 3 + b % 5, f"b{b}_1") for b in range(40)])
    ends = layer(Concat, "c", sum(one.shape[0] for one in levels[-1]), *(one.name for one in levels[-1]))
    plan = planned(X, *levels[0], *levels[1], *levels[2], ends, outputs=("c",))
    assert tried < 2 * execution_order.MOVES
    assert plan.graph_order_bound > 40_000 and plan.arena_bytes < 2_500
    assert plan.arena_bytes <= 1.05 * plan.lower_bound
