"""The loop over a stack: measure the field, then block by block and tile by tile.

It knows arrays that can be read and written by region, and nothing of files.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.fusion.blank_slices import BlankSlices, kept_slices
from hybridfusion_core.fusion.block import Planes, guide_planes, read_planes
from hybridfusion_core.fusion.device_settings import device_settings
from hybridfusion_core.fusion.job import Decider, Job
from hybridfusion_core.fusion.light_of_slices import light_collector, with_light
from hybridfusion_core.fusion.products import PRODUCTS
from hybridfusion_core.fusion.tile import FusedTile, Plane, fuse_tile
from hybridfusion_core.fusion.tiles import Rect, Span, blocks, spans, tiles
from hybridfusion_core.fusion.window import score_window
from hybridfusion_core.model.arrays import to_numpy
from hybridfusion_core.model.noise import FieldStatistics, NoiseModel, StatisticsCollector
from hybridfusion_core.progress import Progress
from hybridfusion_core.stack import Stack


def measure(job: Job, stack: Stack) -> Generator[Progress, None, list[list[FieldStatistics]]]:
    """Read everything once: the noise and contrast of every field, and whether any pixel is NaN or infinite.

    Returns:
        (on exhaustion) one list per time point with one `FieldStatistics` per decider.

    Raises:
        UserInputError: a pixel is NaN or infinite, and such pixels are not to be ignored.
    """
    statistics: list[list[FieldStatistics]] = []
    if not job.method.decides:
        return [[] for _ in range(stack.shape[0])]
    camera = job.request.camera
    known = None if camera is None else NoiseModel(camera.offset, camera.read_noise**2, camera.gain)
    cores = list(blocks(stack.shape[3:], job.plan.block, job.geometry))
    steps = _Steps("measuring", job, stack)
    for t in range(stack.shape[0]):
        found = []
        for decider in job.deciders:
            collector = StatisticsCollector(1 if stack.rgb else len(decider.guide), stack.shape[3:], len(job.slices))
            blank, light = BlankSlices(math.prod(stack.shape[3:])), light_collector(job, stack, decider)
            for first, slices in _batches(job, stack):
                for core in cores:
                    planes = read_planes(job, stack, t, decider, core, slices, with_halo=False)
                    for index, counts in enumerate(guide_planes(stack, decider, planes)):
                        for number, plane in enumerate(counts):  # a slice's share of scratch memory, not a stack's
                            collector.add(index, plane[np.newaxis], core.y.start, core.x.start, first + number)
                            light.add(index, first + number, plane, core.y.start, core.x.start)
                    for channel, number in itertools.product(planes, range(len(slices))):
                        blank.add(channel, slices[number], planes[channel][number])
                    yield steps.add(core, decider, len(slices))
            without = {job.slices.index(number) for number in blank.without_guide(job, decider, in_any=True)}
            measured = job.request.stats or collector.finish(known, without)
            found.append(with_light(job, light, blank.applied(job, decider, measured)))
        statistics.append(found)
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
) -> Generator[Progress]:
    """Fuse a whole stack into arrays, yielding after each tile.

    Args:
        job: what to do.
        stack: what to fuse.
        statistics: what `measure` returned.
        arrays: "fused", and "decision" and "maps" if requested, T C Z Y X each; whole blocks are assigned to them.
    """
    follows = (yield from _followed(job, stack, statistics)) if job.groups or job.needs_field else None
    steps = _Steps("fusing", job, stack)
    cores = list(blocks(stack.shape[3:], job.plan.block, job.geometry))
    order = list(itertools.product(range(stack.shape[0]), range(len(job.deciders)), cores))
    with device_settings(job), _beside() as beside:  # the next block is read, and the last one written, meanwhile

        def reading(t: int, number: int, core: Rect) -> Future[Planes]:
            return beside.submit(read_planes, job, stack, t, job.deciders[number], core, job.slices, with_halo=True)

        ahead, writing = reading(*order[0]), None
        for place, following in itertools.zip_longest(order, order[1:]):
            (t, number, core), planes = place, ahead.result()
            if following is not None:
                ahead = reading(*following)
            decider, measured = job.deciders[number], statistics[t][number] if statistics[t] else None
            made = _Block(job, decider, core)
            for tile in tiles(core, job.plan.tile, job.geometry):
                cut = {
                    channel: counts[:, tile.y.window_in(core.y), tile.x.window_in(core.x)]
                    for channel, counts in planes.items()
                }
                wanted = (None,) if follows is None else follows(t, number, tile)
                for plane, fused in enumerate(fuse_tile(job, stack, decider, cut, measured, tile, wanted)):
                    made.take(tile, plane, fused)
                yield steps.add(tile, decider)
            if writing is not None:
                writing.result()
            writing = beside.submit(made.write, arrays, t)
        if writing is not None:
            writing.result()


def _followed(
    job: Job, stack: Stack, statistics: list[list[FieldStatistics]]
) -> Generator[Progress, None, Callable[[int, int, Rect], Sequence[Plane | None]]]:
    """Look through the field for what the planes of the result follow; what each takes of a tile's slices."""
    from hybridfusion_core.fusion.sheets import find_sheets, planes_for  # whose libraries few fusions need

    sheets = yield from find_sheets(job, stack, statistics)
    return lambda t, number, tile: planes_for(job, statistics[t][number], sheets[t][number], tile)


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
    with device_settings(job):
        for number, decider in enumerate(job.deciders):
            planes = read_planes(job, stack, t, decider, rect, job.slices, with_halo=True)
            measured = statistics[number] if statistics else None
            fused.update(fuse_tile(job, stack, decider, planes, measured, rect)[0].fused)
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
    with device_settings(job):
        planes = read_planes(job, stack, t, decider, rect, job.slices, with_halo=True)
        window = score_window(job, stack, decider, planes, statistics[number])
    posterior = np.zeros(len(job.slices), dtype=np.float32)
    at = window.part(slice(y - y0, y - y0 + 1), slice(x - x0, x - x0 + 1))
    posterior[kept_slices(job, statistics[number])] = to_numpy(at.posterior())[:, 0, 0]
    return posterior


