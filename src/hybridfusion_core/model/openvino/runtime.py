"""Runs a HybridFusionNet through OpenVINO on a CPU: the same scores in half of PyTorch's time or less.

PyTorch stays the reference, keeps every tensor, and does what is small: maxima and means over Z. Slices and windows are
dealt out to threads, each with a stream of OpenVINO's of its own: one graph by all threads is much slower. Scores of a
tile's core are the reference's to within rounding; nearer to the border than `NetworkConfig.halo` they are not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import openvino
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hybridfusion_core.model.coarse import CELL_FEATURES, upsampled
from hybridfusion_core.model.focus_measures import WHITE_NOISE_ENERGY
from hybridfusion_core.model.network import HybridFusionNet, Scores
from hybridfusion_core.model.openvino.coarse_graphs import cell_graph, cell_weights, mixer_graph
from hybridfusion_core.model.openvino.graphs import (
    Frame,
    block_graph,
    energy_graph,
    feature_graph,
    head_graph,
    own_share,
    token_graph,
    token_weights,
)
from hybridfusion_core.model.swin import SwinBlock

_Array = TypeVar("_Array", Tensor, NDArray[np.float32])
_WINDOWS = 64  # attended to at a time: their logits stay in a core's cache (measured: 32 and 128 are slower)


def refusal(network: HybridFusionNet, precision: str, threads: int | None) -> str | None:
    """Why a network cannot run here, or None; compiles what does not depend on a tile's size."""
    if network.config.depth and network.config.coarse_depth:
        return "it has tokens on two levels"
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

    It keeps its working memory for the next tile, because new memory costs a tenth of the time (measured): the system
    hands it out page by page. Call `release` after the last tile.

    Args:
        network: its weights are copied.
        hint: OpenVINO's name of the precision. Its own choice is bfloat16 wherever the CPU has it.
        threads: not pinned to cores: those of several processes would share the first ones.
    """

    def __init__(self, network: HybridFusionNet, hint: str, threads: int) -> None:
        self._network, self._hint = network, hint
        self._options: dict[str, Any] = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": threads,
            "ENABLE_CPU_PINNING": False,
        }
        self._lanes = _Lanes(threads)
        self._spare: list[_Buffers] = []  # of calls that are over
        self._core = openvino.Core()
        self._coarse = network.coarse if network.config.coarse_depth else None
        self._exchanges = (self._coarse or network).exchanges
        self._blocks = [self._compile(block_graph(block, _WINDOWS)) for block in self._swin()]
        self._of_frame = lru_cache(maxsize=9)(self._framed)  # tiles at the far edges of blocks and planes are smaller

    def __call__(self, guide: Tensor, noise: Tensor, halo: int) -> Scores:
        """Score every slice at every pixel of a tile's core, as `HybridFusionNet.forward` does.

        Args:
            guide: 1 Z H W on the CPU, a tile's window; H and W multiples of the lattice.
            noise: 1, standard deviation of the noise in `guide`, > 0.
            halo: of the window around its core; a multiple of the lattice, at least the network's.

        Returns:
            Focus and spread, 1 Z H W each, and in focus or not, 1 H W, if the network says that; 0 outside the core.
        """
        try:
            buffers = self._spare.pop()
        except IndexError:
            buffers = _Buffers()
        height, width = guide.shape[2:]
        frame = Frame.of(self._network.config, height, width, halo)
        planes = guide[0, :, None].contiguous()  # 1 Z H W -> Z 1 H W
        scored, judged = self._scored(frame, planes, noise, buffers)
        scores = nn.functional.pad(scored, (halo, halo, halo, halo))[None]
        self._spare.append(buffers)
        in_focus = None if judged is None else nn.functional.pad(judged, (halo, halo, halo, halo))[None]
        return Scores(scores[:, :, 0], scores[:, :, 1], in_focus)

    def release(self) -> None:
        """Give working memory back; a call in another thread keeps its own until it ends."""
        self._spare.clear()

    def _scored(self, frame: Frame, planes: Tensor, noise: Tensor, buffers: _Buffers) -> tuple[Tensor, Tensor | None]:
        """Both scores of the core, in a buffer, and whether anything is in focus: Z 1 H W -> Z 2 h w, h w."""
        network, config = self._network, self._network.config
        graphs = self._of_frame(frame)
        energies = self._energies(graphs.get("energies"), frame, planes, noise, buffers)  # Z K h w
        told = [energies] if config.focus_windows else []
        cells, bias = self._cells(graphs.get("cells"), frame, planes, noise, buffers)
        features, tokens = self._told(graphs, frame, [planes, *told], cells, (noise, bias), buffers)
        shares = self._attended(graphs, tokens)
        gain = [network.energy_gain_at(noise)[0].contiguous()] if told else []  # 2 K
        near = [_middle(part, *frame.size(frame.rim), 2) for part in (planes, *told)]  # Z c h w each
        near_tokens = _middle(tokens, *(size // config.token_side for size in frame.size(frame.rim)))
        judged, said = None, near_tokens
        if self._coarse is not None:
            judged, said = self._judged(frame, near_tokens), self._coarse.expand(near_tokens).permute(0, 3, 1, 2)
        shared = self._shared(frame, [features, *(part.movedim(1, 3) for part in near)], shares)
        scores = buffers.take("scores", len(planes), 2, *frame.size(0))
        _each_slice(self._lanes, graphs["head"], [planes, features, said, *near[1:]], [shared, *gain], scores)
        return scores, judged

    def _cells(
        self,
        graph: openvino.CompiledModel | None,
        frame: Frame,
        planes: Tensor,
        noise: Tensor,
        buffers: _Buffers,
    ) -> tuple[list[Tensor], Tensor]:
        """What cells of each slice show, Z F h w, and what tokens of all slices are told, 1 D h w (or 1 D 1 1)."""
        network, config = self._network, self._network.config
        if graph is None or self._coarse is None:
            return [], network.embed.bias.detach().reshape(1, -1, 1, 1)  # type: ignore[union-attr]
        size = (side // config.coarse_bin for side in frame.size(frame.inner))
        cells = buffers.take("cells", len(planes), CELL_FEATURES, *size)
        _each_slice(self._lanes, graph, [planes], [(1 / noise).reshape(1, 1, 1, 1)], cells)
        _, of_mean, of_maximum = cell_weights(network)
        told = torch.cat([cells.mean(dim=0), cells.amax(dim=0)])[None]
        weight, bias = torch.cat([of_mean, of_maximum], dim=1), self._coarse.embed.bias
        return [cells], nn.functional.conv2d(told, weight, bias, stride=config.patch)

    def _judged(self, frame: Frame, tokens: Tensor) -> Tensor:
        """Whether anything is in focus in the core, h w: from tokens of it and its rim, Z h w D."""
        assert self._coarse is not None  # noqa: S101 - asked of coarse networks alone
        logits = self._coarse.judge(torch.cat([tokens.mean(dim=0), tokens.amax(dim=0)], dim=-1))[..., 0]
        side = self._network.config.token_side
        return _middle(upsampled(logits[None, None], side)[0, 0], *frame.size(0), 0)

    def graphs(self, height: int, width: int) -> list[openvino.CompiledModel]:
        """All that runs for a window of one size with the network's own halo."""
        frame = Frame.of(self._network.config, height, width, self._network.config.halo)
        return [*self._of_frame(frame).values(), *self._blocks]

    def _energies(
        self, graph: openvino.CompiledModel | None, frame: Frame, planes: Tensor, noise: Tensor, buffers: _Buffers
    ) -> Tensor:
        """Logarithms of energies over the sharpest slice's, as the network is told them; Z 1 H W -> outer Z K h w."""
        windows = len(self._network.config.focus_windows)
        levels = buffers.take("energies", len(planes), windows, *frame.size(frame.outer))
        if graph is not None:
            floor = (WHITE_NOISE_ENERGY * noise.square()).reshape(1, 1, 1, 1)
            _each_slice(self._lanes, graph, [planes], [floor], levels)
            levels.sub_(levels.amax(dim=0))
        return levels

    def _told(
        self,
        graphs: Mapping[str, openvino.CompiledModel],
        frame: Frame,
        sliced: Sequence[Tensor],
        cells: Sequence[Tensor],
        biases: tuple[Tensor, Tensor],
        buffers: _Buffers,
    ) -> tuple[Tensor, Tensor]:
        """Features of the core with its rim, Z h w C, and tokens of the inner part, Z h w D.

        Args:
            graphs: of the frame.
            frame: of the tile.
            sliced: guide Z 1 H W and, if told, energies Z K h w.
            cells: Z F h w, if there is a coarse level.
            biases: the noise, 1, and what is added to every slice's tokens.
            buffers: for both.
        """
        config, (height, width) = self._network.config, frame.size(frame.outer)
        noise, token_bias = biases
        bias = self._network.noise(noise.log()[:, None])[..., None, None].contiguous()  # 1 C -> 1 C 1 1
        slices, grid = len(sliced[0]), [size // config.token_side for size in frame.size(frame.inner)]
        features = buffers.take("features", slices, *frame.size(frame.rim), config.channels)
        tokens = buffers.take("tokens", slices, *grid, config.dim)
        inputs, shown = [each.numpy() for each in sliced], [each.numpy() for each in cells]
        same = bias.numpy(), token_bias.numpy()
        outputs = features.numpy(), tokens.numpy()
        # The coarse level's tokens are made of the inner part alone.
        made_grid = grid if cells else [height // config.token_side, width // config.token_side]

        def lane() -> Callable[[int], None]:
            convolve, embed = _Run(graphs["features"]), _Run(graphs["tokens"])
            made = np.empty((1, height, width, config.channels), np.float32)
            made_tokens = np.empty((1, *made_grid, config.dim), np.float32)

            def tell(z: int) -> None:
                plane, *energies = (each[z : z + 1] for each in inputs)
                convolve([plane, same[0]], made)
                embed([plane, made, *energies, *(each[z : z + 1] for each in shown), same[1]], made_tokens)
                for whole, kept in zip((made, made_tokens), outputs, strict=True):
                    kept[z] = _middle(whole, *kept.shape[1:3])[0]

            return tell

        self._lanes.each(lane, range(slices))
        return features, tokens

    def _attended(self, graphs: Mapping[str, openvino.CompiledModel], tokens: Tensor) -> Tensor:
        """Pass tokens, Z h w D, through all blocks and exchanges, in place.

        Of the last exchange at full resolution only what slices share is returned, h w D: the rest is one step with
        what follows.
        """
        shared = tokens.new_zeros(())
        exchanges = zip(self._blocks, self._swin(), self._exchanges, strict=True)
        for number, (graph, block, exchange) in enumerate(exchanges, 1):
            _attend(self._lanes, graph, block, tokens)
            if self._coarse is not None:
                _each_slice(self._lanes, graphs[f"mixer {number}"], [tokens.clone()], [], tokens)
            shared = _common(exchange, tokens)
            if number < len(self._blocks) or self._coarse is not None:
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
        if self._coarse is not None:
            return shared[None]
        _, weight, bias = token_weights(self._network)
        tokens = _middle(of_tokens[None], height // config.patch, width // config.patch)[0]
        up = nn.functional.linear(tokens, weight, bias).unflatten(2, (config.patch, config.patch, config.channels))
        shared += up.transpose(1, 2).reshape(shared.shape)  # h w (p p C) -> h p w p C -> H W C
        return shared[None]

    def _swin(self) -> Iterator[SwinBlock]:
        for block in (self._coarse or self._network).blocks:
            assert isinstance(block, SwinBlock)  # noqa: S101 - narrows the type
            yield block

    def _framed(self, frame: Frame) -> dict[str, openvino.CompiledModel]:
        network = self._network
        graphs = {
            name: self._compile(build(network, frame))
            for name, build in (("features", feature_graph), ("tokens", token_graph), ("head", head_graph))
        }
        if self._coarse is not None:
            graphs["cells"] = self._compile(cell_graph(network, frame), "f32")
            for number in range(network.config.coarse_depth):
                graphs[f"mixer {number + 1}"] = self._compile(mixer_graph(network, number, frame))
        if network.config.focus_windows:
            graphs["energies"] = self._compile(energy_graph(network, frame), "f32")
        return graphs

    def _compile(self, graph: openvino.Model, hint: str | None = None) -> openvino.CompiledModel:
        return self._core.compile_model(graph, "CPU", {**self._options, "INFERENCE_PRECISION_HINT": hint or self._hint})


_compiled = lru_cache(maxsize=4)(CompiledNetwork)


class _Buffers:
    """Working memory that one call after another may fill anew."""

    def __init__(self) -> None:
        self._kept: dict[str, Tensor] = {}

    def take(self, name: str, *shape: int) -> Tensor:
        """Return a tensor of any values; it must not be used any more when the same name is taken again."""
        size = math.prod(shape)
        if name not in self._kept or len(self._kept[name]) < size:
            self._kept[name] = torch.empty(size)
        return self._kept[name][:size].view(shape)


class _Lanes:
    """Deals items out to threads that outlive a call; within a lane one item comes after the other."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="openvino") if threads > 1 else None

    def each(self, lane: Callable[[], Callable[[int], None]], items: range) -> None:
        """Do something with every item; order and number of lanes must not matter.

        Args:
            lane: makes what does it; called once in each thread, for buffers and requests that lanes cannot share.
            items: numbers of what to do it with.
        """

        def work(share: range) -> None:
            do = lane()
            for item in share:
                do(item)

        if self._pool is None:
            work(items)
            return
        futures = [self._pool.submit(work, items[first :: self._threads]) for first in range(self._threads)]
        wait(futures)  # all of them, failed ones too: they write into memory of the caller's
        for future in futures:
            future.result()


def _each_slice(
    lanes: _Lanes, graph: openvino.CompiledModel, sliced: Sequence[Tensor], shared: Sequence[Tensor], output: Tensor
) -> None:
    """Run a graph for every slice: its inputs are a slice of each in `sliced`, then those in `shared`."""
    inputs, same, made = [each.numpy() for each in sliced], [each.numpy() for each in shared], output.numpy()

    def lane() -> Callable[[int], None]:
        run = _Run(graph)
        return lambda z: run([*(each[z : z + 1] for each in inputs), *same], made[z : z + 1])

    lanes.each(lane, range(len(made)))


def _attend(lanes: _Lanes, graph: openvino.CompiledModel, block: SwinBlock, tokens: Tensor) -> None:
    """Run a block in all windows of all slices, in place; Z h w D."""
    side, margin = block.attn.window_size[0], block.margin
    height, width = tokens.shape[1] - 2 * margin, tokens.shape[2] - 2 * margin
    inner = tokens[:, margin : margin + height, margin : margin + width]
    view = inner.unflatten(2, (-1, side)).unflatten(1, (-1, side)).transpose(2, 3)
    windows = view.numpy()  # Z h' w' s s D, of the same memory
    places = np.indices(windows.shape[:3]).reshape(3, -1)

    def lane() -> Callable[[int], None]:
        run = _Run(graph)
        tokens_in = np.zeros((_WINDOWS, side**2, tokens.shape[3]), np.float32)  # graphs take whole batches
        made = np.empty_like(tokens_in)

        def attend(first: int) -> None:
            chosen = tuple(places[:, first : first + _WINDOWS])
            count = len(chosen[0])
            tokens_in[:count] = windows[chosen].reshape(count, side**2, -1)
            run([tokens_in], made)
            windows[chosen] = made[:count].reshape(count, side, side, -1)

        return attend

    lanes.each(lane, range(0, places.shape[1], _WINDOWS))


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


def _middle(x: _Array, height: int, width: int, axis: int = 1) -> _Array:
    """The middle of an array along an axis, Y, and the one after it, X; a view."""
    top, left = (x.shape[axis] - height) // 2, (x.shape[axis + 1] - width) // 2
    return x[(slice(None),) * axis + (slice(top, top + height), slice(left, left + width))]


class _Run:
    """One request of a graph, on arrays that it reads and fills in place: graphs know dense ones only."""

    def __init__(self, graph: openvino.CompiledModel) -> None:
        self._request = graph.create_infer_request()

    def __call__(self, inputs: Sequence[NDArray[np.float32]], output: NDArray[np.float32]) -> None:
        dense = [np.ascontiguousarray(array) for array in inputs]  # kept until the end: OpenVINO holds no references
        for index, array in enumerate(dense):
            self._request.set_input_tensor(index, openvino.Tensor(array, shared_memory=True))
        self._request.set_output_tensor(0, openvino.Tensor(output, shared_memory=True))
        self._request.infer()
