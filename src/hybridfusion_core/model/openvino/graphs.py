"""HybridFusionNet's stages as OpenVINO graphs, built node by node from a network's weights.

They say again what `network` and `swin` say, in the order of operations that suits a CPU: pixels with their features
side by side (H W C), windows of tokens in batches of one size, every size fixed. `torch.export` would say it once, but
takes 20 s in every process, and what it keeps open (sizes) costs half the speed (docs/decisions/015). That both say the
same is a test. What runs the graphs is `openvino_runtime`'s business.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from openvino import Model as Graph
from openvino import opset13 as op

from hybridfusion_core.model.blur import blur_band, gaussian_kernel, kernel_radius
from hybridfusion_core.model.config import CELL_FEATURES, GREATEST_BIAS, GREATEST_SCALE, LEAST_SQUARE, NetworkConfig
from hybridfusion_core.model.openvino.coarse_graphs import cell_weights
from hybridfusion_core.model.openvino.nodes import (
    Layer,
    Node,
    added,
    channels_first,
    convolution,
    cropped,
    cut_or_padded,
    few_channels,
    floats,
    integers,
    linear,
    normal_linear,
    pixels_first,
    unit,
    upsampled,
)
from hybridfusion_core.model.parameters import Parameters
from hybridfusion_core.model.receptive_field import token_reach

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


def energy_graph(weights: Parameters, frame: Frame) -> Graph:
    """Logarithm of one slice's gradient energy in the network's focus windows, that of noise added to it.

    Inputs: guide 1 1 H W; the noise's energy 1 1 1 1. Output: of the outer part, 1 K h w.

    A blur is a product with a band of weights; in float32 products are the fastest thing that there is, and short rows
    of few channels the slowest.
    """
    guide = op.parameter([1, 1, frame.height, frame.width], np.float32)
    floor = op.parameter([1, 1, 1, 1], np.float32)
    smooth, slope = np.array([0.25, 0.5, 0.25]), np.array([-0.5, 0.0, 0.5])
    around, shape = cut_or_padded(guide, -1), (frame.height, frame.width)
    gradients = [
        few_channels(around, kernel[None, None], shape) for kernel in (np.outer(slope, smooth), np.outer(smooth, slope))
    ]
    energy = channels_first(added([op.multiply(each, each) for each in gradients]))
    height, width = frame.size(frame.outer)
    blurred = []
    for sigma in weights.config.focus_windows:
        # The widest windows reach beyond a narrow halo, but only around tokens, which are not told of them.
        spare = frame.halo - frame.outer - kernel_radius(sigma)
        plane = op.reshape(cut_or_padded(energy, spare), integers(height + 2 * kernel_radius(sigma), -1), False)
        along_y = op.concat([op.matmul(band, part, False, False) for band, part in _bands(plane, 0, height, sigma)], 0)
        blur = op.concat([op.matmul(part, band, False, True) for band, part in _bands(along_y, 1, width, sigma)], 1)
        blurred.append(op.reshape(blur, integers(1, 1, height, width), False))
    return Graph([op.log(op.add(op.concat(blurred, 1), floor))], [guide, floor], "energies")


def _bands(plane: Node, axis: int, size: int, sigma: float) -> list[tuple[Node, Node]]:
    """Weights of a Gaussian, n n+2r, and the part of a plane that they make n places along an axis of; in order."""
    kernel = gaussian_kernel(sigma)
    pairs = []
    for start in range(0, size, _BAND):
        band = blur_band(kernel, min(_BAND, size - start))
        limits = (integers(start), integers(start + band.shape[1]), integers(1), integers(axis))
        pairs.append((floats(band), op.slice(plane, *limits)))
    return pairs


def feature_graph(weights: Parameters, frame: Frame) -> Graph:
    """The convolutions' features of one slice, in the outer part, near whose border they are wrong.

    Inputs: guide 1 1 H W, the noise's bias 1 C 1 1. Output: 1 h w C.
    """
    config = weights.config
    guide = op.parameter([1, 1, frame.height, frame.width], np.float32)
    bias = op.parameter([1, config.channels, 1, 1], np.float32)
    reach, *dilations = config.dilations
    x = cut_or_padded(guide, frame.halo - frame.outer - reach)
    kernel = np.zeros((config.channels, 1, 2 * reach + 1, 2 * reach + 1), np.float32)
    kernel[..., ::reach, ::reach] = weights["convolutions.0.weight"]
    made = few_channels(x, kernel, frame.size(frame.outer), weights["convolutions.0.bias"])
    x = channels_first(op.relu(op.add(made, op.reshape(bias, integers(1, 1, 1, -1), False))))
    for number, dilation in enumerate(dilations, 1):
        weight, offset = weights[f"convolutions.{number}.weight"], weights[f"convolutions.{number}.bias"]
        made = convolution(x, weight, offset, dilation=dilation, padding=dilation)
        x = op.add(x, op.relu(made))
    return Graph([pixels_first(x)], [guide, bias], "features")


def token_graph(weights: Parameters, frame: Frame) -> Graph:
    """Tokens of one slice.

    A graph of its own, whose bias is an input: with features as a second result, or right after a convolution, OpenVINO
    moves every value twice to bring features side by side (measured: half of the stage's time).

    Inputs: guide 1 1 H W; of the outer part features 1 h w C and relative energies 1 K h w (none if K is 0); the bias
    1 D 1 1. Output: tokens of the outer part, 1 h w D. On the coarse level two of the inner part come last: features of
    cells 1 F h w, and instead of the bias what all slices share, 1 D h w; and of that part is the output.
    """
    config, (height, width) = weights.config, frame.size(frame.outer)
    guide = op.parameter([1, 1, frame.height, frame.width], np.float32)
    features = op.parameter([1, height, width, config.channels], np.float32)
    told, inputs = [channels_first(features), cropped(guide, frame.halo - frame.outer, 2, 3)], [guide, features]
    if config.focus_windows:
        inputs.append(op.parameter([1, len(config.focus_windows), height, width], np.float32))
        told.append(inputs[-1])
    near = len(config.near_windows)
    assert config.near_windows == config.focus_windows[:near]  # noqa: S101 - as forward takes them
    embed = weights["coarse.embed.weight" if config.coarse_depth else "embed.weight"]  # D C+1+K' p p
    parts = np.split(embed, np.cumsum([config.channels, 1])[: len(told) - 1], axis=1)
    if config.focus_windows:  # those that only the head is told of count nothing
        parts[2] = np.pad(parts[2], ((0, 0), (0, len(config.focus_windows) - near), (0, 0), (0, 0)))
    stride = (config.token_side, config.token_side)
    if config.coarse_depth:
        told = [cropped(each, frame.outer - frame.inner, 2, 3) for each in told]
    tokens = added([convolution(each, part, stride=stride) for each, part in zip(told, parts, strict=True)])
    grid = [1, 1]
    if config.coarse_depth:
        height, width = frame.size(frame.inner)
        cells = [height // config.coarse_bin, width // config.coarse_bin]
        grid = [height // config.token_side, width // config.token_side]
        inputs.append(op.parameter([1, CELL_FEATURES, *cells], np.float32))
        own = cell_weights(weights)[0]
        tokens = op.add(tokens, convolution(inputs[-1], own, stride=(config.patch, config.patch)))
    bias = op.parameter([1, config.dim, *grid], np.float32)
    return Graph([pixels_first(op.add(tokens, bias))], [*inputs, bias], "tokens")


def block_graph(weights: Parameters, block: str, windows: int) -> Graph:
    """One Swin-V2 block, by its name among the weights, in so many windows: n N D -> n N D."""
    config = weights.config
    dim, heads, tokens = config.dim, config.heads, config.window**2

    def layer(name: str) -> Layer:
        return weights[f"{block}.{name}.weight"], weights[f"{block}.{name}.bias"]

    x = op.parameter([windows, tokens, dim], np.float32)
    qkv = weights[f"{block}.attn.qkv.weight"].reshape(3, dim, dim)
    biases = (weights[f"{block}.attn.q_bias"], None, weights[f"{block}.attn.v_bias"])
    width = dim // heads
    by_head = integers(windows, tokens, heads, width)
    q, k, v = (
        op.transpose(op.reshape(linear(x, weight, bias), by_head, False), integers(0, 2, 1, 3))
        for weight, bias in zip(qkv, biases, strict=True)
    )  # n H N d each
    scale = np.exp(weights[f"{block}.attn.logit_scale"].clip(max=GREATEST_SCALE))  # H 1 1
    length = np.full(width, width**-0.5, np.float32)  # of unit vectors: their mean square is 1 / width
    q, k = (unit(each, LEAST_SQUARE / width, length) for each in (q, k))
    logits = op.matmul(op.multiply(q, floats(scale[None])), k, False, True)
    shares = op.softmax(op.add(logits, floats(position_bias(weights, block)[None])), 3)
    mixed = op.transpose(op.matmul(shares, v, False, False), integers(0, 2, 1, 3))  # n H N d -> n N H d
    mixed = op.reshape(mixed, integers(windows, tokens, dim), False)
    attended = op.add(x, normal_linear(mixed, layer("attn.proj"), layer("norm1")))
    hidden = op.gelu(linear(attended, *layer("mlp.fc1")), "erf")
    return Graph([op.add(attended, normal_linear(hidden, layer("mlp.fc2"), layer("norm2")))], [x], "block")


def position_bias(weights: Parameters, block: str) -> NDArray[np.float32]:
    """What a block adds to the logits of each pair of places in a window; H N N.

    A small MLP of how far apart they are along both axes, in logarithms (Liu et al. 2022, arXiv:2111.09883, eq. 4).
    """
    side = weights.config.window
    apart = np.arange(1 - side, side, dtype=np.float32)
    scaled = 8 * apart / max(side - 1, 1)
    told = np.sign(scaled) * np.log2(np.abs(scaled) + 1) / 3  # log2 of 8
    table = np.stack(np.meshgrid(told, told, indexing="ij"), axis=-1).reshape(-1, 2)  # (2s-1)² 2
    hidden = table @ weights[f"{block}.attn.cpb_mlp.0.weight"].T + weights[f"{block}.attn.cpb_mlp.0.bias"]
    biases = hidden.clip(min=0) @ weights[f"{block}.attn.cpb_mlp.2.weight"].T  # (2s-1)² H
    biases = (GREATEST_BIAS / (1 + np.exp(-biases))).astype(np.float32)
    y, x = np.divmod(np.arange(side**2), side)
    place = (y[:, None] - y + side - 1) * (2 * side - 1) + x[:, None] - x + side - 1  # N N
    return np.ascontiguousarray(biases[place].transpose(2, 0, 1))


def head_graph(weights: Parameters, frame: Frame) -> Graph:
    """Both scores of one slice.

    Inputs: guide 1 1 H W; then of the core with its rim features 1 h w C, what tokens say, relative energies 1 K h w,
    what all slices share 1 h w C; and the energies' gain 2 K (neither energies nor gain if K is 0). Tokens of full
    resolution come as the last block left them, 1 h w D; those of the coarse level as words 1 C+2 h w. Output: scores
    of the core, 1 2 h w.
    """
    config = weights.config
    channels, windows = config.channels, len(config.focus_windows)
    height, width = frame.size(frame.rim)
    guide = op.parameter([1, 1, frame.height, frame.width], np.float32)
    features = op.parameter([1, height, width, channels], np.float32)
    grid = [height // config.token_side, width // config.token_side]
    tokens = op.parameter([1, channels + 2, *grid] if config.coarse_depth else [1, *grid, config.dim], np.float32)
    shared = op.parameter([1, height, width, channels], np.float32)
    own, *_ = mixing(weights)
    said, direct = [], []
    if config.coarse_depth:
        words = upsampled(tokens, config.token_side)
        said = [op.slice(words, integers(0), integers(channels), integers(1), integers(1))]
        scored = op.slice(words, integers(channels), integers(channels + 2), integers(1), integers(1))
        direct.append(cropped(scored, frame.rim, 2, 3))
        up = []
    else:
        weight = floats(token_weights(weights)[0])
        up = [_expanded(op.matmul(tokens, weight, False, True), config, height, width)]
    of_features = op.matmul(features, floats(own[:, :channels, 0, 0]), False, True)
    mixed = [channels_first(added([of_features, *up, shared])), *said]
    mixed.append(convolution(cropped(guide, frame.halo - frame.rim, 2, 3), own[:, channels : channels + 1]))
    told: list[Node] = []
    if windows:
        told = [op.parameter([1, windows, height, width], np.float32), op.parameter([2, windows], np.float32)]
        mixed.append(convolution(told[0], own[:, channels + 1 :]))
    size, beyond = frame.size(0), frame.rim - 1  # the convolution itself takes one pixel
    weight, bias = weights["head.weight"], weights["head.bias"]
    made = few_channels(op.relu(added(mixed)), weight, (height - 2, size[1]), bias, first=beyond)
    if windows:
        levels = op.reshape(cropped(told[0], frame.rim, 2, 3), integers(windows, -1), False)
        direct.append(op.reshape(op.matmul(told[1], levels, False, False), integers(1, 2, *size), False))
    scores = added([channels_first(cropped(made, beyond, 1)), *direct])
    return Graph([scores], [guide, features, tokens, *told[:1], shared, *told[1:]], "head")


def mixing(weights: Parameters) -> list[NDArray[np.float32]]:
    """The weights of `mix` for a slice's own features, their mean and maximum over Z, and its tokens: C F 1 1 each."""
    features = weights.config.pixel_features
    return np.split(weights["mix.weight"], np.cumsum([features] * 3), axis=1)


def token_weights(weights: Parameters) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """The last exchange, the expansion to pixels and the tokens' share of the mixture as one linear step.

    Returns:
        Of a token itself, (p p C) D; of what its location's slices share, likewise; added to that, (p p C).
    """
    channels, patch, dim = weights.config.channels, weights.config.patch, weights.config.dim
    of_tokens = mixing(weights)[3][:, :, 0, 0]
    weight = weights["expand.weight"].reshape(channels, patch, patch, dim)
    expand = np.einsum("oc,cijd->ijod", of_tokens, weight).reshape(-1, dim)
    bias = np.einsum("oc,cij->ijo", of_tokens, weights["expand.bias"].reshape(channels, patch, patch)).ravel()
    return expand @ own_share(weights, f"exchanges.{weights.config.depth - 1}"), expand, bias


def own_share(weights: Parameters, exchange: str) -> NDArray[np.float32]:
    """What an exchange keeps of a token: itself, and what it says by itself; D D."""
    dim = weights.config.dim
    return weights[f"{exchange}.weight"][:, :dim] + np.eye(dim, dtype=np.float32)


def _expanded(x: Node, config: NetworkConfig, height: int, width: int) -> Node:
    """Tokens' pixels to their places: 1 h w (p p C) -> 1 H W C."""
    rows, columns, patch = height // config.patch, width // config.patch, config.patch
    x = op.reshape(x, integers(rows, columns, patch, patch * config.channels), False)
    return op.reshape(op.transpose(x, integers(0, 2, 1, 3)), integers(1, height, width, config.channels), False)
