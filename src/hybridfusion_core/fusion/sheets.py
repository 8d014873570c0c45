"""Planes of a result: which slices each may come from. Slabs, the best slice, and smooth surfaces.

What the slices show is scored once and as a whole; a plane then takes a part of it. For slabs the part is a group of
slices; for a surface it is what lies near a sheet that is found over the whole field before anything is fused, so that
tiles and blocks change nothing.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates, median_filter

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.fusion.blank_slices import kept_slices
from hybridfusion_core.fusion.block import Planes, read_planes
from hybridfusion_core.fusion.device_settings import device_settings
from hybridfusion_core.fusion.job import Decider, Job
from hybridfusion_core.fusion.surface_cells import cell_side, cells_of
from hybridfusion_core.fusion.tile import Plane
from hybridfusion_core.fusion.tiles import Rect, blocks, tiles
from hybridfusion_core.fusion.window import Window, score_window
from hybridfusion_core.model.arrays import to_numpy
from hybridfusion_core.model.noise import FieldStatistics
from hybridfusion_core.model.smooth_surface import costs, one_surface, two_surfaces
from hybridfusion_core.progress import Progress
from hybridfusion_core.stack import Stack

_PENALTY = 0.15  # of a step by one slice between cells, for `smooth` = 1
_NEAR = 1.0  # slices, standard deviation of what belongs to a sheet
_TOLD = 2.0  # slices apart, from where two sheets share no slice
_WITHIN = 1.5  # slices around a sheet that speak for it
_AROUND = 2.0  # cells, standard deviation of the surroundings that speak for it
_SUPPORTED = 0.1  # of the evidence lies on a sheet that is there


@dataclass(frozen=True)
class Sheet:
    """A smooth surface over the whole field.

    Attributes:
        height: cells y x, position among the slices that take part.
        support: cells y x in [0, 1], whether it is there at all; None: wherever something is in focus.
        cell: side of a cell in pixels.
        other: cells y x, height of the other one of two; None: there is one.
    """

    height: NDArray[np.float64]
    support: NDArray[np.float64] | None = None
    cell: int = 4
    other: NDArray[np.float64] | None = None

    def plane(self, tile: Rect, depth: int) -> Plane:
        """Say what a tile's core takes from the slices."""
        away = np.arange(depth, dtype=np.float32)[:, None, None] - self._at(self.height, tile)
        present = None if self.support is None else self._at(self.support, tile)
        share = np.exp(-0.5 * (away / _NEAR) ** 2)
        if self.other is not None:  # what is sharp on the other side is no evidence, however near that is
            apart = self._at(self.height - self.other, tile)
            own = (away + apart / 2) * np.sign(apart)  # slices on this side of the middle between both
            share = share * (0.5 + own * (np.abs(apart) / _TOLD).clip(max=1)).clip(min=0, max=1)
        return Plane(share, present)

    def _at(self, cells: NDArray[np.float64], tile: Rect) -> NDArray[np.float32]:
        """Values of cells at pixels, linear between the middles of cells."""
        y, x = ((np.arange(span.start, span.stop) + 0.5) / self.cell - 0.5 for span in (tile.y, tile.x))
        found = map_coordinates(cells, np.meshgrid(y, x, indexing="ij"), order=1, mode="nearest")
        return np.asarray(found, np.float32)


def planes_for(
    job: Job, statistics: FieldStatistics | None, sheets: tuple[Sheet, ...] | int | None, tile: Rect
) -> list[Plane | None]:
    """Say what each plane of the result takes from a tile's slices; None takes everything."""
    if statistics is None or not (job.groups or sheets is not None):
        return [None]
    kept = kept_slices(job, statistics)
    if isinstance(sheets, int):
        return [_group((sheets,), kept)]
    if sheets is not None:
        return [sheet.plane(tile, len(kept)) for sheet in sheets]
    return [_group(group, kept) if len(group) < len(job.slices) else None for group in job.groups]


def _group(group: tuple[int, ...], kept: list[int]) -> Plane:
    inside = np.array([position in group for position in kept], np.float32)
    return Plane(inside[:, None, None], None, exact=True)


def find_sheets(
    job: Job, stack: Stack, statistics: list[list[FieldStatistics]]
) -> Generator[Progress, None, list[list[tuple[Sheet, ...] | int | None]]]:
    """Look through the whole field for what its planes follow, yielding after each tile.

    Returns:
        (on exhaustion) one list per time point with one entry per decider: the sheets from the top down, the position
        of the best slice, or None where nothing has to be known beforehand.
    """
    if not job.needs_field:
        return [[None] * len(job.deciders) for _ in range(stack.shape[0])]
    found: list[list[tuple[Sheet, ...] | int | None]] = []
    done, total = 0, stack.shape[0] * len(job.deciders) * stack.shape[3] * stack.shape[4]
    with device_settings(job):
        for t, of_frame in enumerate(statistics):
            row: list[tuple[Sheet, ...] | int | None] = []
            for decider, measured in zip(job.deciders, of_frame, strict=True):
                cells = _Cells(job, stack, measured)
                for core in blocks(stack.shape[3:], job.plan.block, job.geometry):
                    planes = read_planes(job, stack, t, decider, core, job.slices, with_halo=True)
                    for tile in tiles(core, job.plan.tile, job.geometry):
                        cut = {
                            channel: counts[:, tile.y.window_in(core.y), tile.x.window_in(core.x)]
                            for channel, counts in planes.items()
                        }
                        cells.add(score_window(job, stack, decider, cut, measured, structure=True), cut, decider, tile)
                        done += (tile.y.stop - tile.y.start) * (tile.x.stop - tile.x.start)
                        yield Progress("looking for the surface", done, total)
                row.append(cells.best_slice() if job.method.one_slice else cells.sheets())
            found.append(row)
    return found


