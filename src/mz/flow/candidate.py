"""The network in question beside the float one: the integers of an archive, or what float passes made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mz.archive import Archive
from mz.emulator import NumpySession, Saturation
from mz.engines.compare import Comparison
from mz.engines.float_ort import FloatSession, HostSession
from mz.engines.integer_ort import IntegerOrtSession
from mz.errors import UserError
from mz.flow.compiled import compiled_c_session
from mz.flow.options import EvalOptions
from mz.graph import Graph, Params, Quantization


class IntegerSession(Protocol):
    """A quantized graph, ready to run: real inputs by Input layer -> integers of the accelerator's outputs."""

    name: str
    notes: tuple[str, ...]

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]: ...


@dataclass(frozen=True)
class Optimized:
    """The float network after its passes, run in place of an integer one."""

    graph: Graph
    session: FloatSession
    precision: str = "float32"
    counter: None = None

    def restore(self, outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(outputs)

    def check(self, feeds: Mapping[str, np.ndarray]) -> None:
        """Nothing is promised of a lossy pass but what it reports."""


@dataclass(frozen=True)
class Quantized:
    """The integer network of an archive with its host part, and the emulator that judges it.

    counter: the emulator that counts clipped integers beside another engine.
    """

    graph: Graph
    params: Params
    quantization: Quantization
    session: IntegerSession
    host: HostSession
    counter: NumpySession | None = None

    @property
    def precision(self) -> str:
        return _precision(self.quantization)

    def restore(self, integers: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The engine's integers -> real network outputs."""
        wanted = self.graph.accelerator_outputs()
        return self.host.run(
            {name: self.quantization.tensors[name].dequantize(integers[name]) for name in wanted}
        )

    def check(self, feeds: Mapping[str, np.ndarray]) -> None:
        """Raises UserError unless the engine's integers are the numpy emulator's."""
        if isinstance(self.session, NumpySession):
            return
        comparison = Comparison()
        judge = NumpySession(self.graph, self.params, self.quantization)
        comparison.update(judge.run(feeds), self.session.run(feeds))
        if comparison.differing:
            raise UserError(
                f"{self.graph.name}: {comparison.differing} of {comparison.integers} output integers from the "
                f"{self.session.name} engine differ from the numpy emulator's on this processor: use --target emulator "
                f"--engine numpy, and find the layer by mz diff --engines numpy,{self.session.name}"
            )


def in_question(
    archive: Archive, options: EvalOptions, taps: Sequence[str], saturation: Saturation | None
) -> Quantized | Optimized | None:
    """What `options.target` asks for beside the float network, None for that one alone.

    taps: layers whose tensors are wanted as well. Raises UserError where the archive holds no such network.
    """
    if options.target == "full_precision":
        return None
    return (
        _optimized(archive)
        if options.target == "fp_optimized"
        else _quantized(archive, options, taps, saturation)
    )


def _optimized(archive: Archive) -> Optimized:
    if archive.fpo_graph is None:
        raise UserError(
            f"{archive.name}: no full-precision pass changed it (state {archive.state}): use --target full_precision"
        )
    graph, params = archive.working_graph, archive.working_params
    return Optimized(graph, FloatSession(graph, params))


def _quantized(
    archive: Archive, options: EvalOptions, taps: Sequence[str], saturation: Saturation | None
) -> Quantized:
    if archive.quantization is None:
        raise UserError(
            f"{archive.name}: no integers yet (state {archive.state}): run `mz optimize` and give its archive by --har"
        )
    graph, params, quantization = archive.working_graph, archive.working_params, archive.quantization
    host = HostSession(graph, params)
    if options.engine == "numpy":
        judge = NumpySession(graph, params, quantization, taps, saturation=saturation)
        return Quantized(graph, params, quantization, judge, host)
    session: IntegerSession
    if options.target == "native":
        session = compiled_c_session(archive)
    else:
        session = IntegerOrtSession(graph, params, quantization, taps)
    counter = NumpySession(graph, params, quantization, saturation=saturation) if saturation else None
    return Quantized(graph, params, quantization, session, host, counter)


def _precision(quantization: Quantization) -> str:
    """`a8_w8`; where layers differ, the most common precision and a plus sign."""
    found = [str(quantization.layer_precision(name)) for name in quantization.weights]
    common = max(sorted(set(found)), key=found.count) if found else "a8"
    return common + ("+" if len(set(found)) > 1 else "")
