"""Runs a HybridFusionNet through OpenVINO on a CPU: the same scores in half of PyTorch's time or less.

PyTorch stays the reference, keeps every tensor, and does what is small: maxima and means over Z. Scores of a tile's
core are the reference's to within rounding; nearer to the border than `NetworkConfig.halo` they are not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import openvino
import torch
from torch import Tensor, nn

from hybridfusion_core.focus_measures import WHITE_NOISE_ENERGY
from hybridfusion_core.network import HybridFusionNet, Scores
from hybridfusion_core.openvino_graphs import (
    Frame,
    block_graph,
    energy_graph,
    feature_graph,
    head_graph,
    own_share,
    token_graph,
    token_weights,
)
from hybridfusion_core.swin import SwinBlock

_WINDOWS = 64  # attended to at a time: their logits stay in a core's cache (measured: 32 and 128 are slower)


def refusal(network: HybridFusionNet, precision: str, threads: int | None) -> str | None:
    """Why a network cannot run here, or None; compiles what does not depend on a tile's size."""
    if network.config.wide_below:
        return "its blocks have windows of two sizes"
    try:
        compiled(network, precision, threads)
    except RuntimeError as error:  # all that OpenVINO raises
        return str(error).strip().splitlines()[-1]
    return None


def compiled(network: HybridFusionNet, precision: str, threads: int | None) -> CompiledNetwork:
    """Return a network ready to run; kept, with its graphs, for the next time.

    Args:
        network: its weights are copied, and must not change any more.
        precision: "auto", "float32" or "bfloat16"; gradient energies are float32 always.
        threads: of OpenVINO; None takes as many as PyTorch would.
    """
    hint = "bf16" if precision == "bfloat16" else "f32"
    return _compiled(network, hint, threads or torch.get_num_threads())


