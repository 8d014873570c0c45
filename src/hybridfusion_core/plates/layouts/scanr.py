"""Evident (Olympus) scanR: planes that OME-XML in metadata.ome.xml lists, an image to every position.

Written from a metadata file of scanR 3.3 and the reader of fractal-uzh-converters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from hybridfusion_core.io.units import axis, number
from hybridfusion_core.plates.layouts.named_planes import Groups, WellNames, matches, read_names, unlisted
from hybridfusion_core.plates.layouts.table import plane_names
from hybridfusion_core.plates.light import emission_color, says_transmitted
from hybridfusion_core.plates.listing import Listing
from hybridfusion_core.plates.plane_records import Findings, Record
from hybridfusion_core.plates.xml_stream import elements, whole
from hybridfusion_core.stack import Axis, Channel

_POSITION = re.compile(r"Well (\d{1,6}), Position (\d{1,6})(?: \(([A-Z]{1,2}\d{1,2})\))?")
_FOLDER = "data"  # of the images and of the index, inside the folder of the plate


def read_scanr(listing: Listing, index: Path | None) -> Findings:
    """Read a scanR plate.

    Args:
        listing: of the folder.
        index: metadata.ome.xml, or None to go by names.

    Raises:
        StoredDataError: the index is damaged.
    """
    files = plane_names("scanr")
    name = listing.root.parent.name if listing.root.name.lower() == _FOLDER else listing.root.name
    if index is None:
        return read_names(listing, files, name)
    # Where an index names no well, names of files do.
    named = {path.rpartition("/")[2]: groups for path, groups in matches(files, listing.images)}
    beside = listing.folder_of(index)
    planes: list[tuple[Groups, Record]] = []
    channels: dict[str, Channel] = {}
    y, x = Axis(), Axis()
    for local, image in elements(index, frozenset({"Image"})):
        if not local:
            continue
        found = list(_planes(image, listing, beside, named))
        planes += found
        pixels = next((each for each in image.iter() if _local(each) == "Pixels"), None)
        if pixels is not None and not channels:
            y, x = (axis(pixels.get(f"PhysicalSize{letter}"), "micrometer") for letter in "YX")
            channels = dict(_channels(pixels))
    wells = WellNames(groups for groups, _ in planes)
    records = [
        made._replace(row=at[0], column=at[1]) for groups, made in planes if (at := wells.place(groups)) is not None
    ]
    for key in {each.channel for each in records} - channels.keys():
        channels[key] = Channel(key)
    findings = Findings(
        records,
        channels,
        name=name,
        index=index.name,
        y=y,
        x=x,
        rows=1 if wells.written else 0,
        columns=len(wells.written),
        wells=wells.written,
        metadata=(str(index),),
    )
    used = {each.file for each in records}
    strays = {key: path for key, path in unlisted(listing, files, records).items() if path not in used}
    return replace(findings, unlisted=strays)


def _planes(
    image: Any, listing: Listing, beside: str, named: dict[str, dict[str, str | None]]
) -> Iterator[tuple[Groups, Record]]:
    """Yield what each plane of an image says of its well, and the plane."""
    match = _POSITION.search(image.get("Name") or "")
    where = {_at(each): each for each in image.iter() if _local(each) == "Plane"}
    for data in (each for each in image.iter() if _local(each) == "TiffData"):
        uuid = next((each for each in data if _local(each) == "UUID"), None)
        file = "" if uuid is None else uuid.get("FileName") or ""
        groups = named.get(file, {})
        well = (match[3] or match[1]) if match is not None else groups.get("well")
        field = match[2] if match is not None else groups.get("field")
        c, t, z = (whole(data.get(f"First{letter}", "0")) for letter in "CTZ")
        if not file or well is None or field is None or c is None or t is None or z is None:
            continue
        plane = where.get((c, t, z))
        z_um, y_um, x_um = (None if plane is None else number(plane.get(f"Position{letter}")) for letter in "ZYX")
        made = Record(0, 0, str(int(field)), t, str(c), z, listing.find(file, beside), file, "", z_um, y_um, x_um)
        yield {"well": well}, made


def _at(plane: Any) -> tuple[int | None, int | None, int | None]:
    c, t, z = (whole(plane.get(f"The{letter}")) for letter in "CTZ")
    return c, t, z


def _channels(pixels: Any) -> Iterator[tuple[str, Channel]]:
    for index, each in enumerate(each for each in pixels if _local(each) == "Channel"):
        name = each.get("Name") or str(index)
        kind = each.get("IlluminationType") or ""
        transmitted = True if kind == "Transmitted" else False if kind == "Epifluorescence" else says_transmitted(name)
        yield str(index), Channel(name, emission_color(number(each.get("EmissionWavelength"))), transmitted)


def _local(element: Any) -> str:
    return str(element.tag).rpartition("}")[2]
