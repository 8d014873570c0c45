"""The part of a stack that is looked at: a few tiles over the plane, scored once, so that any size takes minutes.

The first time point and the channels that decide first; a tile has all slices.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.fusion.blank_slices import BlankSlices, kept_slices
from hybridfusion_core.fusion.block import Planes, guide_planes, read_planes
from hybridfusion_core.fusion.device_settings import device_settings
from hybridfusion_core.fusion.job import Decider, Job
from hybridfusion_core.fusion.tiles import Rect, Span
from hybridfusion_core.fusion.window import score_window
from hybridfusion_core.model.arrays import to_numpy
from hybridfusion_core.model.focus_measures import WHITE_NOISE_ENERGY, has_structure, tenengrad
from hybridfusion_core.model.noise import CELL, FieldStatistics, NoiseModel, StatisticsCollector
from hybridfusion_core.progress import Progress
from hybridfusion_core.stack import Stack

TILE = 256  # px, core
MOST_TILES = 9
_BUDGET = 16_000_000  # pixels × slices that are looked at, if a single tile is not more


@dataclass(frozen=True)
class Tile:
    """One tile and what the method says of it; Z is the slices that hold something.

    Attributes:
        rect: where it lies.
        planes: of its window, Z h w by channel, all of the job's slices.
        counts: of its core by channel, Z Y X.
        guide: Z Y X, contrast of order one.
        energy: Z Y X, Tenengrad's energy of the guide above that of noise.
        structure: Y X, bool, some slice shows more than noise.
        posterior: Z Y X, sum one.
        in_focus: Y X, bool.
        fused: Y X, first channel that decides.
    """

    rect: Rect
    planes: Planes
    counts: dict[int, NDArray[Any]]
    guide: NDArray[np.float32]
    energy: NDArray[np.float32]
    structure: NDArray[np.bool_]
    posterior: NDArray[np.float32]
    in_focus: NDArray[np.bool_]
    fused: NDArray[np.float32]


@dataclass(frozen=True)
class LookedAt:
    """A stack as far as it was looked at.

    Attributes:
        stack: it.
        job: how it would be fused.
        decider: whose channels were looked at.
        statistics: of all tiles together.
        tiles: spread evenly over the plane.
    """

    stack: Stack
    job: Job
    decider: Decider
    statistics: FieldStatistics
    tiles: tuple[Tile, ...]

    @property
    def slices(self) -> NDArray[np.intp]:
        """Indices in the file of the slices that hold something."""
        return np.asarray(self.job.slices)[kept_slices(self.job, self.statistics)]

    @property
    def step_um(self) -> float | None:
        """Median distance between neighbouring slices, or None if the file does not say."""
        z = self.stack.z_um
        return None if z is None or len(self.slices) < 2 else float(np.median(np.abs(np.diff(z[self.slices]))))

    @property
    def transmitted(self) -> bool:
        """Whether it is fused as transmitted light: its contrast is strong on both sides of focus, and weak in it."""
        return all(self.stack.channels[index].transmitted for index in self.decider.guide)

    @property
    def share(self) -> float:
        """Part of the plane that was looked at."""
        area = sum(tile.in_focus.size for tile in self.tiles)
        return area / math.prod(self.stack.shape[3:])


def look(job: Job, stack: Stack, tiles: int | None = None) -> Iterator[Progress | LookedAt]:
    """Read and score a few tiles of a stack, yielding progress and, last of all, what was seen.

    Args:
        job: how it would be fused, by a method that decides.
        stack: what is looked at.
        tiles: how many at most; None plans them.
    """
    decider = job.deciders[0]
    places = spread_tiles(job, stack, tiles)
    windows = []
    collector = StatisticsCollector(1 if stack.rgb else len(decider.guide), stack.shape[3:], len(job.slices))
    blank = BlankSlices(sum((r.y.stop - r.y.start) * (r.x.stop - r.x.start) for r in places))
    for rect in places:
        planes = read_planes(job, stack, 0, decider, rect, job.slices, with_halo=True)
        windows.append(planes)
        core = _grown(rect)
        inner = {channel: counts[(slice(None), *core)] for channel, counts in planes.items()}
        for index, counts in enumerate(guide_planes(stack, decider, inner)):
            collector.add(index, counts, rect.y.start, rect.x.start)
        for channel, counts in inner.items():
            for position, number in enumerate(job.slices):
                blank.add(channel, number, counts[position])
        yield Progress("reading", len(windows), len(places))
    without = {job.slices.index(number) for number in blank.without_guide(job, decider, in_any=True)}
    camera = job.request.camera
    statistics = job.request.stats or collector.finish(
        None if camera is None else NoiseModel(camera.offset, camera.read_noise**2, camera.gain), without
    )
    statistics = blank.applied(job, decider, statistics)
    seen: list[Tile] = []
    with device_settings(job):
        for rect, planes in zip(places, windows, strict=True):
            seen.append(_tile(job, stack, decider, statistics, rect, planes))
            yield Progress("scoring", len(seen), len(places))
    yield LookedAt(stack, job, decider, statistics, tuple(seen))


def spread_tiles(job: Job, stack: Stack, most: int | None = None) -> list[Rect]:
    """Choose tiles that reach from corner to corner of the plane; all of a small one."""
    height, width = stack.shape[3:]
    lattice = job.geometry.lattice
    core = job.geometry.round_up(min(TILE, max(height, width)))
    wanted = max(1, min(most or MOST_TILES, _BUDGET // (len(job.slices) * core**2)))
    side = math.isqrt(wanted)
    rows = _starts(height, core, side if height < 2 * width else wanted, lattice)
    columns = _starts(width, core, max(1, wanted // len(rows)), lattice)
    return [Rect(_span(job, y, core, height), _span(job, x, core, width)) for y in rows for x in columns]


def _starts(size: int, core: int, wanted: int, lattice: int) -> list[int]:
    """First pixels of at most so many tiles that do not overlap, from one end of an axis to the other."""
    count = max(1, min(wanted, size // core))
    last = max(0, size - core) // lattice * lattice
    if count == 1:
        return [last // 2 // lattice * lattice]
    return sorted({round(last * k / (count - 1) / lattice) * lattice for k in range(count)})


def _span(job: Job, start: int, core: int, size: int) -> Span:
    stop = min(start + core, size)
    geometry = job.geometry
    high = -(-stop // geometry.lattice) * geometry.lattice + geometry.halo
    return Span(start, stop, start - geometry.halo, high)


def _grown(rect: Rect) -> tuple[slice, slice]:
    """Core of a window, a tiny plane grown to one noise cell."""
    y, x = rect.y.core_in_window, rect.x.core_in_window
    return slice(y.start, max(y.stop, y.start + CELL)), slice(x.start, max(x.stop, x.start + CELL))


def _tile(job: Job, stack: Stack, decider: Decider, statistics: FieldStatistics, rect: Rect, planes: Planes) -> Tile:
    kept = kept_slices(job, statistics)
    core = (slice(None), rect.y.core_in_window, rect.x.core_in_window)
    window = score_window(job, stack, decider, planes, statistics, structure=True)
    window = window.part(rect.y.core_in_scores, rect.x.core_in_scores)
    guide = np.nan_to_num(statistics.guide([each[kept] for each in guide_planes(stack, decider, planes)]))
    floor = WHITE_NOISE_ENERGY * statistics.noise**2
    energy = np.stack([(tenengrad(plane) - floor).clip(min=0) for plane in guide])
    shown = has_structure(guide[None], np.array([statistics.noise], np.float32))[0]
    first = planes[decider.guide[0]][core][kept].astype(np.float32)
    return Tile(
        rect,
        planes,
        {channel: counts[core] for channel, counts in planes.items()},
        guide[core],
        energy[core],
        shown[core[1:]],
        to_numpy(window.posterior()),
        to_numpy(window.structure),
        np.asarray((to_numpy(window.weights()) * first).sum(axis=0)),
    )
