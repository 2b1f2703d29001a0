"""The folder of a network in C: its calls, its constants, the kernels, an example, and what builds them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources

import numpy as np

from mz.compiler.emitters.c99.layout import MAX_RANK, storage_order
from mz.compiler.emitters.c99.lowering import lower
from mz.compiler.emitters.c99.part import Context, Part
from mz.compiler.emitters.c99.text import array, c_name, floating, unique_c_names
from mz.compiler.memory_plan import MemoryPlan, plan_memory
from mz.errors import UserError
from mz.graph import Graph, Params, Pixels, Quantization


def emit(
    name: str,
    graph: Graph,
    params: Params,
    quantization: Quantization,
    metadata: Mapping[str, str] | None = None,
    pixels: Pixels | None = None,
) -> dict[str, bytes]:
    """Files by name, those of the network begin with `name`. The same graph gives the same bytes.

    metadata: where it all comes from, for the reader of README.txt. pixels: what `mz_quantize` makes of images first,
    where the network takes pixels. Raises UserError, naming the layer, for what this target cannot hold.
    """
    prefix = c_name(name)
    parts = _lowered(prefix, graph, params, quantization)
    plan = _planned(graph, quantization, parts)
    words = {
        "NAME": name,
        "PREFIX": prefix,
        "UPPER": prefix.upper(),
        "ARENA_BYTES": str(plan.arena_bytes),
        "TENSORS": _tensor_comment(graph, quantization, pixels),
        "KERNELS": " ".join(file for file in _files("kernels") if file.endswith(".c")),
        "METADATA": "\n".join(f"    {key} {value}" for key, value in (metadata or {}).items()),
    }
    files = {
        f"{name}.h": _filled("model.h.txt", words),
        f"{name}.c": _program(graph, quantization, parts, plan, words, pixels),
        f"{name}_constants.h": _declarations(parts, words),
        f"{name}_constants.c": _definitions(parts, words),
        "main.c": _filled("main.c.txt", words),
        "CMakeLists.txt": _filled("CMakeLists.txt", words),
        "Makefile": _filled("Makefile.txt", words),
        "README.txt": _filled("README.txt", words),
    }
    kernels = {file: _read("kernels", file) for file in _files("kernels")}
    return {file: text.encode() for file, text in (files | kernels).items()}


def arena_plan(graph: Graph, params: Params, quantization: Quantization) -> MemoryPlan:
    """How the C code lays out its arena, what layers need while they run included. Raises UserError as `emit` does."""
    return _planned(graph, quantization, _lowered("", graph, params, quantization))


def _lowered(prefix: str, graph: Graph, params: Params, quantization: Quantization) -> dict[str, Part]:
    inside = [layer for layer in graph.layers if not layer.host]
    for layer in inside:
        if len(layer.shape) > MAX_RANK:
            raise UserError(
                f"layer {layer.name}: {len(layer.shape)} axes, and the C target takes at most {MAX_RANK}"
            )
    names = unique_c_names(layer.name for layer in inside)
    return {
        layer.name: lower(Context(graph, quantization, layer, names[layer.name], prefix), params)
        for layer in inside
        if layer.inputs
    }


def _planned(graph: Graph, quantization: Quantization, parts: Mapping[str, Part]) -> MemoryPlan:
    scratch = {layer: part.scratch for layer, part in parts.items() if part.scratch}
    return plan_memory(graph, quantization, layout="channels_last", scratch=scratch)


def _program(
    graph: Graph,
    quantization: Quantization,
    parts: dict[str, Part],
    plan: MemoryPlan,
    words: dict[str, str],
    pixels: Pixels | None,
) -> str:
    prefix = words["PREFIX"]
    running = [parts[name] for name in plan.order if name in parts and not _stays(parts[name], plan)]
    structs = "\n".join(text for part in running for text in part.structs)
    calls = [line for part in running for line in _calls(part, plan)]
    normalization = ("mean", "std") if pixels else ("0", "0")
    inputs = [_tensor(graph, quantization, plan, layer.name, *normalization) for layer in graph.inputs]
    outputs = [_tensor(graph, quantization, plan, name) for name in graph.accelerator_outputs()]
    return _filled("model.c.txt", words) + "\n".join(
        [
            structs,
            "static void run(void *arena)",
            "{",
            "    uint8_t *const at = (uint8_t *)arena;",
            *(f"    {call}" for call in calls or ["(void)at;"]),
            "}",
            "",
            _normalization(pixels),
            "static const mz_tensor inputs[] = {\n" + "\n".join(inputs) + "\n};\n",
            "static const mz_tensor outputs[] = {\n" + "\n".join(outputs) + "\n};\n",
            f"const mz_model {prefix}_model = {{",
            f'    "{words["NAME"]}", {plan.arena_bytes}, {len(inputs)}, inputs, {len(outputs)}, outputs, run,',
            "};",
            "",
        ]
    )


def _stays(part: Part, plan: MemoryPlan) -> bool:
    """Whether the layer would copy its input to where that lies already."""
    layer = part.context.layer
    return part.copies and plan.offsets[layer.inputs[0]] == plan.offsets[layer.name]


def _calls(part: Part, plan: MemoryPlan) -> list[str]:
    """The layer's statements with addresses in place."""
    layer = part.context.layer
    offsets = [plan.offsets[name] for name in layer.inputs]
    places = {f"x{index}": f"at + {offset}" for index, offset in enumerate(offsets)}
    places["y"] = f"at + {plan.offsets[layer.name]}"
    places["s"] = f"at + {plan.scratch_offsets[layer.name]}" if part.scratch else "at"
    return [call.format(**places) for call in part.calls]


