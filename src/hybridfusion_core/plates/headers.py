"""What the headers of a few planes say about all of them: size and type of pixels, and their scale."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import tifffile

from hybridfusion_core.errors import HybridFusionError
from hybridfusion_core.io.disk.access import guarded
from hybridfusion_core.io.picture_files import Picture, inspect
from hybridfusion_core.io.units import axis, number
from hybridfusion_core.plates.layouts.imagexpress import metaseries, pixel_size_um
from hybridfusion_core.plates.plate import Imaging, Plane, Plate

_SAMPLES = 5  # odd, so that one garbage plane among them decides nothing


def with_headers(plate: Plate) -> Plate:
    """Complete the description of a plate by the headers of some of its planes.

    Planes that cannot be read say nothing here; their fields fail when they are opened.
    """
    runs = [planes for well in plate.wells for each in well.fields for frame in each.frames for planes in frame.planes]
    runs = [planes for planes in runs if planes]
    if not runs:
        return plate
    folder = Path(plate.folder)
    count = min(_SAMPLES, len(runs))
    chosen = [runs[index * (len(runs) - 1) // max(1, count - 1)][0] for index in range(count)]
    pictures = [found for plane in chosen if (found := _picture(folder, plane)) is not None]
    imaging = plate.imaging
    if pictures:
        shape, samples, dtype = Counter((each.shape, each.samples, each.dtype) for each in pictures).most_common(1)[0][
            0
        ]
        imaging = replace(imaging, plane=shape, dtype=dtype.name, rgb=samples == 3)
    if plate.layout == "imagexpress":
        imaging = _with_metaseries(imaging, folder, max(runs, key=len))
    return replace(plate, imaging=imaging)


def _picture(folder: Path, plane: Plane) -> Picture | None:
    try:
        return inspect(folder / plane.file)
    except HybridFusionError:
        return None


def _with_metaseries(imaging: Imaging, folder: Path, planes: Sequence[Plane]) -> Imaging:
    """Take pixel size and Z step from what MetaXpress writes into the first and last plane of a field."""
    first, last = (_properties(folder / plane.file) for plane in (planes[0], planes[-1]))
    y, x = pixel_size_um(first)
    heights = [number(each.get("z-position")) for each in (first, last)]
    if y is not None and x is not None:
        imaging = replace(imaging, y=axis(y, "micrometer"), x=axis(x, "micrometer"))
    if len(planes) > 1 and heights[0] is not None and heights[1] is not None:
        step = abs(heights[1] - heights[0]) / (len(planes) - 1)
        imaging = replace(imaging, z=axis(step, "micrometer"))
    return imaging


def _properties(path: Path) -> dict[str, str]:
    try:
        with guarded(f"{path.name}: its header cannot be read", "a TIFF."), tifffile.TiffFile(path) as file:
            return metaseries(str(file.pages.first.description))
    except HybridFusionError:
        return {}