class CompiledNetwork:
    """A network's graphs, compiled once for each size of a tile. Several threads may call it at once.

    Args:
        network: its weights are copied.
        hint: OpenVINO's name of the precision. Its own choice is bfloat16 wherever the CPU has it.
        threads: not pinned to cores: those of several processes would share the first ones.
    """

    def __init__(self, network: HybridFusionNet, hint: str, threads: int) -> None:
        self._network, self._hint = network, hint
        self._options: dict[str, Any] = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
        }
        self._core = openvino.Core()
        self._blocks = [self._compile(block_graph(block, _WINDOWS)) for block in self._swin()]
        self._of_frame = lru_cache(maxsize=4)(self._framed)  # tiles at the far edges of a plane are smaller

    def __call__(self, guide: Tensor, noise: Tensor, halo: int) -> Scores:
        """Score every slice at every pixel of a tile's core, as `HybridFusionNet.forward` does.

        Args:
            guide: 1 Z H W on the CPU, a tile's window; H and W multiples of the lattice.
            noise: 1, standard deviation of the noise in `guide`, > 0.
            halo: of the window around its core; a multiple of the lattice, at least the network's.

        Returns:
            Focus and spread, 1 Z H W each; 0 outside the core.
        """
        network, config = self._network, self._network.config
        slices, height, width = guide.shape[1:]
        frame = Frame.of(config, height, width, halo)
        graphs = self._of_frame(frame)
        planes = guide[0, :, None].contiguous()  # 1 Z H W -> Z 1 H W
        energies = self._energies(graphs.get("energies"), frame, planes, noise)  # Z K h w
        told = [energies] if config.focus_windows else []
        features, tokens = self._told(graphs, frame, [planes, *told], noise)
        shares = self._attended(tokens)
        gain = [network.energy_gain_at(noise)[0].contiguous()] if told else []  # 2 K
        near = [_middle(part, *frame.size(frame.rim), 2) for part in (planes, *told)]  # Z c h w each
        shared = self._shared(frame, [features, *(part.movedim(1, 3) for part in near)], shares)
        near_tokens = _middle(tokens, *(size // config.patch for size in frame.size(frame.rim)))
        scores = torch.empty(slices, 2, *frame.size(0))
        _each_slice(graphs["head"], [planes, features, near_tokens, *near[1:]], [shared, *gain], [scores])
        whole = nn.functional.pad(scores, (halo, halo, halo, halo))[None]
        return Scores(focus=whole[:, :, 0], spread=whole[:, :, 1])

    def graphs(self, height: int, width: int) -> list[openvino.CompiledModel]:
        """All that runs for a window of one size with the network's own halo."""
        frame = Frame.of(self._network.config, height, width, self._network.config.halo)
        return [*self._of_frame(frame).values(), *self._blocks]

    def _energies(self, graph: openvino.CompiledModel | None, frame: Frame, planes: Tensor, noise: Tensor) -> Tensor:
        """Logarithms of energies over the sharpest slice's, as the network is told them; Z 1 H W -> outer Z K h w."""
        levels = torch.empty(len(planes), len(self._network.config.focus_windows), *frame.size(frame.outer))
        if graph is not None:
            _each_slice(graph, [planes], [], [levels])
            levels.add_(WHITE_NOISE_ENERGY * noise.square()).log_()
            levels.sub_(levels.amax(dim=0))
        return levels

    def _told(
        self, graphs: Mapping[str, openvino.CompiledModel], frame: Frame, sliced: Sequence[Tensor], noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Features of the core with its rim, Z h w C, and tokens of the inner part, Z h w D."""
        config, (height, width) = self._network.config, frame.size(frame.outer)
        bias = self._network.noise(noise.log()[:, None])[..., None, None].contiguous()  # 1 C -> 1 C 1 1
        token_bias = self._network.embed.bias.detach().reshape(1, -1, 1, 1)  # type: ignore[union-attr]
        made = torch.empty(1, height, width, config.channels)
        made_tokens = torch.empty(1, height // config.patch, width // config.patch, config.dim)
        features = torch.empty(len(sliced[0]), *frame.size(frame.rim), config.channels)
        tokens = torch.empty(len(sliced[0]), *(size // config.patch for size in frame.size(frame.inner)), config.dim)
        convolve, embed = _Run(graphs["features"]), _Run(graphs["tokens"])
        for z in range(len(features)):
            plane, *energies = (each[z : z + 1] for each in sliced)
            convolve([plane, bias], [made])
            embed([plane, made, *energies, token_bias], [made_tokens])
            features[z] = _middle(made, *features.shape[1:3])[0]
            tokens[z] = _middle(made_tokens, *tokens.shape[1:3])[0]
        return features, tokens

    def _attended(self, tokens: Tensor) -> Tensor:
        """Pass tokens, Z h w D, through all blocks and exchanges, in place.

        Of the last exchange only what slices share is returned, h w D: the rest is one step with what follows.
        """
        shared = tokens.new_zeros(())
        exchanges = zip(self._blocks, self._swin(), self._network.exchanges, strict=True)
        for number, (graph, block, exchange) in enumerate(exchanges, 1):
            _attend(graph, block, tokens)
            shared = _common(exchange, tokens)
            if number < len(self._blocks):
                _keep(own_share(exchange).T, shared, tokens)
        return shared

    def _shared(self, frame: Frame, parts: Sequence[Tensor], of_tokens: Tensor) -> Tensor:
        """What is added to every slice's mixture, of the core with its rim, 1 h w C.

        Args:
            frame: of the tile.
            parts: Z h w c each, together C+1+K, of the core with its rim; their means and maxima count.
            of_tokens: what slices share in the last exchange, of the inner part, h w D.
        """
        config, (height, width) = self._network.config, frame.size(frame.rim)
        _, of_mean, of_maximum, _ = (part.flatten(1) for part in self._network.mixing())
        mean = torch.cat([part.mean(dim=0) for part in parts], dim=-1)
        maximum = torch.cat([part.amax(dim=0) for part in parts], dim=-1)
        shared = nn.functional.linear(mean, of_mean, self._network.mix.bias)
        shared += nn.functional.linear(maximum, of_maximum)
        _, weight, bias = token_weights(self._network)
        tokens = _middle(of_tokens[None], height // config.patch, width // config.patch)[0]
        up = nn.functional.linear(tokens, weight, bias).unflatten(2, (config.patch, config.patch, config.channels))
        shared += up.transpose(1, 2).reshape(shared.shape)  # h w (p p C) -> h p w p C -> H W C
        return shared[None]

    def _swin(self) -> Iterator[SwinBlock]:
        for block in self._network.blocks:
            assert isinstance(block, SwinBlock)  # noqa: S101 - narrows the type
            yield block

    def _framed(self, frame: Frame) -> dict[str, openvino.CompiledModel]:
        network = self._network
        graphs = {
            name: self._compile(build(network, frame))
            for name, build in (("features", feature_graph), ("tokens", token_graph), ("head", head_graph))
        }
        if network.config.focus_windows:
            graphs["energies"] = self._compile(energy_graph(network, frame), "f32")
        return graphs

    def _compile(self, graph: openvino.Model, hint: str | None = None) -> openvino.CompiledModel:
        return self._core.compile_model(graph, "CPU", {**self._options, "INFERENCE_PRECISION_HINT": hint or self._hint})


_compiled = lru_cache(maxsize=4)(CompiledNetwork)


def _each_slice(
    graph: openvino.CompiledModel, sliced: Sequence[Tensor], shared: Sequence[Tensor], outputs: Sequence[Tensor]
) -> None:
    """Run a graph for every slice: its inputs are a slice of each in `sliced`, then those in `shared`."""
    run = _Run(graph)
    for z in range(len(outputs[0])):
        one = slice(z, z + 1)
        run([*(each[one] for each in sliced), *shared], [each[one] for each in outputs])


def _attend(graph: openvino.CompiledModel, block: SwinBlock, tokens: Tensor) -> None:
    """Run a block in all windows of all slices, in place; Z h w D."""
    side, margin = block.attn.window_size[0], block.margin
    height, width = tokens.shape[1] - 2 * margin, tokens.shape[2] - 2 * margin
    inner = tokens[:, margin : margin + height, margin : margin + width]
    windows = inner.unflatten(2, (-1, side)).unflatten(1, (-1, side)).transpose(2, 3)  # Z h' w' s s D, a view
    places = torch.cartesian_prod(*(torch.arange(size) for size in windows.shape[:3]))
    run, made = _Run(graph), torch.empty(_WINDOWS, side**2, tokens.shape[3])
    for batch in places.split(_WINDOWS):
        filled = torch.cat([batch, batch[-1:].expand(_WINDOWS - len(batch), 3)])  # graphs take whole batches
        chosen = filled.unbind(dim=1)
        run([windows[chosen].flatten(1, 2)], [made])
        windows[batch.unbind(dim=1)] = made[: len(batch)].unflatten(1, (side, side))


def _common(exchange: nn.Module, tokens: Tensor) -> Tensor:
    """What mean and maximum over Z of each location's tokens, Z h w D, tell all slices; h w D."""
    assert isinstance(exchange, nn.Linear)  # noqa: S101 - narrows the type
    _, of_mean, of_maximum = exchange.weight.split(tokens.shape[3], dim=1)
    shared = nn.functional.linear(tokens.mean(dim=0), of_mean, exchange.bias)
    shared += nn.functional.linear(tokens.amax(dim=0), of_maximum)
    return shared


def _keep(share: Tensor, shared: Tensor, tokens: Tensor) -> None:
    """Replace every token of Z h w D by its own share, D D, and what all slices of its location share, h w D."""
    made = torch.empty_like(shared).flatten(0, 1)
    for plane in tokens:
        torch.addmm(shared.flatten(0, 1), plane.flatten(0, 1), share, out=made)
        plane.copy_(made.view_as(plane))


def _middle(x: Tensor, height: int, width: int, axis: int = 1) -> Tensor:
    """The middle of a tensor along an axis, Y, and the one after it, X; a view."""
    top, left = (x.shape[axis] - height) // 2, (x.shape[axis + 1] - width) // 2
    return x.narrow(axis, top, height).narrow(axis + 1, left, width)


class _Run:
    """One request of a graph, on tensors that it reads and fills in place: graphs know dense ones only."""

    def __init__(self, graph: openvino.CompiledModel) -> None:
        self._request = graph.create_infer_request()

    def __call__(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        dense = [tensor.contiguous() for tensor in inputs]  # kept until the end: OpenVINO holds no references
        for index, tensor in enumerate(dense):
            self._request.set_input_tensor(index, _shared_memory(tensor))
        for index, tensor in enumerate(outputs):
            self._request.set_output_tensor(index, _shared_memory(tensor))
        self._request.infer()


def _shared_memory(tensor: Tensor) -> openvino.Tensor:
    return openvino.Tensor(tensor.numpy(), shared_memory=True)
