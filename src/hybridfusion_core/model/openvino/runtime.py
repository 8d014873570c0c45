"""Runs a HybridFusionNet through OpenVINO on a CPU: the same scores in half of PyTorch's time or less.

PyTorch stays the reference, and is not imported. What is small is NumPy's: maxima and means over Z, and what slices
share. Slices, rows and windows are dealt out to threads, each with a stream of OpenVINO's of its own: one graph by all
threads is much slower. Scores of a tile's core are the reference's to within rounding; nearer to the border than
`NetworkConfig.halo` they are not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import openvino

from hybridfusion_core.model.config import CELL_FEATURES
from hybridfusion_core.model.focus_measures import WHITE_NOISE_ENERGY
from hybridfusion_core.model.openvino.coarse_graphs import cell_graph, cell_weights, judge_graph, mixer_graph
from hybridfusion_core.model.openvino.graphs import (
    Frame,
    block_graph,
    energy_graph,
    feature_graph,
    head_graph,
    mixing,
    own_share,
    token_graph,
    token_weights,
)
from hybridfusion_core.model.openvino.running import Buffers, Floats, Run, each_slice
from hybridfusion_core.model.parameters import Parameters
from hybridfusion_core.model.posterior import Scores
from hybridfusion_core.model.threads import Lanes, lanes, thread_count

_WINDOWS = 64  # attended to at a time: their logits stay in a core's cache (measured: 32 and 128 are slower)
_ROWS = 16  # of which means and maxima over Z are taken at a time: they stay in a core's cache, too


def refusal(weights: Parameters, precision: str, threads: int | None) -> str | None:
    """Why a network cannot run here, or None; compiles what does not depend on a tile's size."""
    if weights.config.depth and weights.config.coarse_depth:
        return "it has tokens on two levels"
    try:
        compiled(weights, precision, threads)
    except RuntimeError as error:  # all that OpenVINO raises
        return str(error).strip().splitlines()[-1]
    return None


def compiled(weights: Parameters, precision: str, threads: int | None) -> CompiledNetwork:
    """Return a network ready to run; kept, with its graphs, for the next time.

    Args:
        weights: of the network.
        precision: "auto", "float32" or "bfloat16"; gradient energies are float32 always.
        threads: of OpenVINO; None takes `thread_count`'s choice.
    """
    return _compiled(weights, "bf16" if precision == "bfloat16" else "f32", thread_count(threads))


