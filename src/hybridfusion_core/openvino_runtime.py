"""Runs a HybridFusionNet through OpenVINO on a CPU: the same scores in half of PyTorch's time or less.

PyTorch stays the reference, keeps every tensor, and does what is small: maxima and means over Z. Scores of a tile's
core are the reference's to within rounding; nearer to the border than `NetworkConfig.halo` they are not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import openvino
import torch
from torch import Tensor, nn

from hybridfusion_core.focus_measures import WHITE_NOISE_ENERGY
from hybridfusion_core.network import HybridFusionNet, Scores
from hybridfusion_core.openvino_graphs import block_graph, energy_graph, head_graph, slice_graph
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
        self._of_size = lru_cache(maxsize=4)(self._pixel_graphs)  # tiles at the far edges of a plane are smaller

    def __call__(self, guide: Tensor, noise: Tensor) -> Scores:
        """Score every slice at every pixel, as `HybridFusionNet.forward` does.

        Args:
            guide: 1 Z H W on the CPU; H and W multiples of the lattice.
            noise: 1, standard deviation of the noise in `guide`, > 0.

        Returns:
            Focus and spread, 1 Z H W each.
        """
        network, config = self._network, self._network.config
        slices, height, width = guide.shape[1:]
        graphs = self._of_size(height, width)
        planes = guide[0, :, None].contiguous()  # 1 Z H W -> Z 1 H W
        energies = self._energies(graphs.get("energies"), planes, noise)  # Z H W K
        told = [energies] if config.focus_windows else []
        features = torch.empty(slices, height, width, config.channels)
        tokens = torch.empty(slices, height // config.patch, width // config.patch, config.dim)
        bias = network.noise(noise.log()[:, None])[..., None, None].contiguous()  # 1 C -> 1 C 1 1
        _each_slice(graphs["slice"], [planes, *told], [bias], [features, tokens])
        for graph, block, exchange in zip(self._blocks, self._swin(), network.exchanges, strict=True):
            _attend(graph, block, tokens)
            _exchange(exchange, tokens)
        gain = [network.energy_gain_at(noise)[0].T.contiguous()] if told else []  # K 2
        shared = self._shared([features, planes.movedim(1, 3), *told])
        scores = torch.empty(slices, 2, height, width)
        _each_slice(graphs["head"], [planes, features, tokens, *told], [shared, *gain], [scores])
        return Scores(focus=scores[None, :, 0], spread=scores[None, :, 1])

    def graphs(self, height: int, width: int) -> list[openvino.CompiledModel]:
        """All that runs for a tile of one size, H and W multiples of the lattice."""
        return [*self._of_size(height, width).values(), *self._blocks]

    def _energies(self, graph: openvino.CompiledModel | None, planes: Tensor, noise: Tensor) -> Tensor:
        """As `HybridFusionNet.relative_energies`; Z 1 H W -> Z H W K."""
        slices, _, height, width = planes.shape
        levels = torch.empty(slices, height, width, len(self._network.config.focus_windows))
        if graph is not None:
            _each_slice(graph, [planes], [], [levels])
            levels.add_(WHITE_NOISE_ENERGY * noise.square()).log_()
            levels.sub_(levels.amax(dim=0))
        return levels

    def _shared(self, parts: Sequence[Tensor]) -> Tensor:
        """What mean and maximum over Z add to every slice's mixture. Each part Z H W c, together C+1+K; 1 H W C."""
        _, of_mean, of_maximum, _ = (part.flatten(1) for part in self._network.mixing())
        mean = torch.cat([part.mean(dim=0) for part in parts], dim=-1)
        maximum = torch.cat([part.amax(dim=0) for part in parts], dim=-1)
        shared = nn.functional.linear(mean, of_mean, self._network.mix.bias)
        return shared.add_(nn.functional.linear(maximum, of_maximum))[None]

    def _swin(self) -> Iterator[SwinBlock]:
        for block in self._network.blocks:
            assert isinstance(block, SwinBlock)  # noqa: S101 - narrows the type
            yield block

    def _pixel_graphs(self, height: int, width: int) -> dict[str, openvino.CompiledModel]:
        network = self._network
        made = {"slice": slice_graph(network, height, width), "head": head_graph(network, height, width)}
        graphs = {name: self._compile(graph) for name, graph in made.items()}
        if network.config.focus_windows:
            graphs["energies"] = self._compile(energy_graph(network, height, width), "f32")
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


def _exchange(layer: nn.Module, tokens: Tensor) -> None:
    """Let every slice see the mean and the maximum over Z of its own location's tokens, in place; Z h w D."""
    assert isinstance(layer, nn.Linear)  # noqa: S101 - narrows the type
    own, of_mean, of_maximum = layer.weight.split(tokens.shape[3], dim=1)
    shared = nn.functional.linear(tokens.mean(dim=0), of_mean, layer.bias)
    shared += nn.functional.linear(tokens.amax(dim=0), of_maximum)
    kept = own.T + torch.eye(tokens.shape[3])  # the token and its own share in one step
    made = torch.empty_like(shared).flatten(0, 1)
    for plane in tokens:
        torch.addmm(shared.flatten(0, 1), plane.flatten(0, 1), kept, out=made)
        plane.copy_(made.view_as(plane))


class _Run:
    """One request of a graph, on tensors that it reads and fills in place."""

    def __init__(self, graph: openvino.CompiledModel) -> None:
        self._request = graph.create_infer_request()

    def __call__(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        for index, tensor in enumerate(inputs):
            self._request.set_input_tensor(index, _shared_memory(tensor))
        for index, tensor in enumerate(outputs):
            self._request.set_output_tensor(index, _shared_memory(tensor))
        self._request.infer()


def _shared_memory(tensor: Tensor) -> openvino.Tensor:
    if not tensor.is_contiguous():
        raise ValueError(f"a graph reads and fills contiguous tensors, not one of strides {tensor.stride()}")
    return openvino.Tensor(tensor.numpy(), shared_memory=True)
