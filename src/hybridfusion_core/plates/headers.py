"""What the headers of a few planes say about all of them: size and type of pixels, and their scale."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from hybridfusion_core.errors import HybridFusionError
from hybridfusion_core.io.picture_files import Picture, inspect
from hybridfusion_core.plates.layouts.table import layout
from hybridfusion_core.plates.metaseries import with_metaseries
from hybridfusion_core.plates.plate import Plane, Plate

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
    plate = replace(plate, imaging=imaging)
    return with_metaseries(plate, max(runs, key=len)) if layout(plate.layout).headers else plate


def _picture(folder: Path, plane: Plane) -> Picture | None:
    try:
        return inspect(folder / plane.file)
    except HybridFusionError:
        return None
