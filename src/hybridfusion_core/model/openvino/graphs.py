"""HybridFusionNet's stages as OpenVINO graphs, built node by node from a network's weights.

They say again what `network` and `swin` say, in the order of operations that suits a CPU: pixels with their features
side by side (H W C), windows of tokens in batches of one size, every size fixed. `torch.export` would say it once, but
takes 20 s in every process, and what it keeps open (sizes) costs half the speed (docs/decisions/015). That both say the
same is a test. What runs the graphs is `openvino_runtime`'s business.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from openvino import Model as Graph
from openvino import opset13 as op
from torch import Tensor, nn

from hybridfusion_core.model.coarse import CELL_FEATURES, LAPLACIAN_NOISE_ENERGY
from hybridfusion_core.model.focus_measures import WHITE_NOISE_ENERGY, blur_band, gaussian_kernel, kernel_radius
from hybridfusion_core.model.network import HybridFusionNet, NetworkConfig, token_reach
from hybridfusion_core.model.swin import GREATEST_SCALE, LEAST_SQUARE, SwinBlock, position_bias

Node = Any  # openvino's nodes and outputs have no common type


_LANES = 16  # float32 values that a CPU's vector holds
_BAND = 64  # places that one product of a blur makes; narrower spends more on overlaps' copies, wider on zeros


@dataclass(frozen=True)
class Frame:
    """A tile's window and the parts of it that a stage has to know; all in pixels.

    The core is what is wanted. Around it the head reads `rim`, tokens `inner`, convolutions and energies `outer`, which
    may read on into the whole window.

    Attributes:
        height: of the window.
        width: of the window.
        halo: of the window around its core; at least the network's.
        outer: distance from the core that convolutions reach, tokens included.
        inner: distance from the core that tokens reach.
        rim: distance from the core that the head reads: one token.
    """

    height: int
    width: int
    halo: int
    outer: int
    inner: int
    rim: int

    @classmethod
    def of(cls, config: NetworkConfig, height: int, width: int, halo: int) -> Frame:
        """Frame of a window for a network."""
        inner, side = token_reach(config), config.token_side
        return cls(height, width, halo, inner + -(-sum(config.dilations) // side) * side, inner, side)

    def size(self, beyond: int) -> tuple[int, int]:
        """Height and width of the core and so many pixels around it."""
        less = 2 * (self.halo - beyond)
        return self.height - less, self.width - less


def energy_graph(network: HybridFusionNet, frame: Frame) -> Graph:
    """Gradient energy of one slice in the network's focus windows: guide 1 1 H W -> outer part 1 K h w.

    A blur is a product with a band of weights; in float32 products are the fastest thing that there is, and short rows
    of few channels the slowest.
    """
    guide = op.parameter([1, 1, frame.height, frame.width], np.float32)
    smooth, slope = np.array([0.25, 0.5, 0.25]), np.array([-0.5, 0.0, 0.5])
    around, shape = _cut_or_padded(guide, -1), (frame.height, frame.width)
    gradients = [
        _few_channels(around, kernel[None, None], shape)
        for kernel in (np.outer(slope, smooth), np.outer(smooth, slope))
    ]
    energy = _channels_first(_sum([op.multiply(each, each) for each in gradients]))
    height, width = frame.size(frame.outer)
    blurred = []
    for sigma in network.config.focus_windows:
        # The widest windows reach beyond a narrow halo, but only around tokens, which are not told of them.
        spare = frame.halo - frame.outer - kernel_radius(sigma)
        plane = op.reshape(_cut_or_padded(energy, spare), _integers(height + 2 * kernel_radius(sigma), -1), False)
        along_y = op.concat([op.matmul(band, part, False, False) for band, part in _bands(plane, 0, height, sigma)], 0)
        blur = op.concat([op.matmul(part, band, False, True) for band, part in _bands(along_y, 1, width, sigma)], 1)
        blurred.append(op.reshape(blur, _integers(1, 1, height, width), False))
    return Graph([op.concat(blurred, 1)], [guide], "energies")


def _bands(plane: Node, axis: int, size: int, sigma: float) -> list[tuple[Node, Node]]:
    """Weights of a Gaussian, n n+2r, and the part of a plane that they make n places along an axis of; in order."""
    kernel = gaussian_kernel(sigma)
    pairs = []
    for start in range(0, size, _BAND):
        band = _values(blur_band(kernel, min(_BAND, size - start)))
        limits = (_integers(start), _integers(start + band.shape[1]), _integers(1), _integers(axis))
        pairs.append((_floats(band), op.slice(plane, *limits)))
    return pairs


def feature_graph(network: HybridFusionNet, frame: Frame) -> Graph:
    """The convolutions' features of one slice, in the outer part, near whose border they are wrong.

    Inputs: guide 1 1 H W, the noise's bias 1 C 1 1. Output: 1 h w C.
    """
    config = network.config
    guide = op.parameter([1, 1, frame.height, frame.width], np.float32)
    bias = op.parameter([1, config.channels, 1, 1], np.float32)
    (first, *layers), (reach, *dilations) = network.convolutions, config.dilations
    x = _cut_or_padded(guide, frame.halo - frame.outer - reach)
    kernel = np.zeros((config.channels, 1, 2 * reach + 1, 2 * reach + 1), np.float32)
    kernel[..., ::reach, ::reach] = _values(first.weight)
    made = _few_channels(x, kernel, frame.size(frame.outer), _values(first.bias))
    x = _channels_first(op.relu(op.add(made, op.reshape(bias, _integers(1, 1, 1, -1), False))))
    for layer, dilation in zip(layers, dilations, strict=True):
        made = _convolution(x, _values(layer.weight), _values(layer.bias), dilation=dilation, padding=dilation)
        x = op.add(x, op.relu(made))
    return Graph([_pixels_first(x)], [guide, bias], "features")


def token_graph(network: HybridFusionNet, frame: Frame) -> Graph:
    """Tokens of one slice.

    A graph of its own, whose bias is an input: with features as a second result, or right after a convolution, OpenVINO
    moves every value twice to bring features side by side (measured: half of the stage's time).

    Inputs: guide 1 1 H W; of the outer part features 1 h w C and relative energies 1 K h w (none if K is 0); the bias
    1 D 1 1. Output: tokens of the outer part, 1 h w D. On the coarse level two more, of the inner part: features of cells
    1 F h w, and instead of the bias what all slices share 1 D h w; and of it the output.
    """
    config, (height, width) = network.config, frame.size(frame.outer)
    guide = op.parameter([1, 1, frame.height, frame.width], np.float32)
    features = op.parameter([1, height, width, config.channels], np.float32)
    told, inputs = [_channels_first(features), _cropped(guide, frame.halo - frame.outer, 2, 3)], [guide, features]
    if config.focus_windows:
        inputs.append(op.parameter([1, len(config.focus_windows), height, width], np.float32))
        told.append(inputs[-1])
    near = len(config.near_windows)
    assert config.near_windows == config.focus_windows[:near]  # noqa: S101 - as forward takes them
    embed = _values((network.coarse if config.coarse_depth else network).embed.weight)  # D C+1+K' p p
    parts = np.split(embed, np.cumsum([config.channels, 1])[: len(told) - 1], axis=1)
    if config.focus_windows:  # those that only the head is told of count nothing
        parts[2] = np.pad(parts[2], ((0, 0), (0, len(config.focus_windows) - near), (0, 0), (0, 0)))
    stride = (config.token_side, config.token_side)
    if config.coarse_depth:
        told = [_cropped(each, frame.outer - frame.inner, 2, 3) for each in told]
    tokens = _sum([_convolution(each, part, stride=stride) for each, part in zip(told, parts, strict=True)])
    grid = [1, 1]
    if config.coarse_depth:
        height, width = frame.size(frame.inner)
        cells = [height // config.coarse_bin, width // config.coarse_bin]
        grid = [height // config.token_side, width // config.token_side]
        inputs.append(op.parameter([1, CELL_FEATURES, *cells], np.float32))
        own = _values(cell_weights(network)[0])
        tokens = op.add(tokens, _convolution(inputs[-1], own, stride=(config.patch, config.patch)))
    bias = op.parameter([1, config.dim, *grid], np.float32)
    return Graph([_pixels_first(op.add(tokens, bias))], [*inputs, bias], "tokens")


def cell_weights(network: HybridFusionNet) -> tuple[Tensor, Tensor, Tensor]:
    """What cells tell the tokens: of a slice's own features, of their mean over Z and of their maximum; D F p p each."""
    own, less_mean, less_maximum = network.coarse.embed_cells.weight.chunk(3, dim=1)
    return own + less_mean + less_maximum, -less_mean, -less_maximum


def cell_graph(network: HybridFusionNet, frame: Frame) -> Graph:
    """What cells of one slice show: guide 1 1 H W, one over its noise 1 1 1 1 -> inner part 1 F h w.

    Around the inner part one cell of the guide binned twice is read.
    """
    side = network.config.coarse_bin
    guide = op.parameter([1, 1, frame.height, frame.width], np.float32)
    scale = op.parameter([1, 1, 1, 1], np.float32)
    around = 2 * side
    x = op.multiply(_cropped(guide, frame.halo - frame.inner - around, 2, 3), scale)
    energy = _cropped(_gradient_energy(x), around - 1, 2, 3)
    binned = _pooled(x, side)  # two cells around
    once = _cropped(_gradient_energy(binned), 1, 2, 3)
    twice = _repeated(_gradient_energy(_pooled(binned, 2)))
    laplacian = _convolution(_cropped(x, around - 1, 2, 3), _LAPLACIAN)
    middle = _cropped(binned, 2, 2, 3)
    measured = [
        op.multiply(_pooled(energy, side), _floats(1 / WHITE_NOISE_ENERGY)),
        op.multiply(_pooled(op.multiply(laplacian, laplacian), side), _floats(1 / LAPLACIAN_NOISE_ENERGY)),
        op.multiply(_pooled(energy, side, "max"), _floats(1 / WHITE_NOISE_ENERGY)),
        op.multiply(once, _floats(side**2 / WHITE_NOISE_ENERGY)),
        op.multiply(twice, _floats(4 * side**2 / WHITE_NOISE_ENERGY)),
    ]
    length = op.abs(middle)
    asinh = op.log(op.add(length, op.sqrt(op.add(op.multiply(length, length), _floats(1)))))
    levels = op.log(op.add(op.concat(measured, 1), _floats(1)))
    cells = op.multiply(op.concat([op.multiply(op.sign(middle), asinh), levels], 1), _floats(0.5))
    return Graph([cells], [guide, scale], "cells")


def mixer_graph(network: HybridFusionNet, block: int, frame: Frame) -> Graph:
    """Tokens of one slice and what those around them say, of the inner part: 1 h w D -> 1 h w D."""
    dim, side = network.config.dim, network.config.token_side
    height, width = (size // side for size in frame.size(frame.inner))
    x = op.parameter([1, height, width, dim], np.float32)
    mixer = network.coarse.mixers[block]
    assert isinstance(mixer, nn.Conv2d)  # noqa: S101 - narrows the type
    weight = _values(mixer.weight)[:, None].copy()  # D 1 1 3 3
    weight[:, 0, 0, 1, 1] += 1  # the token itself
    made = op.group_convolution(_channels_first(x), _floats(weight), [1, 1], [1, 1], [1, 1], [1, 1])
    return Graph([_pixels_first(op.add(made, _floats(_values(mixer.bias).reshape(1, -1, 1, 1))))], [x], "mixer")


_LAPLACIAN = np.array([[[[0, 1, 0], [1, -4, 1], [0, 1, 0]]]], np.float32)


def _gradient_energy(x: Node) -> Node:
    """Squared Sobel gradient without padding: 1 1 H W -> 1 1 H-2 W-2."""
    smooth, slope = np.array([0.25, 0.5, 0.25]), np.array([-0.5, 0.0, 0.5])
    kernels = np.stack([np.outer(slope, smooth), np.outer(smooth, slope)])[:, None]
    gradients = _convolution(x, kernels)
    return op.reduce_sum(op.multiply(gradients, gradients), _integers(1), True)


def _pooled(x: Node, side: int, kind: str = "mean") -> Node:
    """Mean or maximum of cells: 1 1 H W -> 1 1 h w."""
    if kind == "max":
        return op.max_pool(x, [side] * 2, [1, 1], [0, 0], [0, 0], [side] * 2, "floor").output(0)
    return op.avg_pool(x, [side] * 2, [0, 0], [0, 0], [side] * 2, True, "floor")


def _repeated(x: Node) -> Node:
    """Every value twice along both axes: 1 1 h w -> 1 1 2h 2w."""
    _, _, height, width = (int(size) for size in x.get_output_shape(0))
    x = op.reshape(x, _integers(1, height, 1, width, 1), False)
    x = op.broadcast(x, _integers(1, height, 2, width, 2))
    return op.reshape(x, _integers(1, 1, 2 * height, 2 * width), False)


def block_graph(block: SwinBlock, windows: int) -> Graph:
    """One Swin-V2 block in so many windows: n N D -> n N D."""
    attention = block.attn
    dim, heads = attention.dim, attention.num_heads
    tokens = math.prod(attention.window_size)
    x = op.parameter([windows, tokens, dim], np.float32)
    weights = _values(attention.qkv.weight).reshape(3, dim, dim)
    biases = (attention.q_bias, None, attention.v_bias)
    width = dim // heads
    by_head = _integers(windows, tokens, heads, width)
    q, k, v = (
        op.transpose(op.reshape(_linear(x, weight, bias), by_head, False), _integers(0, 2, 1, 3))
        for weight, bias in zip(weights, biases, strict=True)
    )  # n H N d each
    scale = attention.logit_scale.clamp(max=GREATEST_SCALE).exp()  # H 1 1
    length = np.full(width, width**-0.5, np.float32)  # of unit vectors: their mean square is 1 / width
    q, k = (_unit(each, LEAST_SQUARE / width, length) for each in (q, k))
    logits = op.matmul(op.multiply(q, _floats(_values(scale)[None])), k, False, True)
    shares = op.softmax(op.add(logits, _floats(_values(position_bias(attention))[None])), 3)
    mixed = op.transpose(op.matmul(shares, v, False, False), _integers(0, 2, 1, 3))  # n H N d -> n N H d
    mixed = op.reshape(mixed, _integers(windows, tokens, dim), False)
    attended = op.add(x, _normal_linear(mixed, attention.proj, block.norm1))
    hidden = op.gelu(_linear(attended, _values(block.mlp.fc1.weight), block.mlp.fc1.bias), "erf")
    return Graph([op.add(attended, _normal_linear(hidden, block.mlp.fc2, block.norm2))], [x], "block")


def head_graph(network: HybridFusionNet, frame: Frame) -> Graph:
    """Both scores of one slice.

    Inputs: guide 1 1 H W; then of the core with its rim features 1 h w C, what tokens say, relative energies 1 K h w,
    what all slices share 1 h w C; and the energies' gain 2 K (neither energies nor gain if K is 0). Tokens of full
    resolution come as the last block left them, 1 h w D; those of the coarse level as words 1 C+2 h w. Output: the core's
    scores, 1 2 h w.
    """
    config = network.config
    channels, windows = config.channels, len(config.focus_windows)
    height, width = frame.size(frame.rim)
    guide = op.parameter([1, 1, frame.height, frame.width], np.float32)
    features = op.parameter([1, height, width, channels], np.float32)
    grid = [height // config.token_side, width // config.token_side]
    tokens = op.parameter([1, channels + 2, *grid] if config.coarse_depth else [1, *grid, config.dim], np.float32)
    shared = op.parameter([1, height, width, channels], np.float32)
    own, _, _, _ = (_values(part) for part in network.mixing())
    said, direct = [], []
    if config.coarse_depth:
        words = _upsampled(tokens, config.token_side)
        said = [op.slice(words, _integers(0), _integers(channels), _integers(1), _integers(1))]
        scored = op.slice(words, _integers(channels), _integers(channels + 2), _integers(1), _integers(1))
        direct.append(_cropped(scored, frame.rim, 2, 3))
        up = []
    else:
        weight = _floats(_values(token_weights(network)[0]))
        up = [_expanded(op.matmul(tokens, weight, False, True), config, height, width)]
    of_features = op.matmul(features, _floats(own[:, :channels, 0, 0]), False, True)
    mixed = [_channels_first(_sum([of_features, *up, shared])), *said]
    mixed.append(_convolution(_cropped(guide, frame.halo - frame.rim, 2, 3), own[:, channels : channels + 1]))
    told: list[Node] = []
    if windows:
        told = [op.parameter([1, windows, height, width], np.float32), op.parameter([2, windows], np.float32)]
        mixed.append(_convolution(told[0], own[:, channels + 1 :]))
    size, beyond = frame.size(0), frame.rim - 1  # the convolution itself takes one pixel
    weight, bias = _values(network.head.weight), _values(network.head.bias)
    made = _few_channels(op.relu(_sum(mixed)), weight, (height - 2, size[1]), bias, first=beyond)
    if windows:
        levels = op.reshape(_cropped(told[0], frame.rim, 2, 3), _integers(windows, -1), False)
        direct.append(op.reshape(op.matmul(told[1], levels, False, False), _integers(1, 2, *size), False))
    scores = _sum([_channels_first(_cropped(made, beyond, 1)), *direct])
    return Graph([scores], [guide, features, tokens, *told[:1], shared, *told[1:]], "head")


def _upsampled(x: Node, factor: int) -> Node:
    """Interpolate between the centres of cells, bilinearly: 1 C h w -> 1 C H W."""
    if factor == 1:
        return x
    return op.interpolate(
        x,
        _floats([factor, factor]),
        "linear_onnx",
        "scales",
        [0, 0],
        [0, 0],
        "half_pixel",
        axes=_integers(2, 3),
    )


def token_weights(network: HybridFusionNet) -> tuple[Tensor, Tensor, Tensor]:
    """The last exchange, the expansion to pixels and the tokens' share of the mixture as one linear step.

    Returns:
        Of a token itself, (p p C) D; of what its location's slices share, likewise; added to that, (p p C).
    """
    channels, patch = network.config.channels, network.config.patch
    *_, of_tokens = (part[:, :, 0, 0] for part in network.mixing())
    weight = network.expand.weight.unflatten(0, (channels, patch, patch))
    expand = torch.einsum("oc,cijd->ijod", of_tokens, weight).flatten(0, 2)
    bias = torch.einsum("oc,cij->ijo", of_tokens, network.expand.bias.unflatten(0, (channels, patch, patch))).flatten()
    return expand @ own_share(network.exchanges[-1]), expand, bias


def own_share(exchange: nn.Module) -> Tensor:
    """What an exchange keeps of a token: itself, and what it says by itself; D D."""
    assert isinstance(exchange, nn.Linear)  # noqa: S101 - narrows the type
    dim = exchange.out_features
    return exchange.weight[:, :dim] + torch.eye(dim)


def _expanded(x: Node, config: NetworkConfig, height: int, width: int) -> Node:
    """Tokens' pixels to their places: 1 h w (p p C) -> 1 H W C."""
    rows, columns, patch = height // config.patch, width // config.patch, config.patch
    x = op.reshape(x, _integers(rows, columns, patch, patch * config.channels), False)
    return op.reshape(op.transpose(x, _integers(0, 2, 1, 3)), _integers(1, height, width, config.channels), False)


def _cropped(x: Node, border: int, *axes: int) -> Node:
    """Take so many off both ends of some axes."""
    if not border:
        return x
    ends = [_integers(*[value] * len(axes)) for value in (border, -border, 1)]
    return op.slice(x, *ends, _integers(*axes))


def _convolution(
    x: Node,
    weight: NDArray[Any],
    bias: NDArray[Any] | None = None,
    *,
    stride: tuple[int, int] = (1, 1),
    dilation: int = 1,
    padding: int = 0,
) -> Node:
    made = op.convolution(x, _floats(weight), stride, [padding] * 2, [padding] * 2, [dilation] * 2)
    return made if bias is None else op.add(made, _floats(bias.reshape(1, -1, 1, 1)))


def _few_channels(
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
    made = _convolution(x, kernels, None if bias is None else np.tile(bias, together), stride=(1, together))
    return op.reshape(_pixels_first(made), _integers(1, *size, outputs), False)


def _linear(x: Node, weight: NDArray[Any], bias: Tensor | None) -> Node:
    made = op.matmul(x, _floats(weight), False, True)
    return made if bias is None else op.add(made, _floats(_values(bias)))


def _normal_linear(x: Node, layer: nn.Module, norm: nn.Module) -> Node:
    """A linear layer, and the layer normalisation of what it gives.

    The mean is taken off the weights instead of the features: what is left is a root mean square, for which OpenVINO
    has one operation that takes a third of the time (measured).
    """
    assert isinstance(layer, nn.Linear)  # noqa: S101 - narrows the type
    assert isinstance(norm, nn.LayerNorm)  # noqa: S101 - narrows the type
    weight, bias = layer.weight - layer.weight.mean(dim=0), layer.bias - layer.bias.mean()
    centred = _linear(x, _values(weight), bias)
    return op.add(_unit(centred, norm.eps, _values(norm.weight)), _floats(_values(norm.bias)))


def _unit(x: Node, least: float, gain: NDArray[Any] | np.float32) -> Node:
    """Divide by the root mean square of the last axis, written as OpenVINO recognises it; `least` is added below."""
    square = op.reduce_mean(op.power(x, _floats(2)), _integers(-1), True)
    return op.multiply(op.multiply(x, op.divide(_floats(1), op.sqrt(op.add(square, _floats(least))))), _floats(gain))


def _sum(nodes: Sequence[Node]) -> Node:
    total = nodes[0]
    for node in nodes[1:]:
        total = op.add(total, node)
    return total


def _cut_or_padded(x: Node, border: int) -> Node:
    """Take so many pixels off all sides of an image; where that is negative, repeat its edges outwards instead."""
    if border >= 0:
        return _cropped(x, border, 2, 3)
    around = _integers(0, 0, -border, -border)
    return op.pad(x, around, around, "edge")


def _channels_first(x: Node) -> Node:
    return op.transpose(x, _integers(0, 3, 1, 2))


def _pixels_first(x: Node) -> Node:
    return op.transpose(x, _integers(0, 2, 3, 1))


def _values(tensor: Any) -> NDArray[np.float32]:
    return np.asarray(tensor.detach().cpu().float().numpy())


def _floats(values: Any) -> Node:
    return op.constant(np.ascontiguousarray(np.asarray(values, np.float32)))


def _integers(*values: int) -> Node:
    return op.constant(np.array(values, np.int64))
