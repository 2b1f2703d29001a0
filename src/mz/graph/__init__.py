"""The network as mz sees it: layers, the graph over them, and what quantization adds.

Structure (`Graph`), arrays (`Params`) and integers (`Quantization`) are three separate things, passed side by side.
Nothing here imports any other part of mz but `mz.errors`.
"""

from __future__ import annotations

from mz.graph.graph import Coverage, Graph, Params, Shape
from mz.graph.layers import (
    LAYER_KINDS,
    Activation,
    Add,
    AvgPool,
    Concat,
    Conv,
    Deconv,
    Dense,
    Elementwise,
    GlobalAvgPool,
    HostOp,
    Input,
    Layer,
    MatMul,
    MaxPool,
    Mul,
    Pad,
    Reshape,
    Resize,
    Slice,
    Softmax,
    Sub,
    Transpose,
    Weighted,
)
from mz.graph.pixels import Pixels
from mz.graph.quantization import Precision, Quantization, TensorQuant, WeightQuant

__all__ = [
    "LAYER_KINDS",
    "Activation",
    "Add",
    "AvgPool",
    "Concat",
    "Conv",
    "Coverage",
    "Deconv",
    "Dense",
    "Elementwise",
    "GlobalAvgPool",
    "Graph",
    "HostOp",
    "Input",
    "Layer",
    "MatMul",
    "MaxPool",
    "Mul",
    "Pad",
    "Params",
    "Pixels",
    "Precision",
    "Quantization",
    "Reshape",
    "Resize",
    "Shape",
    "Slice",
    "Softmax",
    "Sub",
    "TensorQuant",
    "Transpose",
    "WeightQuant",
    "Weighted",
]
