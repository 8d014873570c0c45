"""What MetaXpress writes into every plane: pixel size, height, position on the stage, filter and wavelength.

The metadata are MetaSeries XML in the description of the TIFF. X and Y grow in the direction of the image's columns and
rows, see docs/decisions/020.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import tifffile
from defusedxml import DefusedXmlException, ElementTree

from hybridfusion_core.errors import HybridFusionError
from hybridfusion_core.io.disk.access import guarded
from hybridfusion_core.io.units import axis, number
from hybridfusion_core.plates.light import emission_color, says_transmitted
from hybridfusion_core.plates.plate import Field, Imaging, Plane, Plate
from hybridfusion_core.stack import Channel

_LARGEST = 1 << 20  # bytes of the metadata of a plane
_READERS = 8  # headers at once: a network drive answers each in milliseconds


def with_metaseries(plate: Plate, planes: Sequence[Plane]) -> Plate:
    """Complete a plate by what its planes say: scale, channels, and the position of every field.

    Args:
        plate: of MetaXpress.
        planes: of a field with as many slices as any, in order.
    """
    folder = Path(plate.folder)
    imaging = _scaled(plate.imaging, folder, planes)
    fields = [field for well in plate.wells for field in well.fields]
    firsts = [_first(field) for field in fields]
    with ThreadPoolExecutor(_READERS) as readers:
        found = list(readers.map(lambda file: {} if file is None else _properties(folder / file), firsts))
    placed = iter([_placed(field, about) for field, about in zip(fields, found, strict=True)])
    wells = tuple(replace(well, fields=tuple(next(placed) for _ in well.fields)) for well in plate.wells)
    files = [_plane_of(fields, index) for index in range(len(imaging.channels))]
    about = [{} if file is None else _properties(folder / file) for file in files]
    channels = tuple(map(_channel, imaging.channels, about, _settings(imaging.channels, about)))
    return replace(plate, imaging=replace(imaging, channels=channels), wells=wells)


def metaseries(text: str) -> dict[str, str]:
    """Return the properties in the metadata of one plane; nothing if they are none or cannot be trusted."""
    if "<MetaData>" not in text[:_LARGEST] or len(text) > _LARGEST:
        return {}
    try:
        root = ElementTree.fromstring(text.strip("\0 \r\n"), forbid_dtd=True)
    except (ElementTree.ParseError, DefusedXmlException, ValueError):
        return {}
    return {each.get("id", ""): each.get("value", "") for each in root.iter("prop")}


def pixel_size_um(properties: Mapping[str, str]) -> tuple[float | None, float | None]:
    """Return Y and X of a pixel in µm, as far as MetaSeries properties say."""
    known = properties.get("spatial-calibration-state") == "on" and properties.get("spatial-calibration-units") == "um"
    y, x = (number(properties.get(f"spatial-calibration-{letter}")) for letter in "yx")
    return (y, x) if known else (None, None)


def _scaled(imaging: Imaging, folder: Path, planes: Sequence[Plane]) -> Imaging:
    """Take pixel size and Z step from the first and last plane of a field."""
    first, last = (_properties(folder / plane.file) for plane in (planes[0], planes[-1]))
    y, x = pixel_size_um(first)
    heights = [number(each.get("z-position")) for each in (first, last)]
    if y is not None and x is not None:
        imaging = replace(imaging, y=axis(y, "micrometer"), x=axis(x, "micrometer"))
    if len(planes) > 1 and heights[0] is not None and heights[1] is not None:
        step = abs(heights[1] - heights[0]) / (len(planes) - 1)
        imaging = replace(imaging, z=axis(step, "micrometer"))
    return imaging


def _placed(field: Field, about: Mapping[str, str]) -> Field:
    y, x = (number(about.get(f"stage-position-{letter}")) for letter in "yx")
    return field if y is None or x is None else replace(field, position_um=(y, x))


def _settings(channels: Sequence[Channel], about: Sequence[Mapping[str, str]]) -> list[str]:
    """Name channels that have numbers only by the setting of the light; where two have the same one, by both."""
    settings = [each.get("_IllumSetting_", "").strip() for each in about]
    counts = Counter(settings)
    return [
        channel.name
        if not setting or not re.fullmatch(r"w\d{1,2}", channel.name)
        else setting
        if counts[setting] == 1
        else f"{channel.name} {setting}"
        for channel, setting in zip(channels, settings, strict=True)
    ]


def _channel(channel: Channel, about: Mapping[str, str], name: str) -> Channel:
    """Name and colour a channel by the light that its first plane was taken with."""
    transmitted = says_transmitted(about.get("_IllumSetting_") or name)
    color = None if transmitted else emission_color(number(about.get("wavelength")))
    return replace(channel, name=name, color=channel.color or color, transmitted=transmitted)


def _first(field: Field) -> str | None:
    return next((planes[0].file for frame in field.frames for planes in frame.planes if planes), None)


def _plane_of(fields: Sequence[Field], channel: int) -> str | None:
    found = (frame.planes[channel] for field in fields for frame in field.frames if channel < len(frame.planes))
    return next((planes[0].file for planes in found if planes), None)


def _properties(path: Path) -> dict[str, str]:
    try:
        with guarded(f"{path.name}: its header cannot be read", "a TIFF."), tifffile.TiffFile(path) as file:
            return metaseries(str(file.pages.first.description))
    except HybridFusionError:
        return {}
