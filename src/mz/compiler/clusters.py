"""Which clusters of a dataflow target work on which layer, so that the busiest of them is done soonest."""

from __future__ import annotations

import math
from collections.abc import Mapping

Sharing = dict[str, tuple[int, ...]]
"""By layer, the numbers of its clusters; several small layers may have the same one."""


def share_clusters(cycles: Mapping[str, int], clusters: int) -> tuple[int, Sharing]:
    """(cycles from one image to the next, clusters by layer) for layers that need `cycles` on one cluster.

    A layer gets clusters in proportion to its cycles and divides its work evenly among them; layers too small for one
    share it, the largest placed first. The shortest interval for which the clusters suffice is searched for. Layers
    without work get none.
    """
    busy = {name: count for name, count in cycles.items() if count > 0}
    low, high = 1, max(1, sum(busy.values()))
    while low < high:
        middle = (low + high) // 2
        if _clusters_for(busy, middle)[0] <= clusters:
            high = middle
        else:
            low = middle + 1
    while _clusters_for(busy, high)[0] > clusters:  # packing is not quite monotonic in the interval
        high += 1
    sharing = _clusters_for(busy, high)[1]
    return busiest(busy, sharing), sharing


def busiest(cycles: Mapping[str, int], sharing: Mapping[str, tuple[int, ...]]) -> int:
    """Cycles of the cluster that works longest."""
    load: dict[int, int] = {}
    for name, numbers in sharing.items():
        for number in numbers:
            load[number] = load.get(number, 0) + math.ceil(cycles[name] / len(numbers))
    return max(load.values(), default=0)


def _clusters_for(cycles: Mapping[str, int], interval: int) -> tuple[int, Sharing]:
    """(clusters needed, who gets which) so that none works longer than `interval`; sharing by first fit decreasing."""
    used = 0
    sharing: Sharing = {}
    room: dict[int, int] = {}
    for name, count in sorted(cycles.items(), key=lambda item: -item[1]):
        if count > interval:
            own = math.ceil(count / interval)
            sharing[name] = tuple(range(used, used + own))
            used += own
            continue
        number = next((number for number, left in room.items() if left >= count), None)
        if number is None:
            number, used = used, used + 1
            room[number] = interval
        room[number] -= count
        sharing[name] = (number,)
    return used, {name: sharing[name] for name in cycles}
