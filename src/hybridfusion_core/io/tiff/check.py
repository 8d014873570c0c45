"""Read a whole TIFF that `fuse` wrote, every tile of every level, and name what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tifffile

from hybridfusion_core.io.level_check import Level, check_levels, first_line
from hybridfusion_core.io.tiff.full_series import full_axes, full_series
from hybridfusion_core.io.tiff.tiles import tiled

_STEP = (1024, 1024)  # px along Y and X that are read at once


def check_tiff(path: Path) -> Iterator[str]:
    """Yield what is wrong with the description and the pixels of a TIFF that can be opened.

    Args:
        path: of the file.
    """
    with tifffile.TiffFile(path) as file:
        if not (file.is_imagej or file.is_ome):
            yield f"{path.name} lacks its description"  # stands at the end: tifffile goes on without it
        series = full_series(file)[0]
        axes = full_axes(series)
        levels = []
        for number, level in enumerate(series.levels):
            damaged = list(_damaged_tiles(level.pages, f"{path.name}, level {number}"))
            yield from damaged
            array, _ = tiled(series, number)
            levels.append(Level(array, axes, _STEP, not damaged, lambda _: "the plane"))
        if not file.is_imagej:  # which has no pyramid
            yield from check_levels(levels, "nearest" if ".decision." in path.name else "mean", path.name)


def _damaged_tiles(pages: Any, name: str) -> Iterator[str]:
    """Decode every tile or strip once; tifffile takes one that is not there for zeros."""
    for number, page in enumerate(pages):
        if page is None:
            yield f"{name}: plane {number} is missing"
            continue
        page = page.aspage()  # noqa: PLW2901
        missing = sum(not count for count in page.databytecounts)
        if missing:
            yield f"{name}: plane {number} lacks {missing} of {len(page.databytecounts)} tiles or strips"
        try:
            for _ in page.segments(maxworkers=1):
                pass
        except MemoryError:
            raise
        except Exception as error:
            yield f"{name}: plane {number} cannot be read ({type(error).__name__}: {first_line(error)})"