class CompiledNetwork:
    """A network's graphs, compiled once for each size of a tile. Several threads may call it at once.

    It keeps its working memory for the next tile, because new memory costs a tenth of the time (measured): the system
    hands it out page by page. Call `release` after the last tile.

    Args:
        weights: of the network.
        hint: OpenVINO's name of the precision. Its own choice is bfloat16 wherever the CPU has it.
        threads: not pinned to cores: those of several processes would share the first ones.
    """

    def __init__(self, weights: Parameters, hint: str, threads: int) -> None:
        self._weights, self._hint = weights, hint
        self._options: dict[str, Any] = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": threads,
            "ENABLE_CPU_PINNING": False,
        }
        self._lanes = lanes(threads)
        self._spare: list[Buffers] = []  # of calls that are over
        self._core = openvino.Core()
        config = weights.config
        self._level = "coarse." if config.coarse_depth else ""
        count = config.coarse_depth or config.depth
        self._blocks = [self._compile(block_graph(weights, name, _WINDOWS)) for name in self._names("blocks", count)]
        self._exchanges = list(self._names("exchanges", count))
        self._of_frame = lru_cache(maxsize=9)(self._framed)  # tiles at the far edges of blocks and planes are smaller

    def __call__(self, guide: Floats, noise: float, halo: int) -> Scores:
        """Score every slice at every pixel of a tile's core, as `HybridFusionNet.forward` does.

        Args:
            guide: 1 Z H W, float32, a tile's window; H and W multiples of the lattice.
            noise: standard deviation of the noise in `guide`, > 0.
            halo: of the window around its core; a multiple of the lattice, at least the network's.

        Returns:
            Focus and spread of the core, 1 Z h w each, and in focus or not, 1 h w, if the network says that.
        """
        try:
            buffers = self._spare.pop()
        except IndexError:
            buffers = Buffers()
        height, width = guide.shape[2:]
        frame = Frame.of(self._weights.config, height, width, halo)
        planes = np.ascontiguousarray(guide[0, :, None])  # 1 Z H W -> Z 1 H W
        scores, judged = self._scored(frame, planes, noise, buffers)
        self._spare.append(buffers)
        return Scores(scores[None, :, 0], scores[None, :, 1], judged)

    def release(self) -> None:
        """Give working memory back; a call in another thread keeps its own until it ends."""
        self._spare.clear()

    def _scored(self, frame: Frame, planes: Floats, noise: float, buffers: Buffers) -> tuple[Floats, Floats | None]:
        """Both scores of the core and whether anything is in focus: Z 1 H W -> Z 2 h w, 1 h w."""
        weights, config = self._weights, self._weights.config
        graphs = self._of_frame(frame)
        energies = self._energies(graphs.get("energies"), frame, planes, noise, buffers)  # Z K h w
        told = [energies] if config.focus_windows else []
        cells, bias = self._cells(graphs.get("cells"), frame, planes, noise, buffers)
        features, tokens = self._told(graphs, frame, [planes, *told], cells, (noise, bias), buffers)
        shares = self._attended(graphs, tokens)
        gain = weights["energy_gain"]  # 2 K 2
        gains = [np.ascontiguousarray(gain[..., 0] + math.log(noise) * gain[..., 1])] if told else []
        near = [_middle(part, *frame.size(frame.rim), 2) for part in (planes, *told)]  # Z c h w each
        near_tokens = _middle(tokens, *(size // config.token_side for size in frame.size(frame.rim)))
        judged, said = None, near_tokens
        if config.coarse_depth:
            judged = self._judged(graphs["judge"], frame, near_tokens)
            words = near_tokens @ weights["coarse.expand.weight"].T + weights["coarse.expand.bias"]  # Z h w C+2
            said = np.ascontiguousarray(words.transpose(0, 3, 1, 2))
        shared = self._shared(frame, [features, *(np.moveaxis(part, 1, 3) for part in near)], shares)
        scores = np.empty((len(planes), 2, *frame.size(0)), np.float32)  # not a buffer: whoever called keeps it
        each_slice(self._lanes, graphs["head"], [planes, features, said, *near[1:]], [shared, *gains], scores)
        return scores, judged

    def _cells(
        self,
        graph: openvino.CompiledModel | None,
        frame: Frame,
        planes: Floats,
        noise: float,
        buffers: Buffers,
    ) -> tuple[list[Floats], Floats]:
        """What cells of each slice show, Z F h w, and what tokens of all slices are told, 1 D h w (or 1 D 1 1)."""
        weights, config = self._weights, self._weights.config
        bias = weights[f"{self._level}embed.bias"].reshape(1, -1, 1, 1)
        if graph is None:
            return [], bias
        height, width = (side // config.coarse_bin for side in frame.size(frame.inner))
        cells = buffers.take("cells", len(planes), CELL_FEATURES, height, width)
        each_slice(self._lanes, graph, [planes], [_number(1 / noise)], cells)
        _, of_mean, of_maximum = cell_weights(weights)
        told = np.concatenate(self._over_z([cells], 2), axis=0)  # 2F h w
        weight, side = np.concatenate([of_mean, of_maximum], axis=1), config.patch  # D 2F p p
        parts = told.reshape(len(told), height // side, side, width // side, side)
        every: Floats = np.einsum("fhpwq,dfpq->dhw", parts, weight, optimize=True)[None]
        return [cells], every + bias

    def _judged(self, graph: openvino.CompiledModel, frame: Frame, tokens: Floats) -> Floats:
        """Whether anything is in focus in the core, 1 h w: from tokens of it and its rim, Z h w D."""
        told = np.ascontiguousarray(np.concatenate(self._over_z([tokens], 1), axis=-1)[None])
        judged = np.empty((1, 1, *frame.size(0)), np.float32)
        Run(graph)([told], judged)
        said: Floats = judged[0]
        return said

    def graphs(self, height: int, width: int) -> list[openvino.CompiledModel]:
        """All that runs for a window of one size with the network's own halo."""
        config = self._weights.config
        frame = Frame.of(config, height, width, config.halo)
        return [*self._of_frame(frame).values(), *self._blocks]

    def _energies(
        self, graph: openvino.CompiledModel | None, frame: Frame, planes: Floats, noise: float, buffers: Buffers
    ) -> Floats:
        """Logarithms of energies over the sharpest slice's, as the network is told them; Z 1 H W -> outer Z K h w."""
        levels = buffers.take(
            "energies", len(planes), len(self._weights.config.focus_windows), *frame.size(frame.outer)
        )
        if graph is not None:
            each_slice(self._lanes, graph, [planes], [_number(WHITE_NOISE_ENERGY * noise**2)], levels)

            def less_greatest(rows: slice) -> None:
                part = levels[:, :, rows]
                part -= part.max(axis=0)

            self._lanes.rows(less_greatest, levels.shape[2], _ROWS)
        return levels

    def _told(
        self,
        graphs: Mapping[str, openvino.CompiledModel],
        frame: Frame,
        sliced: Sequence[Floats],
        cells: Sequence[Floats],
        biases: tuple[float, Floats],
        buffers: Buffers,
    ) -> tuple[Floats, Floats]:
        """Features of the core with its rim, Z h w C, and tokens of the inner part, Z h w D.

        Args:
            graphs: of the frame.
            frame: of the tile.
            sliced: guide Z 1 H W and, if told, energies Z K h w.
            cells: Z F h w, if there is a coarse level.
            biases: the noise, and what is added to every slice's tokens.
            buffers: for both.
        """
        config, (height, width) = self._weights.config, frame.size(frame.outer)
        noise, token_bias = biases
        bias = self._weights["noise.weight"][:, 0] * math.log(noise) + self._weights["noise.bias"]
        slices, grid = len(sliced[0]), [size // config.token_side for size in frame.size(frame.inner)]
        features = buffers.take("features", slices, *frame.size(frame.rim), config.channels)
        tokens = buffers.take("tokens", slices, *grid, config.dim)
        same = bias.astype(np.float32).reshape(1, -1, 1, 1), token_bias
        # The coarse level's tokens are made of the inner part alone.
        made_grid = grid if cells else [height // config.token_side, width // config.token_side]

        def lane() -> Callable[[int], None]:
            convolve, embed = Run(graphs["features"]), Run(graphs["tokens"])
            made = np.empty((1, height, width, config.channels), np.float32)
            made_tokens = np.empty((1, *made_grid, config.dim), np.float32)

            def tell(z: int) -> None:
                plane, *energies = (each[z : z + 1] for each in sliced)
                convolve([plane, same[0]], made)
                embed([plane, made, *energies, *(each[z : z + 1] for each in cells), same[1]], made_tokens)
                for whole, kept in zip((made, made_tokens), (features, tokens), strict=True):
                    kept[z] = _middle(whole, *kept.shape[1:3])[0]

            return tell

        self._lanes.each(lane, range(slices))
        return features, tokens

    def _attended(self, graphs: Mapping[str, openvino.CompiledModel], tokens: Floats) -> Floats:
        """Pass tokens, Z h w D, through all blocks and exchanges, in place.

        Of the last exchange at full resolution only what slices share is returned, h w D: the rest is one step with
        what follows.
        """
        weights, config = self._weights, self._weights.config
        shared = np.zeros(1, np.float32)
        for number, (graph, exchange) in enumerate(zip(self._blocks, self._exchanges, strict=True), 1):
            margin = config.window // 2 if config.shifted(number - 1) else 0
            _attend(self._lanes, graph, (config.window, margin), tokens)
            if config.coarse_depth:
                each_slice(self._lanes, graphs[f"mixer {number}"], [tokens.copy()], [], tokens)
            _, of_mean, of_maximum = np.split(weights[f"{exchange}.weight"], 3, axis=1)
            mean, maximum = self._over_z([tokens], 1)
            shared = mean @ of_mean.T + maximum @ of_maximum.T + weights[f"{exchange}.bias"]
            if number < len(self._blocks) or config.coarse_depth:
                self._keep(own_share(weights, exchange).T, shared, tokens)
        return shared

    def _keep(self, share: Floats, shared: Floats, tokens: Floats) -> None:
        """Replace every token of Z h w D by its own share, D D, and what all slices of its location share, h w D."""

        def lane() -> Callable[[int], None]:
            def keep(z: int) -> None:
                tokens[z] = tokens[z] @ share + shared

            return keep

        self._lanes.each(lane, range(len(tokens)))

    def _over_z(self, parts: Sequence[Floats], axis: int) -> tuple[Floats, Floats]:
        """Mean and maximum over Z of arrays Z …, side by side along the last axis but for one array; `axis` is Y's."""
        size = parts[0].shape[axis]
        (shape,) = {part.shape[1:-1] for part in parts}
        mean, maximum = (np.empty((*shape, sum(part.shape[-1] for part in parts)), np.float32) for _ in range(2))
        ends = np.cumsum([0, *(part.shape[-1] for part in parts)])

        def fold(rows: slice) -> None:
            place = (slice(None),) * (axis - 1) + (rows,)
            for part, first, last in zip(parts, ends, ends[1:], strict=False):
                chosen = part[(slice(None), *place)]
                mean[place][..., first:last] = chosen.mean(axis=0)
                maximum[place][..., first:last] = chosen.max(axis=0)

        self._lanes.rows(fold, size, _ROWS)
        return mean, maximum

    def _shared(self, frame: Frame, parts: Sequence[Floats], of_tokens: Floats) -> Floats:
        """What is added to every slice's mixture, of the core with its rim, 1 h w C.

        Args:
            frame: of the tile.
            parts: Z h w c each, together C+1+K, of the core with its rim; their means and maxima count.
            of_tokens: what slices share in the last exchange, of the inner part, h w D.
        """
        config, (height, width) = self._weights.config, frame.size(frame.rim)
        _, of_mean, of_maximum, _ = (part[:, :, 0, 0] for part in mixing(self._weights))
        mean, maximum = self._over_z(parts, 1)
        shared = mean @ of_mean.T + maximum @ of_maximum.T + self._weights["mix.bias"]
        if not config.coarse_depth:
            _, weight, bias = token_weights(self._weights)
            tokens = _middle(of_tokens[None], height // config.patch, width // config.patch)[0]
            up = (tokens @ weight.T + bias).reshape(*tokens.shape[:2], config.patch, config.patch, config.channels)
            shared += up.transpose(0, 2, 1, 3, 4).reshape(shared.shape)  # h w p p C -> h p w p C -> H W C
        return shared[None]

    def _names(self, kind: str, count: int) -> Iterator[str]:
        return (f"{self._level}{kind}.{index}" for index in range(count))

    def _framed(self, frame: Frame) -> dict[str, openvino.CompiledModel]:
        weights, config = self._weights, self._weights.config
        graphs = {
            name: self._compile(build(weights, frame))
            for name, build in (("features", feature_graph), ("tokens", token_graph), ("head", head_graph))
        }
        if config.coarse_depth:
            graphs["cells"] = self._compile(cell_graph(weights, frame), "f32")
            graphs["judge"] = self._compile(judge_graph(weights, frame), "f32")
            for number in range(config.coarse_depth):
                graphs[f"mixer {number + 1}"] = self._compile(mixer_graph(weights, number, frame))
        if config.focus_windows:
            graphs["energies"] = self._compile(energy_graph(weights, frame), "f32")
        return graphs

    def _compile(self, graph: openvino.Model, hint: str | None = None) -> openvino.CompiledModel:
        return self._core.compile_model(graph, "CPU", {**self._options, "INFERENCE_PRECISION_HINT": hint or self._hint})


_compiled = lru_cache(maxsize=4)(CompiledNetwork)


def _attend(lanes: Lanes, graph: openvino.CompiledModel, frame: tuple[int, int], tokens: Floats) -> None:
    """Run a block in all windows of all slices, in place; Z h w D. Frame: side of a window, tokens that none covers."""
    side, margin = frame
    height, width = tokens.shape[1] - 2 * margin, tokens.shape[2] - 2 * margin
    inner = tokens[:, margin : margin + height, margin : margin + width]
    slices, dim = len(tokens), tokens.shape[3]
    # A view, since only axes are split: Z h' w' s s D.
    windows = inner.reshape(slices, height // side, side, width // side, side, dim, copy=False).swapaxes(2, 3)
    places = np.indices(windows.shape[:3]).reshape(3, -1)

    def lane() -> Callable[[int], None]:
        run = Run(graph)
        tokens_in = np.zeros((_WINDOWS, side**2, dim), np.float32)  # graphs take whole batches
        made = np.empty_like(tokens_in)

        def attend(first: int) -> None:
            chosen = tuple(places[:, first : first + _WINDOWS])
            count = len(chosen[0])
            tokens_in[:count] = windows[chosen].reshape(count, side**2, -1)
            run([tokens_in], made)
            windows[chosen] = made[:count].reshape(count, side, side, -1)

        return attend

    lanes.each(lane, range(0, places.shape[1], _WINDOWS))


def _middle(x: Floats, height: int, width: int, axis: int = 1) -> Floats:
    """The middle of an array along an axis, Y, and the one after it, X; a view."""
    top, left = (x.shape[axis] - height) // 2, (x.shape[axis + 1] - width) // 2
    return x[(slice(None),) * axis + (slice(top, top + height), slice(left, left + width))]


def _number(value: float) -> Floats:
    return np.full((1, 1, 1, 1), value, np.float32)
