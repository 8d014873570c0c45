"""HybridFusionNet's stages as OpenVINO graphs, built node by node from a network's weights.

They say again what `network` and `swin` say, in the order of operations that suits a CPU: pixels with their features
side by side (H W C), windows of tokens in batches of one size, every size fixed. `torch.export` would say it once, but
takes 20 s in every process, and what it keeps open (sizes) costs half the speed (docs/decisions/013). That both say the
same is a test. What runs the graphs is `openvino_runtime`'s business.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from openvino import Model as Graph
from openvino import opset13 as op
from torch import Tensor, nn

from hybridfusion_core.focus_measures import gaussian_kernel, kernel_radius
from hybridfusion_core.network import HybridFusionNet
from hybridfusion_core.swin import GREATEST_SCALE, LEAST_SQUARE, SwinBlock, position_bias

Node = Any  # openvino's nodes and outputs have no common type


def energy_graph(network: HybridFusionNet, height: int, width: int) -> Graph:
    """Gradient energy of one slice in the network's focus windows: 1 1 H W -> 1 H W K."""
    guide = op.parameter([1, 1, height, width], np.float32)
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
    along_x = _convolution(_edge_padded(energy, radius), kernels[:, None, None, :])  # 1 1 H+2r W+2r -> 1 K H+2r W
    one = [1, 1]
    blurred = op.group_convolution(along_x, _floats(kernels[:, None, None, :, None]), one, [0, 0], [0, 0], one)
    return Graph([_pixels_first(blurred)], [guide], "energies")


def slice_graph(network: HybridFusionNet, height: int, width: int) -> Graph:
    """What the convolutions and the tokens say of one slice.

    Inputs: guide 1 1 H W, relative energies 1 H W K (none if K is 0), the noise's bias 1 C 1 1. Outputs: features
    1 H W C, tokens 1 h w D.
    """
    config = network.config
    guide = op.parameter([1, 1, height, width], np.float32)
    bias = op.parameter([1, config.channels, 1, 1], np.float32)
    inputs, x = [guide], guide
    for index, (layer, dilation) in enumerate(zip(network.convolutions, config.dilations, strict=True)):
        made = _convolution(x, _values(layer.weight), _values(layer.bias), dilation=dilation, padding=dilation)
        x = op.add(x, op.relu(made)) if index else op.relu(op.add(made, bias))
    told = [x, guide]
    if config.focus_windows:
        energies = op.parameter([1, height, width, len(config.focus_windows)], np.float32)
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
    return Graph([_pixels_first(x), _pixels_first(tokens)], [*inputs, bias], "slice")


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


def head_graph(network: HybridFusionNet, height: int, width: int) -> Graph:
    """Both scores of one slice.

    Inputs: guide 1 1 H W, features 1 H W C, tokens 1 h w D, relative energies 1 H W K, what all slices share 1 H W C,
    the energies' gain K 2 (neither energies nor gain if K is 0). Output: 1 2 H W.
    """
    config = network.config
    channels, patch, windows = config.channels, config.patch, len(config.focus_windows)
    rows, columns = height // patch, width // patch
    guide = op.parameter([1, 1, height, width], np.float32)
    features = op.parameter([1, height, width, channels], np.float32)
    tokens = op.parameter([1, rows, columns, config.dim], np.float32)
    shared = op.parameter([1, height, width, channels], np.float32)
    of_energies: list[Node] = []
    own, _, _, of_tokens = (_values(part)[:, :, 0, 0] for part in network.mixing())
    # Expanding tokens to pixels and mixing them in are one linear step: C (c p p) D -> (p p C) D
    expand = _values(network.expand.weight).reshape(channels, patch, patch, config.dim)
    expand = np.einsum("oc,cijd->ijod", of_tokens, expand).reshape(-1, config.dim)
    expand_bias = np.einsum("oc,cij->ijo", of_tokens, _values(network.expand.bias).reshape(channels, patch, patch))
    up = op.add(op.matmul(tokens, _floats(expand), False, True), _floats(expand_bias.reshape(-1)))
    up = op.reshape(up, _integers(rows, columns, patch, patch * channels), False)
    up = op.reshape(op.transpose(up, _integers(0, 2, 1, 3)), _integers(1, height, width, channels), False)
    mixed = [op.matmul(features, _floats(own[:, :channels]), False, True), up, shared]
    if windows:
        gain = op.parameter([windows, 2], np.float32)
        energies = op.parameter([1, height, width, windows], np.float32)
        of_energies = [energies, gain]
        mixed.append(op.matmul(energies, _floats(own[:, channels + 1 :]), False, True))
    of_guide = _convolution(guide, own[:, channels : channels + 1, None, None])
    hidden = op.relu(op.add(_channels_first(_sum(mixed)), of_guide))
    scores = _convolution(hidden, _values(network.head.weight), _values(network.head.bias), padding=1)
    if windows:
        scores = op.add(scores, _channels_first(op.matmul(energies, gain, False, False)))
    inputs = [guide, features, tokens, *of_energies[:1], shared, *of_energies[1:]]
    return Graph([scores], inputs, "head")


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
