"""The coarse level's own stages as OpenVINO graphs: what cells show, and tokens that mix with those around them.

They say again what `coarse` says. What a cell's pixels give is made together, as channels of one convolution with a
stride of a cell: planes of one channel are the slowest thing that there is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from openvino import Model as Graph
from openvino import opset13 as op

from hybridfusion_core.model.config import LAPLACIAN_NOISE_ENERGY
from hybridfusion_core.model.focus_measures import WHITE_NOISE_ENERGY
from hybridfusion_core.model.openvino.nodes import (
    Node,
    channels_first,
    convolution,
    cropped,
    floats,
    integers,
    linear,
    pixels_first,
    upsampled,
)
from hybridfusion_core.model.parameters import Parameters

if TYPE_CHECKING:
    from hybridfusion_core.model.openvino.graphs import Frame

_SMOOTH, _SLOPE = np.array([0.25, 0.5, 0.25]), np.array([-0.5, 0.0, 0.5])
_SOBEL = np.stack([np.outer(_SLOPE, _SMOOTH), np.outer(_SMOOTH, _SLOPE)])  # 2 3 3
_LAPLACIAN = np.array([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])


def cell_weights(weights: Parameters) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """What cells tell tokens: of a slice's own features, of their mean over Z and of their maximum; D F p p each."""
    own, less_mean, less_maximum = np.split(weights["coarse.embed_cells.weight"], 3, axis=1)
    return own + less_mean + less_maximum, -less_mean, -less_maximum


def cell_graph(weights: Parameters, frame: Frame) -> Graph:
    """What cells of one slice show: guide 1 1 H W, one over its noise 1 1 1 1 -> inner part 1 F h w.

    Around the inner part one cell of the guide binned twice is read.
    """
    side = weights.config.coarse_bin
    guide = op.parameter([1, 1, frame.height, frame.width], np.float32)
    scale = op.parameter([1, 1, 1, 1], np.float32)
    around = 2 * side
    x = op.multiply(cropped(guide, frame.halo - frame.inner - around, 2, 3), scale)
    binned = convolution(x, np.full((1, 1, side, side), 1 / side**2), stride=(side, side))  # two cells around
    middle = cropped(binned, 2, 2, 3)
    length = op.abs(middle)
    asinh = op.log(op.add(length, op.sqrt(op.add(op.multiply(length, length), floats(1)))))
    once = op.multiply(cropped(_gradient_energy(binned), 1, 2, 3), floats(side**2 / WHITE_NOISE_ENERGY))
    again = convolution(binned, np.full((1, 1, 2, 2), 0.25), stride=(2, 2))
    twice = op.multiply(_repeated(_gradient_energy(again)), floats(4 * side**2 / WHITE_NOISE_ENERGY))
    measured = [*_of_pixels(cropped(x, around - 1, 2, 3), side), once, twice]
    levels = op.log(op.add(op.concat(measured, 1), floats(1)))
    cells = op.multiply(op.concat([op.multiply(op.sign(middle), asinh), levels], 1), floats(0.5))
    return Graph([cells], [guide, scale], "cells")


def _of_pixels(x: Node, side: int) -> list[Node]:
    """Mean gradient energy, mean squared Laplacian and greatest gradient energy of cells, over the noise's.

    1 1 H+2 W+2 -> 1 2 h w and 1 1 h w.
    """
    pixels = side**2
    kernels = np.zeros((3, pixels, 1, side + 2, side + 2))  # along Y, along X, Laplacian
    for pixel in range(pixels):
        row, column = divmod(pixel, side)
        for kind, kernel in enumerate((*_SOBEL, _LAPLACIAN)):
            kernels[kind, pixel, 0, row : row + 3, column : column + 3] = kernel
    made = convolution(x, kernels.reshape(3 * pixels, 1, side + 2, side + 2), stride=(side, side))
    # Of the squares, each pixel's gradient energy; then both means.
    weights = np.zeros((pixels + 2, 3, pixels, 1, 1))
    for pixel in range(pixels):
        weights[pixel, :2, pixel] = 1 / WHITE_NOISE_ENERGY
    weights[pixels, :2] = 1 / (pixels * WHITE_NOISE_ENERGY)
    weights[pixels + 1, 2] = 1 / (pixels * LAPLACIAN_NOISE_ENERGY)
    energies = convolution(op.multiply(made, made), weights.reshape(pixels + 2, 3 * pixels, 1, 1))
    parts = op.variadic_split(energies, op.constant(np.int64(1)), integers(pixels, 2))
    return [parts.output(1), op.reduce_max(parts.output(0), integers(1), True)]


def mixer_graph(weights: Parameters, block: int, frame: Frame) -> Graph:
    """Tokens of one slice and what those around them say, of the inner part: 1 h w D -> 1 h w D."""
    dim, side = weights.config.dim, weights.config.token_side
    height, width = (size // side for size in frame.size(frame.inner))
    x = op.parameter([1, height, width, dim], np.float32)
    mixer = f"coarse.mixers.{block}"
    weight = weights[f"{mixer}.weight"][:, None].copy()  # D 1 1 3 3
    weight[:, 0, 0, 1, 1] += 1  # the token itself
    made = op.group_convolution(channels_first(x), floats(weight), [1, 1], [1, 1], [1, 1], [1, 1])
    return Graph([pixels_first(op.add(made, floats(weights[f"{mixer}.bias"].reshape(1, -1, 1, 1))))], [x], "mixer")


def judge_graph(weights: Parameters, frame: Frame) -> Graph:
    """Whether anything is in focus: mean and maximum over Z of tokens, of the core with its rim -> logits of the core.

    Input: 1 h w 2D. Output: 1 1 h w.
    """
    config, (height, width) = weights.config, frame.size(frame.rim)
    side = config.token_side
    x = op.parameter([1, height // side, width // side, 2 * config.dim], np.float32)
    hidden = op.relu(linear(x, weights["coarse.judge.0.weight"], weights["coarse.judge.0.bias"]))
    logits = linear(hidden, weights["coarse.judge.2.weight"], weights["coarse.judge.2.bias"])
    return Graph([cropped(upsampled(channels_first(logits), side), frame.rim, 2, 3)], [x], "judge")


def _gradient_energy(x: Node) -> Node:
    """Squared Sobel gradient without padding: 1 1 H W -> 1 1 H-2 W-2."""
    gradients = convolution(x, _SOBEL[:, None])
    return op.reduce_sum(op.multiply(gradients, gradients), integers(1), True)


def _repeated(x: Node) -> Node:
    """Every value twice along both axes: 1 1 h w -> 1 1 2h 2w."""
    _, _, height, width = (int(size) for size in x.get_output_shape(0))
    x = op.reshape(x, integers(1, height, 1, width, 1), False)
    x = op.broadcast(x, integers(1, height, 2, width, 2))
    return op.reshape(x, integers(1, 1, 2 * height, 2 * width), False)
