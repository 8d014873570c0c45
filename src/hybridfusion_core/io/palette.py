"""The colours in which slices are shown: one per slice, in an order that the eye follows."""

from __future__ import annotations

import numpy as np


def slice_colors(slices: int) -> list[tuple[int, int, int, int]]:
    """Return RGBA, 0 to 255, for label 0 (transparent) and then for each slice, first to last.

    Args:
        slices: how many there are.
    """
    import matplotlib as mpl  # noqa: PLC0415 - takes half a second, and reading needs none of it

    colormap = mpl.colormaps["viridis"]
    colors = colormap(np.linspace(0, 1, slices), bytes=True)
    return [(0, 0, 0, 0), *((int(red), int(green), int(blue), int(alpha)) for red, green, blue, alpha in colors)]
