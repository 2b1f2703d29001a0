"""An order of execution that needs little memory: a search over the topological orders, bounded in time.

After a set of tasks the same bytes live, whatever order they ran in, so the search goes over such sets (dynamic
programming), one more task at a time, and keeps a limited number of the best (a beam; where nothing is dropped, the
peak is the smallest there is). A task that raises neither the peak nor what lives after it is run at once, and nothing
else in its place: to wait can gain nothing.

Sources: Ahn et al., "Ordering Chaos: Memory-Aware Scheduling of Irregularly Wired Neural Networks for Edge Devices"
(MLSys 2020), section 3; Liberis and Lane, "Neural networks on microcontrollers: saving memory at inference via
operator reordering" (2019).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

MOVES = 100_000
"""Steps that the search tries at most, shared out evenly among the tasks: what bounds its time."""


@dataclass(frozen=True, slots=True)
class Task:
    """One step of a computation over numbered tensors.

    after: tasks that must have run. reads: the tensors it reads. writes: the tensor it makes; one that it also reads
    means a view of it, which costs nothing. over: those of `reads`, of the size of `writes`, into whose bytes it may
    write if nobody needs them afterwards. scratch: bytes that it needs beside them while it runs.
    """

    after: tuple[int, ...]
    reads: tuple[int, ...]
    writes: int
    over: tuple[int, ...] = ()
    scratch: int = 0


@dataclass(frozen=True, slots=True)
class Work:
    """Tasks in a topological order. sizes: bytes of each tensor. kept: those that live to the end.

    The first `inputs` tasks make the tensors that come from outside: all live from the beginning.
    """

    tasks: tuple[Task, ...]
    sizes: tuple[int, ...]
    kept: frozenset[int]
    inputs: int


def peak_bytes(work: Work, order: Sequence[int]) -> int:
    """The most bytes that live at once when the tasks run in this order."""
    memory = _Memory(work)
    done, live, peak = memory.start()
    for task in order[work.inputs :]:
        during, after = memory.run(task, done, live)
        done, live, peak = done | 1 << task, after, max(peak, during)
    return peak


def lower_peak(work: Work, moves: int = MOVES) -> tuple[int, ...]:
    """An order whose peak is no higher than that of the tasks as they stand, which stays where none lower is found."""
    memory = _Memory(work)
    given = tuple(range(len(work.tasks)))
    highest = peak_bytes(work, given)
    done, live, peak = memory.start()
    if highest <= max([peak, *(memory.at_least(index) for index in given[work.inputs :])]):
        return given
    states = {done: _State(live, peak, memory.ready(done), None)}
    for _ in given[work.inputs :]:
        following: dict[int, _State] = {}
        for done, state in states.items():
            for task, during, after in _choices(memory, done, state):
                peak = max(state.peak, during)
                if peak >= highest:
                    continue
                reached = done | 1 << task
                known = following.get(reached)
                if known is None or peak < known.peak:
                    ready = (state.ready & ~(1 << task)) | memory.freed_by(task, reached)
                    following[reached] = _State(after, peak, ready, (task, state))
        states = dict(_best(following, moves // len(given)))
        if not states:
            return given
    (last,) = states.values()
    return (*given[: work.inputs], *reversed(list(last.path())))


@dataclass(frozen=True, slots=True)
class _State:
    """After a set of tasks: what lives, the lowest peak on the way, who may run next (a mask), the last step."""

    live: int
    peak: int
    ready: int
    came: tuple[int, _State] | None

    def path(self) -> Iterator[int]:
        """The tasks run so far, the last one first."""
        state = self
        while state.came is not None:
            task, state = state.came
            yield task


def _best(states: dict[int, _State], moves: int) -> Iterator[tuple[int, _State]]:
    """The states with the lowest peaks, as many as `moves` steps lead on from, and one at least."""
    for done, state in sorted(states.items(), key=lambda item: (item[1].peak, item[1].live, item[0])):
        yield done, state
        moves -= state.ready.bit_count()
        if moves <= 0:
            return


def _choices(memory: _Memory, done: int, state: _State) -> list[tuple[int, int, int]]:
    """(task, bytes while it runs, bytes after it) for every task worth running next."""
    found = []
    for task in _bits(state.ready):
        during, after = memory.run(task, done, state.live)
        if during <= state.peak and after <= state.live:
            return [(task, during, after)]
        found.append((task, during, after))
    return found


class _Memory:
    """The bytes that live after a set of tasks, given as a bit mask, and while one more of them runs."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.readers = [0] * len(work.sizes)
        self.needs = [0] * len(work.tasks)
        self.followers: list[list[int]] = [[] for _ in work.tasks]
        for index, task in enumerate(work.tasks):
            for tensor in task.reads:
                self.readers[tensor] |= 1 << index
            for earlier in task.after:
                self.needs[index] |= 1 << earlier
                self.followers[earlier].append(index)

    def start(self) -> tuple[int, int, int]:
        """(tasks done, bytes that live, peak) with the inputs in place."""
        live = sum(self.work.sizes[task.writes] for task in self.work.tasks[: self.work.inputs])
        return (1 << self.work.inputs) - 1, live, live

    def run(self, index: int, done: int, live: int) -> tuple[int, int]:
        """Bytes that live while this task runs, and after it."""
        task, sizes = self.work.tasks[index], self.work.sizes
        new = 0 if task.writes in task.reads else sizes[task.writes]
        ends = [tensor for tensor in {*task.reads, task.writes} if self.is_dead(tensor, done | 1 << index)]
        over = any(tensor in ends for tensor in task.over)
        after = live + new - sum(sizes[tensor] for tensor in ends)
        return live + (0 if over else new) + task.scratch, after

    def is_dead(self, tensor: int, done: int) -> bool:
        return not self.readers[tensor] & ~done and tensor not in self.work.kept

    def at_least(self, index: int) -> int:
        """Bytes that live while this task runs, whatever the order."""
        task, sizes = self.work.tasks[index], self.work.sizes
        held = {*task.reads, task.writes}
        return sum(sizes[tensor] for tensor in held) - (sizes[task.writes] if task.over else 0) + task.scratch

    def ready(self, done: int) -> int:
        return sum(
            1 << index
            for index, needs in enumerate(self.needs)
            if not done >> index & 1 and not needs & ~done
        )

    def freed_by(self, task: int, done: int) -> int:
        """Tasks that may run now that `task` has, as a mask."""
        mask = 0
        for follower in self.followers[task]:
            if not self.needs[follower] & ~done:
                mask |= 1 << follower
        return mask


def _bits(mask: int) -> Iterator[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low
