"""Parts of fields that fit into memory, cut where there is something to see, with the statistics of the whole field."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.model.focus_measures import has_structure
from hybridfusion_core.model.noise import CELL, FieldStatistics, StatisticsCollector, luminance
from hybridfusion_core.stack import Stack
from hybridfusion_core.train.finetune.sources import Source
from hybridfusion_core.train.patches import CONTENT, Field

SIDE = 384  # px; a crop of 40 slices takes 24 MB
DEEPEST = 64  # slices of a crop
_BLOCK = 1024  # px; what is measured at a time
_BLOCKS = 16  # of a field that are measured, evenly spread
_TRIES = 4  # places to look for something to see
_GLANCE = 5  # slices that are looked at for it


@dataclass(frozen=True)
class Crop:
    """A part of one field.

    Attributes:
        name: of the stack, the channel and the time point.
        group: what is held out together.
        counts: Z Y X, at most `DEEPEST` × `SIDE` × `SIDE`.
        statistics: of the whole field.
        z_um: position of every slice in µm, or None.
        content: share of the pixels in which something is in focus, in [0, 1].
        place: rows and columns in the plane.
    """

    name: str
    group: str
    counts: NDArray[Any]
    statistics: FieldStatistics
    z_um: NDArray[np.float64] | None
    content: float
    place: tuple[slice, slice]

    @property
    def guide(self) -> NDArray[np.float32]:
        """Z Y X, normalised."""
        return self.statistics.guide([self.counts])

    @property
    def field(self) -> Field:
        """As patches are cut from it."""
        return Field(self.guide, self.statistics.noise)

    def as_stack(self, slices: slice = slice(None)) -> Stack:
        """Return some of its slices as a stack of one channel in memory."""
        z_um = None if self.z_um is None else tuple(float(each) for each in self.z_um[slices])
        stack = Stack.from_array(self.counts[slices], axes="ZYX", name=self.name)
        return replace(stack, z_positions_um=z_um)


@dataclass
class FieldReader:
    """Reads parts of one field: a channel (or the colours) of a source at one time point.

    Attributes:
        source: that is opened for each reading.
        t: time point.
        channels: of one guide.
    """

    source: Source
    t: int
    channels: tuple[int, ...]
    _statistics: dict[tuple[int, ...], FieldStatistics] = field(default_factory=dict, repr=False)

    def __call__(self, generator: Generator) -> Field:
        """Read a part and give it as the patches are cut from it."""
        return self.crop(generator).field

    def crop(self, generator: Generator) -> Crop:
        """Read the part with the most to see among a few that are drawn.

        Raises:
            UserInputError: pixels are NaN or infinite.
            StoredDataError: the file is damaged.
        """
        with self.source.open() as stack:
            slices = _run(stack.shape[2], generator)
            known = self._measured(stack, slices)
            *_, height, width = stack.shape
            best: tuple[float, slice, slice] | None = None
            for _ in range(_TRIES if max(height, width) > SIDE else 1):
                y, x = _place(height, generator), _place(width, generator)
                share = _content(self._read(stack, _thinned(slices), y, x), known)
                if best is None or share > best[0]:
                    best = share, y, x
                if share >= 4 * CONTENT:
                    break
            assert best is not None  # noqa: S101 - tried at least once
            counts = self._read(stack, slices, *best[1:])
            if not np.isfinite(counts).all():
                raise UserInputError(
                    f"{self.source.name} has NaN or infinite pixels; expected numbers everywhere. Repair the file, "
                    "or leave it out."
                )
            positions = None if stack.z_um is None else stack.z_um[list(slices)]
        return Crop(self._name(stack), self.source.group, counts, known, positions, best[0], best[1:])

    def region(self, y: slice, x: slice) -> tuple[NDArray[Any], FieldStatistics]:
        """Read all slices of a region, Z Y X, and the statistics of the whole field."""
        with self.source.open() as stack:
            slices = tuple(range(stack.shape[2]))
            return self._read(stack, slices, y, x), self._measured(stack, slices)

    def _measured(self, stack: Stack, slices: tuple[int, ...]) -> FieldStatistics:
        if slices not in self._statistics:
            self._statistics[slices] = _measured(self, stack, slices)
        return self._statistics[slices]

    def _read(self, stack: Stack, slices: tuple[int, ...], y: slice, x: slice) -> NDArray[Any]:
        """Z Y X; colours by their luminance."""
        planes = [stack.read(self.t, channel, slices, y, x) for channel in self.channels]
        return planes[0] if len(planes) == 1 else luminance(planes)

    def _name(self, stack: Stack) -> str:
        channel = "" if stack.rgb or stack.shape[1] == 1 else f", {stack.channels[self.channels[0]].name}"
        return f"{self.source.name}{channel}{f', time {self.t}' if stack.shape[0] > 1 else ''}"


def field_readers(source: Source) -> list[FieldReader]:
    """Return a reader for each field of a source."""
    times = range(source.shape[0])
    return [FieldReader(source, t, channels) for t, channels in itertools.product(times, source.channels)]


def _measured(reader: FieldReader, stack: Stack, slices: tuple[int, ...]) -> FieldStatistics:
    """Measure a field, one slice of a block at a time; of a very large one, blocks that are spread over it."""
    *_, height, width = stack.shape
    if min(height, width) < CELL:
        raise UserInputError(
            f"{reader.source.name} has {height} × {width} px; expected at least {CELL} × {CELL}. Leave it out."
        )
    corners = list(itertools.product(range(0, height, _BLOCK), range(0, width, _BLOCK)))
    corners = [(y, x) for y, x in corners if height - y >= CELL and width - x >= CELL]
    chosen = corners if len(corners) <= _BLOCKS else [corners[i * len(corners) // _BLOCKS] for i in range(_BLOCKS)]
    collector = StatisticsCollector(1, (height, width), len(slices))
    for y, x in chosen:
        rows, columns = slice(y, min(y + _BLOCK, height)), slice(x, min(x + _BLOCK, width))
        for number, z in enumerate(slices):
            collector.add(0, reader._read(stack, (z,), rows, columns), y, x, number)
    return collector.finish()


def _run(depth: int, generator: Generator) -> tuple[int, ...]:
    first = int(generator.integers(max(depth - DEEPEST, 0), endpoint=True))
    return tuple(range(first, min(first + DEEPEST, depth)))


def _thinned(slices: tuple[int, ...]) -> tuple[int, ...]:
    return slices[:: max(1, len(slices) // _GLANCE)]


def _place(length: int, generator: Generator) -> slice:
    first = int(generator.integers(max(length - SIDE, 0), endpoint=True))
    return slice(first, min(first + SIDE, length))


def _content(counts: NDArray[Any], statistics: FieldStatistics) -> float:
    guide = torch.from_numpy(statistics.guide([np.nan_to_num(counts)]))[None]
    return float(has_structure(guide, torch.tensor([statistics.noise])).float().mean())
