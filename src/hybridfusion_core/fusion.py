"""The one loop that fuses: measure the field, then block by block and tile by tile.

It knows arrays that can be read and written by region, and nothing of files.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hybridfusion_core import blend
from hybridfusion_core.devices import OPENVINO, limited_threads
from hybridfusion_core.focus_measures import has_structure, laplacian_energy, tenengrad
from hybridfusion_core.intensity import FieldStatistics, NoiseModel, StatisticsCollector
from hybridfusion_core.planes import Planes, fill, guide_planes, read_planes
from hybridfusion_core.progress import Progress
from hybridfusion_core.request import PROJECTIONS, Decider, Job
from hybridfusion_core.stack import Stack
from hybridfusion_core.tiles import Rect, Span, blocks, spans, tiles

if TYPE_CHECKING:  # the network's libraries take seconds to import, and OpenVINO need not be installed
    from hybridfusion_core.network import HybridFusionNet
    from hybridfusion_core.openvino_runtime import CompiledNetwork

_CLASSICAL_SHARPNESS = 4.0  # classical weights are energies to this power


def measure(job: Job, stack: Stack) -> Generator[Progress, None, list[list[FieldStatistics]]]:
    """Read everything once: the noise and contrast of every field, and whether each pixel is a number.

    Returns:
        (on exhaustion) one list per time point with one `FieldStatistics` per decider.

    Raises:
        UserInputError: a pixel is no number, and that was not to be ignored.
    """
    statistics: list[list[FieldStatistics]] = []
    if job.request.method in PROJECTIONS:
        return [[] for _ in range(stack.shape[0])]
    camera = job.request.camera
    known = None if camera is None else NoiseModel(camera.offset, camera.read_noise**2, camera.gain)
    cores = list(blocks(stack.shape[3:], job.plan.block, job.geometry))
    steps = _Steps("measuring", job, stack)
    for t in range(stack.shape[0]):
        of_deciders = []
        for decider in job.deciders:
            collector = StatisticsCollector(1 if stack.rgb else len(decider.guide), stack.shape[3:], len(job.slices))
            for first, slices in _batches(job, stack):
                for core in cores:
                    planes = read_planes(job, stack, t, decider, core, slices, with_halo=False)
                    for index, counts in enumerate(guide_planes(stack, decider, planes)):
                        for number, plane in enumerate(counts):  # a slice's share of scratch memory, not a stack's
                            collector.add(index, plane[np.newaxis], core.y.start, core.x.start, first + number)
                    yield steps.add(core, decider, len(slices))
            of_deciders.append(job.request.stats or collector.finish(known))
        statistics.append(of_deciders)
    return statistics


def _batches(job: Job, stack: Stack) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Slices to measure at a time, each batch with the number of its first one.

    Whole planes that are decoded together, if they are decoded as a whole; otherwise all slices of a block.
    """
    unit = stack.decode_unit
    depth = unit[2] if unit is not None and unit[3:] == stack.shape[3:] else stack.shape[2]
    first = 0
    for _, group in itertools.groupby(job.slices, key=lambda index: index // depth):
        slices = tuple(group)
        yield first, slices
        first += len(slices)


def run(
    job: Job, stack: Stack, statistics: list[list[FieldStatistics]], arrays: Mapping[str, Any]
) -> Iterator[Progress]:
    """Fuse a whole stack into arrays, yielding after each tile.

    Args:
        job: what to do.
        stack: what to fuse.
        statistics: what `measure` returned.
        arrays: "fused", "decision" and "maps" as far as they are wanted, T C 1 Y X each; whole blocks are
            assigned to them.
    """
    steps = _Steps("fusing", job, stack)
    cores = list(blocks(stack.shape[3:], job.plan.block, job.geometry))
    order = list(itertools.product(range(stack.shape[0]), range(len(job.deciders)), cores))
    with _settings(job), _beside() as beside:  # the next block is read, and the last one written, meanwhile

        def reading(t: int, number: int, core: Rect) -> Future[Planes]:
            return beside.submit(read_planes, job, stack, t, job.deciders[number], core, job.slices, with_halo=True)

        ahead, writing = reading(*order[0]), None
        for place, following in itertools.zip_longest(order, order[1:]):
            (t, number, core), planes = place, ahead.result()
            if following is not None:
                ahead = reading(*following)
            decider, measured = job.deciders[number], statistics[t][number] if statistics[t] else None
            made = _Block(job, stack, decider, core)
            for tile in tiles(core, job.plan.tile, job.geometry):
                cut = {
                    channel: counts[:, tile.y.window_in(core.y), tile.x.window_in(core.x)]
                    for channel, counts in planes.items()
                }
                made.take(tile, _fuse_tile(job, stack, decider, cut, measured, tile))
                yield steps.add(tile, decider)
            if writing is not None:
                writing.result()
            writing = beside.submit(made.write, arrays, t)
        if writing is not None:
            writing.result()


@contextmanager
def _beside() -> Iterator[ThreadPoolExecutor]:
    """Give a thread that does one thing after the other; what it has not begun at the end is not done."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="blocks")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def fuse_region(
    job: Job, stack: Stack, statistics: list[FieldStatistics], t: int, y: slice, x: slice
) -> dict[int, NDArray[Any]]:
    """Fuse one rectangle of one time point, in one tile: the pixels that `run` gives there.

    Args:
        job: what to do.
        stack: what to fuse; the rectangle is read with its halo.
        statistics: of the time point's whole field, one for each decider; others give a guess.
        t: time point.
        y: rows; the first one is a multiple of the lattice.
        x: columns, likewise.

    Returns:
        Fused pixels by channel, Y X each.
    """
    rect, fused = Rect(_span(job, y), _span(job, x)), {}
    with _settings(job):
        for number, decider in enumerate(job.deciders):
            planes = read_planes(job, stack, t, decider, rect, job.slices, with_halo=True)
            measured = statistics[number] if statistics else None
            fused.update(_fuse_tile(job, stack, decider, planes, measured, rect).fused)
    return fused


def posterior_at(
    job: Job, stack: Stack, statistics: list[FieldStatistics], decision: int, place: tuple[int, int, int]
) -> NDArray[np.float32]:
    """Return how probable each slice is to be the sharpest at one pixel.

    Args:
        job: as a result was made; its method decides.
        stack: what it was made of; a lattice cell is read with its halo.
        statistics: of the time point's whole field, one for each decider.
        decision: index along C of the decision.
        place: t, y, x.

    Returns:
        One number in [0, 1] for each of the job's slices, in sum one.
    """
    t, y, x = place
    served = job.channels[decision]
    number = next(index for index, decider in enumerate(job.deciders) if served in decider.serves)
    lattice = job.geometry.lattice
    y0, x0 = y // lattice * lattice, x // lattice * lattice
    rect = Rect(_span(job, slice(y0, y0 + lattice)), _span(job, slice(x0, x0 + lattice)))
    decider = job.deciders[number]
    with _settings(job), torch.inference_mode():
        planes = read_planes(job, stack, t, decider, rect, job.slices, with_halo=True)
        posterior, _, _ = _score_window(job, stack, decider, planes, statistics[number])
    return np.asarray(posterior[:, y - rect.y.low, x - rect.x.low].cpu().numpy())


def _span(job: Job, part: slice) -> Span:
    core = job.geometry.round_up(part.stop - part.start)
    return spans(part.start, part.stop, core, job.geometry)[0]


@dataclass(frozen=True)
class _Tile:
    """Products of one tile's core: fused by channel, the rest by name, Y X each."""

    fused: dict[int, NDArray[Any]]
    decision: NDArray[np.uint16] | None
    maps: dict[str, NDArray[np.float32]]


class _Block:
    """Products of a block, gathered so that each array is written once and in whole write units."""

    def __init__(self, job: Job, stack: Stack, decider: Decider, core: Rect) -> None:
        self._job, self._stack, self._decider, self._core = job, stack, decider, core
        self._parts: dict[tuple[str, int], NDArray[Any]] = {}

    def take(self, tile: Rect, made: _Tile) -> None:
        for channel, fused in made.fused.items():
            self._put(tile, "fused", self._job.channels.index(channel), fused)
        for position in self._positions():
            if made.decision is not None:
                self._put(tile, "decision", position, made.decision)
            for kind, values in enumerate(made.maps.values()):
                self._put(tile, "maps", kind * decision_count(self._job) + position, values)

    def write(self, arrays: Mapping[str, Any], t: int) -> None:
        for (name, channel), values in self._parts.items():
            arrays[name][t, channel, 0, self._core.y.core, self._core.x.core] = values

    def _positions(self) -> list[int]:
        """Where this decider's maps stand along C."""
        if decision_count(self._job) == 1:
            return [0]
        return [self._job.channels.index(channel) for channel in self._decider.serves]

    def _put(self, tile: Rect, name: str, channel: int, values: NDArray[Any]) -> None:
        y, x = self._core.y, self._core.x
        whole = self._parts.setdefault(
            (name, channel), np.empty((y.stop - y.start, x.stop - x.start), dtype=values.dtype)
        )
        whole[tile.y.core_in(y), tile.x.core_in(x)] = values


def decision_count(job: Job) -> int:
    """Length of C of the decision and of each map: 1 when one decision serves all channels."""
    return 1 if len(job.deciders) == 1 else len(job.channels)


def _fuse_tile(
    job: Job, stack: Stack, decider: Decider, planes: Planes, statistics: FieldStatistics | None, tile: Rect
) -> _Tile:
    core = (slice(None), tile.y.core_in_window, tile.x.core_in_window)
    served = {channel: planes[channel][core] for channel in decider.serves}
    if statistics is None:
        return _Tile({channel: project(job.request.method, counts) for channel, counts in served.items()}, None, {})
    with torch.inference_mode():
        posterior, weights, structure = _score_window(job, stack, decider, planes, statistics)
        posterior, weights = posterior[core], weights[core]
        if job.request.select == "hard":
            weights = torch.zeros_like(posterior).scatter_(0, blend.most_probable(posterior[None]), 1)
        fused = {channel: _fuse(job, posterior, weights, counts) for channel, counts in served.items()}
        if structure is None:
            return _Tile(fused, None, {})
        decision, maps = _explain(job, stack, posterior, weights, structure[core[1:]])
    return _Tile(fused, decision, maps)


def _score_window(
    job: Job, stack: Stack, decider: Decider, planes: Planes, statistics: FieldStatistics
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Posterior and weights of a window, Z h w each, and where it has structure, h w, if a product needs that."""
    guide, invalid = fill(statistics.guide(guide_planes(stack, decider, planes)))
    stacked = torch.from_numpy(guide)[None].to(job.device)  # Z h w -> 1 Z h w
    noise = torch.tensor([statistics.noise], dtype=torch.float32, device=job.device)
    posterior, weights, in_focus = score(job, decider, stacked, noise)
    posterior, weights, structure = posterior[0], weights[0], None
    if job.products != ("fused",):
        structure = (has_structure(stacked, noise) if in_focus is None else in_focus > blend.IN_FOCUS)[0]
    if invalid is not None:
        blocked = torch.from_numpy(invalid).to(job.device)
        posterior = posterior.masked_fill(blocked, 0)
        structure = None if structure is None else structure & ~blocked.all(dim=0)
    return posterior, weights, structure


def score(job: Job, decider: Decider, guide: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """Focus posterior, fusion weights and whether anything is in focus, by the job's method.

    Args:
        job: says which method, and how.
        decider: whose guide it is; says which network.
        guide: 1 Z h w; h and w multiples of the lattice.
        noise: 1, standard deviation of the noise in `guide`.

    Returns:
        1 Z h w each, in [0, 1], sum one over Z; and the probability that anything is in focus, 1 h w, if the method
        says that.
    """
    if decider.model is None:
        measure_focus = tenengrad if job.request.method == "tenengrad" else laplacian_energy
        energy = torch.empty_like(guide)  # and in place: a deep stack fills memory faster than it is computed
        for z, plane in enumerate(guide.unbind(dim=1)):
            energy[:, z] = measure_focus(plane)
        posterior = energy.clamp_(min=torch.finfo(energy.dtype).tiny).log_().mul_(_CLASSICAL_SHARPNESS).softmax(dim=1)
        return posterior, posterior, None
    network = decider.model.network
    if job.runtime.package == OPENVINO:
        scores = _compiled(job, network)(guide, noise, job.geometry.halo)
    else:
        low = job.request.precision == "bfloat16"
        with torch.autocast(job.device.type, dtype=torch.bfloat16) if low else nullcontext():
            scores = network(guide, noise, job.plan.z_chunk)
    scores = type(scores)(*(None if part is None else part.float() for part in scores))
    in_focus = None if scores.in_focus is None else blend.in_focus_probability(scores, network.in_focus_line)
    return blend.focus_posterior(scores, network.temperature), blend.fusion_weights(scores), in_focus


def _compiled(job: Job, network: HybridFusionNet) -> CompiledNetwork:
    from hybridfusion_core.openvino_runtime import compiled  # noqa: PLC0415 - which need not be installed

    return compiled(network, job.request.precision, job.request.threads)


def _fuse(job: Job, posterior: Tensor, weights: Tensor, counts: NDArray[Any]) -> NDArray[Any]:
    """Fuse one channel's counts, Z Y X, in its own dtype."""
    valid = np.isfinite(counts) if job.request.nan == "ignore" and counts.dtype.kind == "f" else None
    if valid is not None and valid.all():
        valid = None
    if job.request.select == "hard":
        if valid is not None:
            posterior = posterior.masked_fill(torch.from_numpy(~valid).to(posterior.device), -1)
        chosen = blend.most_probable(posterior[None]).cpu().numpy()
        return np.asarray(np.take_along_axis(counts, chosen, axis=0)[0])
    # float32 holds neither every uint32 nor a float64; such counts are added up on the CPU.
    wide = counts.dtype.itemsize > 4 or counts.dtype == np.uint32
    slices = torch.from_numpy(counts.astype(np.float64 if wide else np.float32))
    weights = weights.cpu().double() if wide else weights
    slices = slices.to(weights.device)
    if valid is None:
        fused = blend.fuse_soft(weights[None], slices[None])[0]
    else:
        fused = blend.fuse_valid(weights[None], slices[None], torch.from_numpy(valid).to(weights.device)[None])[0]
    return to_dtype(fused.cpu().numpy(), counts.dtype)


def project(method: str, counts: NDArray[Any]) -> NDArray[Any]:
    """Mean, maximum or sum over the slices.

    Args:
        method: "mean" and "max" keep the dtype, "sum" gives float32.
        counts: Z Y X.
    """
    if method == "max":
        return np.asarray(counts.max(axis=0))
    if method == "sum":
        return np.asarray(counts.sum(axis=0, dtype=np.float64), dtype=np.float32)
    return to_dtype(counts.mean(axis=0, dtype=np.float64), counts.dtype)


def to_dtype(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Round for integer images only, and only at the very end."""
    return np.asarray(np.rint(values) if dtype.kind in "iu" else values).astype(dtype)


def _explain(
    job: Job, stack: Stack, posterior: Tensor, weights: Tensor, structure: Tensor
) -> tuple[NDArray[np.uint16] | None, dict[str, NDArray[np.float32]]]:
    """Decision and maps of a tile's core, Y X each; posterior and weights Z Y X, structure Y X."""
    likely, visible = posterior[None], structure[None]
    # Slices are numbered as in the file, also when only some of them are fused.
    numbers = np.array((0, *(index + 1 for index in job.slices)), dtype=np.uint16)
    decision = numbers[blend.decision_mask(likely, visible)[0].cpu().numpy()]
    maps: dict[str, Tensor] = {}
    if "height" in job.products:
        known = np.arange(stack.shape[2]) if stack.z_um is None else stack.z_um
        positions = torch.tensor(known[list(job.slices)], dtype=torch.float32, device=posterior.device)
        maps["height"] = blend.height_map(likely, visible, positions)
    if "confidence" in job.products:
        maps["confidence"] = blend.confidence_map(likely, visible)
    if "noise_gain" in job.products:
        maps["noise_gain"] = blend.noise_gain(weights[None])
    arrays = {name: values[0].cpu().numpy() for name, values in maps.items()}
    return (decision if "decision" in job.products else None), arrays


@contextmanager
def _settings(job: Job) -> Iterator[None]:
    """Run a job's networks where and how it says."""
    with ExitStack() as settings:
        settings.enter_context(limited_threads(job.request.threads))
        if job.device.type == "cuda":
            # TF32 has the mantissa of bfloat16: float32 must mean float32 on every device.
            settings.enter_context(torch.backends.cudnn.flags(enabled=True, allow_tf32=False))
        for model in job.models:
            model.network.to(job.device)
            if job.runtime.package == OPENVINO:
                settings.callback(_compiled(job, model.network).release)
        yield


class _Steps:
    """Counts pixels × slices."""

    def __init__(self, stage: str, job: Job, stack: Stack) -> None:
        t, _, _, y, x = stack.shape
        self._stage, self._slices, self._done = stage, len(job.slices), 0
        self._total = t * y * x * self._slices * sum(len(decider.serves) for decider in job.deciders)

    def add(self, core: Rect, decider: Decider, slices: int | None = None) -> Progress:
        area = (core.y.stop - core.y.start) * (core.x.stop - core.x.start)
        self._done += area * (self._slices if slices is None else slices) * len(decider.serves)
        return Progress(self._stage, self._done, self._total)