def _normalization(pixels: Pixels | None) -> str:
    """The arrays that the input's tensor points to."""
    if pixels is None:
        return ""
    values = {"mean": pixels.mean, "std": pixels.std}
    return "\n".join("static " + array(name, np.asarray(own, np.float32)) for name, own in values.items())


def _tensor(
    graph: Graph,
    quantization: Quantization,
    plan: MemoryPlan,
    name: str,
    mean: str = "0",
    std: str = "0",
) -> str:
    tensor, shape = quantization.tensors[name], graph[name].shape
    sizes = ", ".join(map(str, shape)) or "0"
    return (
        f'    {{"{name}", {plan.offsets[name]}, {tensor.bits}, {tensor.zero_point}, {floating(tensor.scale)}, '
        f"{len(shape)}, {{{sizes}}}, {mean}, {std}}},"
    )


def _tensor_comment(graph: Graph, quantization: Quantization, pixels: Pixels | None) -> str:
    """The inputs and outputs for the reader of the header."""
    lines = []
    groups = (
        ("input", [layer.name for layer in graph.inputs]),
        ("output", list(graph.accelerator_outputs())),
    )
    for kind, names in groups:
        for name in names:
            tensor, shape = quantization.tensors[name], graph[name].shape
            stored = "".join(f"[{shape[axis]}]" for axis in storage_order(shape))
            meaning = f"real value {tensor.scale:.9g} * (q - {tensor.zero_point})"
            if pixels and kind == "input":
                meaning += ", a pixel; mz_quantize takes normalized images"
            lines.append(f" *   {kind:6} {name}: {tensor.bits} bits, in memory {stored}, {meaning}")
    return "\n".join(lines)


def _declarations(parts: dict[str, Part], words: dict[str, str]) -> str:
    upper = words["UPPER"]
    body = "".join(part.declarations() for part in parts.values())
    return (
        f"/* Weights, biases, multipliers and tables of {words['NAME']}. */\n#ifndef {upper}_CONSTANTS_H\n"
        f"#define {upper}_CONSTANTS_H\n\n#include <stdint.h>\n\n{body}\n#endif\n"
    )


def _definitions(parts: dict[str, Part], words: dict[str, str]) -> str:
    body = "\n".join(part.definitions() for part in parts.values() if part.arrays)
    return _filled("constants.c.txt", words) + body


def _files(folder: str) -> list[str]:
    """The plain files of one of this package's folders, by name."""
    return sorted(
        entry.name for entry in resources.files(__package__).joinpath(folder).iterdir() if entry.is_file()
    )


def _read(folder: str, name: str) -> str:
    return resources.files(__package__).joinpath(folder, name).read_text(encoding="utf-8")


def _filled(template: str, words: dict[str, str]) -> str:
    text = _read("project", template)
    for key, value in words.items():
        text = text.replace(f"@{key}@", value)
    return text