class _Cells:
    """Evidence for every slice, gathered over cells of a field."""

    def __init__(self, job: Job, stack: Stack, statistics: FieldStatistics) -> None:
        self._job, self._kept, self._light = job, kept_slices(job, statistics), statistics.light
        self._falling = stack.z_um is not None and stack.z_um[-1] < stack.z_um[0]
        cell = cell_side(stack.shape[3:], len(self._kept))
        if cell is None:
            raise UserInputError(
                f"{stack.name} has {stack.shape[3]} × {stack.shape[4]} pixels and {len(self._kept)} slices, which is "
                "too much to find one surface through; expected less. Cut the image, fuse fewer slices (--z), or leave "
                "--surface-from out and smooth the height afterwards."
            )
        self._cell, shape = cell, cells_of(stack.shape[3:], cell)
        self._mass = np.zeros((len(self._kept), *shape), np.float32)
        self._area = np.zeros(shape, np.float32)

    def add(self, window: Window, planes: Planes, decider: Decider, tile: Rect) -> None:
        """Take a tile: what its core shows."""
        seen = window.part(tile.y.core_in_scores, tile.x.core_in_scores)
        mass = seen.posterior() * seen.in_focus
        cells = _binned(to_numpy(mass), self._cell)
        core = (tile.y.core_in_window, tile.x.core_in_window)
        if self._job.request.prefer == "brightest":
            counts = planes[decider.guide[0]][self._kept][(slice(None), *core)]
            counts = self._light[0].matched(counts) if self._light else counts
            cells *= _brightness(counts, self._cell)
        y, x = tile.y.start // self._cell, tile.x.start // self._cell
        self._mass[:, y : y + cells.shape[1], x : x + cells.shape[2]] = cells
        ones = np.ones((1, tile.y.stop - tile.y.start, tile.x.stop - tile.x.start), np.float32)
        self._area[y : y + cells.shape[1], x : x + cells.shape[2]] = _binned(ones, self._cell)[0]

    def best_slice(self) -> int:
        """Position in the job's slices of the one in which most is in focus."""
        return self._kept[int(self._mass.sum(axis=(1, 2), dtype=np.float64).argmax())]

    def sheets(self) -> tuple[Sheet, ...]:
        """The surfaces that were asked for, the top one first."""
        total = self._mass.sum(axis=0)
        weight = total / np.maximum(self._area, 1)
        cost = costs(self._mass / np.maximum(total, 1e-12), np.clip(weight, 0, 1))
        request = self._job.request
        smooth = _PENALTY * request.smooth
        if request.surfaces == 1 and request.prefer in ("none", "brightest"):
            return (Sheet(one_surface(cost, smooth), None, self._cell),)
        low, high = two_surfaces(cost, smooth)
        sides = [(height, self._support(height, total)) for height in ((low, high) if self._falling else (high, low))]
        if request.surfaces == 2:
            others = (sides[1][0], sides[0][0])
            return tuple(Sheet(*side, self._cell, other) for side, other in zip(sides, others, strict=True))
        (wanted, there), (other, _) = sides if request.prefer == "top" else sides[::-1]
        return (Sheet(median_filter(np.where(there > 0.5, wanted, other), 3, mode="nearest"), None, self._cell),)

    def _support(self, height: NDArray[np.float64], total: NDArray[np.float32]) -> NDArray[np.float64]:
        """Whether enough of the evidence around a cell lies on a sheet, in [0, 1]."""
        near = np.zeros(height.shape)
        for number, mass in enumerate(self._mass):  # several times the memory of all that is known, if done at once
            near += np.where(np.abs(number - height) <= _WITHIN, mass, 0)
        share = gaussian_filter(near, _AROUND) / np.maximum(gaussian_filter(total, _AROUND), 1e-9)
        return np.asarray(np.clip(share / _SUPPORTED, 0, 1), np.float64)


def _binned(values: NDArray[np.float32], cell: int) -> NDArray[np.float32]:
    """Sum Z Y X over cells, the last ones perhaps of fewer pixels."""
    z, y, x = values.shape
    padded = np.pad(values, ((0, 0), (0, -y % cell), (0, -x % cell)))
    cells = padded.reshape(z, padded.shape[1] // cell, cell, padded.shape[2] // cell, cell)
    return np.asarray(cells.sum(axis=(2, 4)))


def _brightness(counts: NDArray[Any], cell: int) -> NDArray[np.float32]:
    """How bright each slice is among those of its cell, Z y x, above 0 and up to 1."""
    cells = _binned(np.nan_to_num(counts.astype(np.float32)), cell)
    low, high = cells.min(axis=0), cells.max(axis=0)
    return np.asarray(((cells - low) / np.maximum(high - low, 1e-12)) ** 2 + 0.02, np.float32)
