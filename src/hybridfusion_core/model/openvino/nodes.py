"""Steps that several graphs are built of, each written as OpenVINO's CPU plugin runs it fastest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from openvino import opset13 as op

Node = Any  # openvino's nodes and outputs have no common type

Layer = tuple[NDArray[np.float32], NDArray[np.float32]]  # weight and bias

_NORM_LEAST = 1e-5  # is added to variances, as PyTorch's layer normalisation does
_LANES = 16  # float32 values that a CPU's vector holds


def upsampled(x: Node, factor: int) -> Node:
    """Interpolate between the centres of cells, bilinearly: 1 C h w -> 1 C H W."""
    if factor == 1:
        return x
    return op.interpolate(
        x,
        floats([factor, factor]),
        "linear_onnx",
        "scales",
        [0, 0],
        [0, 0],
        "half_pixel",
        axes=integers(2, 3),
    )


def cropped(x: Node, border: int, *axes: int) -> Node:
    """Take so many off both ends of some axes."""
    if not border:
        return x
    ends = [integers(*[value] * len(axes)) for value in (border, -border, 1)]
    return op.slice(x, *ends, integers(*axes))


def convolution(
    x: Node,
    weight: NDArray[Any],
    bias: NDArray[Any] | None = None,
    *,
    stride: tuple[int, int] = (1, 1),
    dilation: int = 1,
    padding: int = 0,
) -> Node:
    """Correlate 1 C H W with O C k l, and add a bias O; 1 O h w."""
    made = op.convolution(x, floats(weight), stride, [padding] * 2, [padding] * 2, [dilation] * 2)
    return made if bias is None else op.add(made, floats(bias.reshape(1, -1, 1, 1)))


def few_channels(
    x: Node, weight: NDArray[Any], size: tuple[int, int], bias: NDArray[Any] | None = None, *, first: int = 0
) -> Node:
    """A convolution with few outputs, without padding: 1 C H W -> 1 h w O.

    Some neighbouring pixels' outputs are made together, as channels: two of sixteen lanes are a waste (measured: half
    of the time).

    Args:
        x: at least as large as `size`, first and the kernel together.
        weight: O C k l.
        size: h w.
        bias: O.
        first: column of `x` at which the kernel of the first output begins.
    """
    outputs, inputs, rows, columns = weight.shape
    together = math.gcd(size[1], max(_LANES // outputs, 1))
    spread = np.zeros((together, outputs, inputs, rows, first + together - 1 + columns), np.float32)
    for pixel, kernel in enumerate(spread):
        kernel[..., first + pixel : first + pixel + columns] = weight
    kernels = spread.reshape(-1, *spread.shape[2:])
    made = convolution(x, kernels, None if bias is None else np.tile(bias, together), stride=(1, together))
    return op.reshape(pixels_first(made), integers(1, *size, outputs), False)


def linear(x: Node, weight: NDArray[Any], bias: NDArray[Any] | None) -> Node:
    """Products with O C along the last axis, and a bias O."""
    made = op.matmul(x, floats(weight), False, True)
    return made if bias is None else op.add(made, floats(bias))


def normal_linear(x: Node, layer: Layer, norm: Layer) -> Node:
    """A linear layer, and the layer normalisation of what it gives; weight and bias of each.

    The mean is taken off the weights instead of the features: what is left is a root mean square, for which OpenVINO
    has one operation that takes a third of the time (measured).
    """
    (weight, bias), (gain, offset) = layer, norm
    centred = linear(x, weight - weight.mean(axis=0), bias - bias.mean())
    return op.add(unit(centred, _NORM_LEAST, gain), floats(offset))


def unit(x: Node, least: float, gain: NDArray[Any] | np.float32) -> Node:
    """Divide by the root mean square of the last axis, written as OpenVINO recognises it; `least` is added below."""
    square = op.reduce_mean(op.power(x, floats(2)), integers(-1), True)
    return op.multiply(op.multiply(x, op.divide(floats(1), op.sqrt(op.add(square, floats(least))))), floats(gain))


def added(nodes: Sequence[Node]) -> Node:
    """Sum of all."""
    total = nodes[0]
    for node in nodes[1:]:
        total = op.add(total, node)
    return total


def cut_or_padded(x: Node, border: int) -> Node:
    """Take so many pixels off all sides of an image; where that is negative, repeat its edges outwards instead."""
    if border >= 0:
        return cropped(x, border, 2, 3)
    around = integers(0, 0, -border, -border)
    return op.pad(x, around, around, "edge")


def channels_first(x: Node) -> Node:
    """1 h w C -> 1 C h w."""
    return op.transpose(x, integers(0, 3, 1, 2))


def pixels_first(x: Node) -> Node:
    """1 C h w -> 1 h w C."""
    return op.transpose(x, integers(0, 2, 3, 1))


def floats(values: Any) -> Node:
    """Constant float32."""
    return op.constant(np.ascontiguousarray(np.asarray(values, np.float32)))


def integers(*values: int) -> Node:
    """Constant whole numbers, such as a shape or an axis."""
    return op.constant(np.array(values, np.int64))
