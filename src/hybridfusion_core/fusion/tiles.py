"""Integer geometry of tiles and blocks: one axis at a time, then the product.

Every interval is half-open and in pixels of the plane. A tile's core is what it is responsible for; its
window is what the network sees. Windows reach beyond the plane at its own edges, where it is reflected, and
always start and end on one global lattice with origin 0.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Geometry:
    """The grid on which windows fall, and how far a result depends on its surroundings; pixels.

    Attributes:
        lattice: tiles start at its multiples.
        halo: a multiple of the lattice.
    """

    lattice: int
    halo: int

    def round_up(self, size: int) -> int:
        """Smallest positive multiple of the lattice that is at least `size`."""
        return max(-(-size // self.lattice), 1) * self.lattice


@dataclass(frozen=True)
class Span:
    """One tile or block along one axis: core [start, stop) inside window [low, high)."""

    start: int
    stop: int
    low: int
    high: int

    @property
    def core(self) -> slice:
        """The core in plane coordinates."""
        return slice(self.start, self.stop)

    @property
    def core_in_window(self) -> slice:
        """The core in coordinates of the window."""
        return slice(self.start - self.low, self.stop - self.low)

    @property
    def core_in_scores(self) -> slice:
        """The core in coordinates of what is scored: the window without its halo."""
        return slice(0, self.stop - self.start)

    def window_in(self, outer: Span) -> slice:
        """The window in coordinates of the window of a span that contains it."""
        return slice(self.low - outer.low, self.high - outer.low)

    def core_in(self, outer: Span) -> slice:
        """The core in coordinates of the core of a span that contains it."""
        return slice(self.start - outer.start, self.stop - outer.start)


@dataclass(frozen=True)
class Rect:
    """A tile or block of the plane."""

    y: Span
    x: Span


def spans(start: int, stop: int, core: int, geometry: Geometry) -> list[Span]:
    """Cut one axis into cores of equal size, the last one shorter.

    Args:
        start: a multiple of the lattice.
        stop: end of the axis or of a block.
        core: size of a core, a positive multiple of the lattice.
        geometry: lattice and halo of the network.
    """
    if start % geometry.lattice or core % geometry.lattice or core < 1:
        raise ValueError(f"start {start} and core {core} must be multiples of the lattice {geometry.lattice}")
    cut = []
    for first in range(start, stop, core):
        last = min(first + core, stop)
        high = -(-last // geometry.lattice) * geometry.lattice + geometry.halo
        cut.append(Span(first, last, first - geometry.halo, high))
    return cut


def blocks(plane: tuple[int, int], core: int, geometry: Geometry) -> Iterator[Rect]:
    """Cut a plane Y X into rectangles, row by row."""
    for y, x in itertools.product(*(spans(0, size, core, geometry) for size in plane)):
        yield Rect(y, x)


def tiles(block: Rect, core: int, geometry: Geometry) -> Iterator[Rect]:
    """Cut a block into tiles, row by row; every tile's window lies in the block's."""
    rows = spans(block.y.start, block.y.stop, core, geometry)
    columns = spans(block.x.start, block.x.stop, core, geometry)
    for y, x in itertools.product(rows, columns):
        yield Rect(y, x)


def reflected(low: int, high: int, size: int) -> NDArray[np.intp]:
    """Indices of the plane that stand at positions [low, high), reflected at its edges.

    As `numpy.pad(mode="reflect")`: the edge pixel is not repeated, and a tiny plane is reflected as often as
    needed.

    Args:
        low: first position, may be negative.
        high: one past the last position, may exceed `size`.
        size: of the axis, ≥ 1.

    Returns:
        high − low indices in [0, size).
    """
    if size == 1:
        return np.zeros(high - low, dtype=np.intp)
    period = 2 * (size - 1)
    position = np.arange(low, high) % period
    return np.minimum(position, period - position)
