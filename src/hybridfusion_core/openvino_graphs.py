"""HybridFusionNet's stages as OpenVINO graphs, built node by node from a network's weights.

They say again what `network` and `swin` say, in the order of operations that suits a CPU: pixels with their features
side by side (H W C), windows of tokens in batches of one size, every size fixed. `torch.export` would say it once, but
takes 20 s in every process, and what it keeps open (sizes) costs half the speed (docs/decisions/013). That both say the
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

from hybridfusion_core.focus_measures import gaussian_kernel, kernel_radius
from hybridfusion_core.network import HybridFusionNet, NetworkConfig, token_reach
from hybridfusion_core.swin import GREATEST_SCALE, LEAST_SQUARE, SwinBlock, position_bias

Node = Any  # openvino's nodes and outputs have no common type


@dataclass(frozen=True)
class Frame:
    """A tile's window and the parts of it that a stage has to know; all in pixels.

    The core is what is wanted. Around it the head reads `rim`, tokens `inner`; convolutions and energies read on into
    the window, which reaches `halo` beyond the core.

    Attributes:
        height: of the window.
        width: of the window.
        halo: of the window around its core; at least the network's.
        inner: distance from the core that tokens reach.
        rim: distance from the core that the head reads: one token.
    """

    height: int
    width: int
    halo: int
    inner: int
    rim: int

    @classmethod
    def of(cls, config: NetworkConfig, height: int, width: int, halo: int) -> Frame:
        """Frame of a window for a network."""
        return cls(height, width, halo, token_reach(config), config.patch)

    def size(self, beyond: int) -> tuple[int, int]:
        """Height and width of the core and so many pixels around it."""
        less = 2 * (self.halo - beyond)
        return self.height - less, self.width - less


def energy_graph(network: HybridFusionNet, frame: Frame) -> Graph:
    """Gradient energy of one slice in the network's focus windows: guide 1 1 H W -> inner 1 h w K."""
    guide = op.parameter([1, 1, frame.height, frame.width], np.float32)
    smooth, slope = np.array([0.25, 0.5, 0.25]), np.array([-0.5, 0.0, 0.5])
    sobel = np.stack([np.outer(slope, smooth), np.outer(smooth, slope)])[:, None]
    gradients = _convolution(_edge_padded(guide, 1), sobel)
    energy = op.reduce_sum(op.multiply(gradients, gradients), _integers(1), True)
    sigmas = network.config.focus_windows
    radius = max(map(kernel_radius, sigmas))
    kernels = np.zeros((len(sigmas), 2 * radius + 1), np.float32)
    for kernel, sigma in zip(kernels, sigmas, strict=True):
        reach = kernel_radius(sigma)
        kernel[radius - reach : radius + reach + 1] = _values(gaussian_kernel(sigma))
    # The widest windows reach beyond a narrow halo, but only around tokens, which are not told of them.
    spare = frame.halo - frame.inner - radius
    energy = _cropped(energy, max(spare, 0), 2, 3) if spare >= 0 else _edge_padded(energy, -spare)
    along_x = _convolution(energy, kernels[:, None, None, :])  # 1 1 h+2r w+2r -> 1 K h+2r w
    one = [1, 1]
    blurred = op.group_convolution(along_x, _floats(kernels[:, None, None, :, None]), one, [0, 0], [0, 0], one)
    return Graph([_pixels_first(blurred)], [guide], "energies")


def slice_graph(network: HybridFusionNet, frame: Frame) -> Graph:
    """What the convolutions and the tokens say of one slice.

    Inputs: guide 1 1 H W, relative energies of the inner part 1 h w K (none if K is 0), the noise's bias 1 C 1 1.
    Outputs: features of the core with its rim 1 h w C, tokens of the inner part 1 h w D.
    """
    config = network.config
    guide = op.parameter([1, 1, frame.height, frame.width], np.float32)
    bias = op.parameter([1, config.channels, 1, 1], np.float32)
    reach = sum(config.dilations)
    x = _cropped(guide, frame.halo - frame.inner - reach, 2, 3)
    for index, (layer, dilation) in enumerate(zip(network.convolutions, config.dilations, strict=True)):
        made = _convolution(x, _values(layer.weight), _values(layer.bias), dilation=dilation, padding=dilation)
        x = op.add(x, op.relu(made)) if index else op.relu(op.add(made, bias))
    told = [_cropped(x, reach, 2, 3), _cropped(guide, frame.halo - frame.inner, 2, 3)]
    inputs = [guide]
    if config.focus_windows:
        energies = op.parameter([1, *frame.size(frame.inner), len(config.focus_windows)], np.float32)
        inputs.append(energies)
        told.append(_channels_first(energies))
    near = len(config.near_windows)
    assert config.near_windows == config.focus_windows[:near]  # noqa: S101 - as forward takes them
    embed = _values(network.embed.weight)  # D C+1+K' p p
    parts = np.split(embed, np.cumsum([config.channels, 1])[: len(told) - 1], axis=1)
    if config.focus_windows:  # those that only the head is told of count nothing
        parts[2] = np.pad(parts[2], ((0, 0), (0, len(config.focus_windows) - near), (0, 0), (0, 0)))
    tokens = _sum([_convolution(each, part, stride=config.patch) for each, part in zip(told, parts, strict=True)])
    tokens = op.add(tokens, _floats(_values(network.embed.bias).reshape(1, -1, 1, 1)))
    features = _cropped(x, reach + frame.inner - frame.rim, 2, 3)
    return Graph([_pixels_first(features), _pixels_first(tokens)], [*inputs, bias], "slice")


