"""A block of one channel along a surface: its value on the surface, or what a slab around it holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.fusion.slice_positions import share_of_slice, slice_positions

How = Literal["max", "mean", "sum", "median", "stack"]
HOWS: tuple[str, ...] = get_args(How)
ReadSlice = Callable[[int], NDArray[Any]]  # number of a slice -> counts Y X


@dataclass(frozen=True)
class Slab:
    """Where a channel is read.

    Attributes:
        offset_um: from the surface to the middle of the slab; above it where z grows.
        thickness_um: of the slab; 0 is the surface itself.
        how: what becomes of the values through the slab: one of `How`.
    """

    offset_um: float = 0.0
    thickness_um: float = 0.0
    how: How = "max"

    def __post_init__(self) -> None:
        if not (np.isfinite(self.offset_um) and np.isfinite(self.thickness_um) and self.thickness_um >= 0):
            raise UserInputError(
                f"The offset is {self.offset_um} and the thickness {self.thickness_um}; expected numbers, the "
                "thickness not below 0."
            )
        if self.how not in HOWS:
            raise UserInputError(f"Unknown way {self.how!r} to project; expected one of {', '.join(HOWS)}.")

    def levels(self, step: float) -> NDArray[np.float64]:
        """Distances from the surface at which values are taken: evenly spaced, no farther apart than slices.

        Args:
            step: usual distance between slices, in the unit of the offset.
        """
        count = int(np.ceil(self.thickness_um / step - 1e-6)) + 1 if self.thickness_um else 1
        return (
            self.offset_um + np.linspace(-0.5, 0.5, count) * self.thickness_um
            if count > 1
            else np.array([self.offset_um])
        )


def read_along(read: ReadSlice, positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Read values at positions between slices, each slice once.

    Args:
        read: gives one slice.
        positions: N Y X, in slices; NaN where nothing is to be read.

    Returns:
        N Y X, float64: linear between the slices around each position, copied on a slice; NaN where it is NaN.
    """
    found = np.zeros(positions.shape)
    known = np.isfinite(positions)
    if known.any():
        for number in range(int(np.nanmin(positions)), int(np.ceil(np.nanmax(positions))) + 1):
            share = share_of_slice(positions, number)
            if share.any():
                # A NaN pixel of a slice without a share must not count.
                found += np.where(share > 0, share * read(number), 0)
    return np.where(known, found, np.nan)


def greatest_within(
    read: ReadSlice, low: NDArray[np.float64], high: NDArray[np.float64], ends: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Greatest value in a slab: of the slices in it, and of its ends between slices, so that none is a step.

    Args:
        read: gives one slice.
        low: Y X, where the slab begins, in slices; NaN where there is none.
        high: Y X, where it ends.
        ends: N Y X, values at both ends and between them; NaN where they lie outside the stack.
    """
    found = np.fmax.reduce(ends, axis=0)
    if np.isfinite(low).any():
        for number in range(int(np.ceil(np.nanmin(low))), int(np.nanmax(high)) + 1):
            inside = (low <= number) & (number <= high)
            if inside.any():
                found = np.where(inside, np.fmax(found, read(number)), found)
    return np.asarray(found)


def reduced(values: NDArray[np.float64], how: How) -> NDArray[np.float64]:
    """Make one plane (of "stack": all of them) of the values through a slab.

    Args:
        values: N Y X; NaN outside the stack.
        how: any but "max".

    Returns:
        D Y X. Where the slab leaves the stack, mean and median are of what is inside; a sum would be too small, and is
        NaN.
    """
    if how == "stack":
        return values
    if how == "sum":
        return np.asarray(values.sum(axis=0, keepdims=True))
    count = np.isfinite(values).sum(axis=0, keepdims=True)
    filled = np.where(np.isfinite(values), values, 0.0)
    if how == "mean":
        return np.where(count > 0, filled.sum(axis=0, keepdims=True) / np.maximum(count, 1), np.nan)
    ordered = np.sort(values, axis=0)  # NaN last
    at = [np.clip((count - 1 + up) // 2, 0, None) for up in (0, 1)]
    return np.asarray(sum(np.take_along_axis(ordered, each, axis=0) for each in at) / 2)


def named_slab(text: str) -> tuple[str, Slab]:
    """Read NAME:OFFSET:THICKNESS:HOW; a name may hold colons.

    Raises:
        UserInputError: the text is anything else.
    """
    try:
        name, offset, thickness, how = text.rsplit(":", 3)
        return name, Slab(float(offset), float(thickness), how)  # type: ignore[arg-type]
    except ValueError:
        raise UserInputError(
            f"The place of a channel is {text!r}; expected NAME:OFFSET:THICKNESS:HOW in µm, such as DAPI:0:4:max."
        ) from None


def along_heights(
    slab: Slab, read: ReadSlice, heights: NDArray[Any], z_um: NDArray[np.float64] | None, depth: int, step: float
) -> NDArray[np.float64]:
    """Read a block of one channel along a surface.

    Args:
        slab: where.
        read: gives one slice of the block.
        heights: Y X; NaN where there is no surface.
        z_um: positions of the slices, if heights are in µm; None takes them for slices.
        depth: how many slices there are.
        step: usual distance between slices, in the unit of the heights.

    Returns:
        D Y X, float64; D is 1 but for how "stack". NaN where there is no surface, or where the middle of the slab lies
        outside the stack.
    """
    heights, levels = heights.astype(np.float64), slab.levels(step)
    positions = np.stack([slice_positions(heights + level, z_um, depth) for level in levels])
    values = read_along(read, positions)
    if slab.how == "stack":
        return values
    if slab.how == "max" and len(levels) > 1:
        low, high = np.fmin.reduce(positions, axis=0), np.fmax.reduce(positions, axis=0)
        found = greatest_within(read, low, high, values)[None]
    else:
        found = reduced(values, slab.how if slab.how != "max" else "mean")
    middle = slice_positions(heights + slab.offset_um, z_um, depth)
    return np.where(np.isfinite(middle), found, np.nan)
