"""The colours of what explains a fusion, the same in files, pictures, pages and layers: one scale, one for nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCALE = "viridis"  # slices from first to last, heights and other maps from low to high; an order that the eye follows
NOTHING = (0x3D, 0x43, 0x4B)  # nothing in focus, in pictures; labels are transparent there


def slice_colors(slices: int) -> list[tuple[int, int, int, int]]:
    """Return RGBA, 0 to 255, for label 0 (transparent) and then for each slice, first to last.

    Args:
        slices: how many there are.
    """
    return [(0, 0, 0, 0), *((red, green, blue, 255) for red, green, blue in slice_pixels(slices)[1:].tolist())]


def slice_pixels(slices: int) -> NDArray[Any]:
    """Return the colours of a decision in a picture by slice number: slices + 1 × RGB, uint8; `NOTHING` comes first."""
    import matplotlib as mpl  # noqa: PLC0415 - takes half a second, and reading needs none of it
    import numpy as np  # noqa: PLC0415

    colors = mpl.colormaps[SCALE](np.linspace(0, 1, slices), bytes=True)[:, :3]
    return np.concatenate([np.array([NOTHING], np.uint8), colors])