def block_graph(block: SwinBlock, windows: int) -> Graph:
    """One Swin-V2 block in so many windows: n N D -> n N D."""
    attention = block.attn
    dim, heads = attention.dim, attention.num_heads
    tokens = math.prod(attention.window_size)
    x = op.parameter([windows, tokens, dim], np.float32)
    weights = _values(attention.qkv.weight).reshape(3, dim, dim)
    biases = (attention.q_bias, None, attention.v_bias)
    by_head = _integers(windows, tokens, heads, dim // heads)
    q, k, v = (
        op.transpose(op.reshape(_linear(x, weight, bias), by_head, False), _integers(0, 2, 1, 3))
        for weight, bias in zip(weights, biases, strict=True)
    )  # n H N d each
    scale = attention.logit_scale.clamp(max=GREATEST_SCALE).exp()  # H 1 1
    logits = op.matmul(op.multiply(_unit(q), _floats(_values(scale)[None])), _unit(k), False, True)
    shares = op.softmax(op.add(logits, _floats(_values(position_bias(attention))[None])), 3)
    mixed = op.transpose(op.matmul(shares, v, False, False), _integers(0, 2, 1, 3))  # n H N d -> n N H d
    mixed = op.reshape(mixed, _integers(windows, tokens, dim), False)
    attended = op.add(x, _norm(_linear(mixed, _values(attention.proj.weight), attention.proj.bias), block.norm1))
    hidden = op.gelu(_linear(attended, _values(block.mlp.fc1.weight), block.mlp.fc1.bias), "erf")
    made = _norm(_linear(hidden, _values(block.mlp.fc2.weight), block.mlp.fc2.bias), block.norm2)
    return Graph([op.add(attended, made)], [x], "block")


def head_graph(network: HybridFusionNet, frame: Frame) -> Graph:
    """Both scores of one slice.

    Inputs: guide 1 1 H W; features of the core with its rim 1 h w C; tokens of the inner part 1 h w D, as the last
    block left them; relative energies of the inner part 1 h w K; what all slices share, of the core with its rim,
    1 h w C; the energies' gain K 2 (neither energies nor gain if K is 0). Output: the core's scores, 1 2 h w.
    """
    config = network.config
    channels, windows, rim = config.channels, len(config.focus_windows), frame.rim
    height, width = frame.size(rim)
    guide = op.parameter([1, 1, frame.height, frame.width], np.float32)
    features = op.parameter([1, height, width, channels], np.float32)
    tokens = op.parameter([1, *(size // config.patch for size in frame.size(frame.inner)), config.dim], np.float32)
    shared = op.parameter([1, height, width, channels], np.float32)
    own, _, _, _ = (_values(part)[:, :, 0, 0] for part in network.mixing())
    near = _cropped(tokens, (frame.inner - rim) // config.patch, 1, 2)
    up = _expanded(op.matmul(near, _floats(_values(token_weights(network)[0])), False, True), config, height, width)
    mixed = [op.matmul(features, _floats(own[:, :channels]), False, True), up, shared]
    told: list[Node] = []
    if windows:
        energies = op.parameter([1, *frame.size(frame.inner), windows], np.float32)
        told = [energies, op.parameter([windows, 2], np.float32)]
        around = _cropped(energies, frame.inner - rim, 1, 2)
        mixed.append(op.matmul(around, _floats(own[:, channels + 1 :]), False, True))
    of_guide = _convolution(_cropped(guide, frame.halo - rim, 2, 3), own[:, channels : channels + 1, None, None])
    hidden = op.relu(op.add(_channels_first(_sum(mixed)), of_guide))
    scores = _convolution(hidden, _values(network.head.weight), _values(network.head.bias))  # a pixel less all around
    scores = _cropped(scores, rim - 1, 2, 3)
    if windows:
        at = _cropped(energies, frame.inner, 1, 2)
        scores = op.add(scores, _channels_first(op.matmul(at, told[1], False, False)))
    return Graph([scores], [guide, features, tokens, *told[:1], shared, *told[1:]], "head")


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
    stride: int = 1,
    dilation: int = 1,
    padding: int = 0,
) -> Node:
    made = op.convolution(x, _floats(weight), [stride] * 2, [padding] * 2, [padding] * 2, [dilation] * 2)
    return made if bias is None else op.add(made, _floats(bias.reshape(1, -1, 1, 1)))


def _linear(x: Node, weight: NDArray[Any], bias: Tensor | None) -> Node:
    made = op.matmul(x, _floats(weight), False, True)
    return made if bias is None else op.add(made, _floats(_values(bias)))


def _norm(x: Node, norm: nn.Module) -> Node:
    assert isinstance(norm, nn.LayerNorm)  # noqa: S101 - narrows the type
    normal = op.mvn(x, _integers(-1), True, float(norm.eps), "INSIDE_SQRT")
    return op.add(op.multiply(normal, _floats(_values(norm.weight))), _floats(_values(norm.bias)))


def _unit(x: Node) -> Node:
    square = op.reduce_sum(op.multiply(x, x), _integers(-1), True)
    return op.divide(x, op.sqrt(op.add(square, _floats(np.float32(LEAST_SQUARE)))))


def _sum(nodes: Sequence[Node]) -> Node:
    total = nodes[0]
    for node in nodes[1:]:
        total = op.add(total, node)
    return total


def _edge_padded(x: Node, reach: int) -> Node:
    around = _integers(0, 0, reach, reach)
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