def _span(job: Job, part: slice) -> Span:
    core = job.geometry.round_up(part.stop - part.start)
    return spans(part.start, part.stop, core, job.geometry)[0]


class _Block:
    """Products of a block, gathered so that each array is written once and in whole write units."""

    def __init__(self, job: Job, decider: Decider, core: Rect) -> None:
        self._job, self._decider, self._core = job, decider, core
        self._parts: dict[tuple[str, tuple[int, int]], NDArray[Any]] = {}

    def take(self, tile: Rect, plane: int, made: FusedTile) -> None:
        for channel, fused in made.fused.items():
            self._put(tile, "fused", (self._job.channels.index(channel), plane), fused)
        maps = [name for name in made.explained if PRODUCTS[name].kind == "map"]
        for position, (name, values) in itertools.product(self._positions(), made.explained.items()):
            if name in maps:
                self._put(tile, "maps", (maps.index(name) * self._job.decision_count + position, plane), values)
            else:
                self._put(tile, name, (position, plane), values)

    def write(self, arrays: Mapping[str, Any], t: int) -> None:
        for (name, (channel, plane)), values in self._parts.items():
            arrays[name][t, channel, plane, self._core.y.core, self._core.x.core] = values

    def _positions(self) -> list[int]:
        """Where this decider's maps stand along C."""
        if self._job.decision_count == 1:
            return [0]
        return [self._job.channels.index(channel) for channel in self._decider.serves]

    def _put(self, tile: Rect, name: str, place: tuple[int, int], values: NDArray[Any]) -> None:
        y, x = self._core.y, self._core.x
        whole = self._parts.setdefault(
            (name, place), np.empty((y.stop - y.start, x.stop - x.start), dtype=values.dtype)
        )
        whole[tile.y.core_in(y), tile.x.core_in(x)] = values


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
