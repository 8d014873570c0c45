"""IN Cell Analyzer: planes that an .xdce file lists, numbers counting from 0.

Written from the sources of Bio-Formats. Positions of fields are left out: no export was at hand whose fields overlap,
to see in which direction the stage counts.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from hybridfusion_core.io.units import axis, number
from hybridfusion_core.plates.layouts.named_planes import matches, place, read_names, unlisted
from hybridfusion_core.plates.layouts.table import plane_names
from hybridfusion_core.plates.light import emission_color, says_transmitted
from hybridfusion_core.plates.listing import Listing
from hybridfusion_core.plates.plane_records import Findings, Record
from hybridfusion_core.plates.xml_stream import attributes, elements, whole
from hybridfusion_core.stack import Channel

_NAMES = frozenset({"Image", "Wavelength", "ObjectiveCalibration", "Plate"})


def read_incell(listing: Listing, index: Path | None) -> Findings:
    """Read a plate of an IN Cell Analyzer.

    Args:
        listing: of the folder.
        index: the .xdce file, or None to go by names.

    Raises:
        StoredDataError: the index is damaged.
    """
    files = plane_names("incell")
    if index is None:
        return read_names(listing, files, listing.root.name)
    beside = listing.folder_of(index)
    places = {path.rpartition("/")[2]: place(groups) for path, groups in matches(files, listing.images)}
    records: list[Record] = []
    waves: list[tuple[str, Channel]] = []
    calibration: dict[str, str] = {}
    plate: dict[str, str] = {}
    skipped = 0
    for name, element in elements(index, _NAMES):
        found = attributes(element)
        if name == "Image" and "filename" in found:
            made = _record(element, found["filename"], listing, beside, places)
            skipped += made is None
            if made is not None:
                records.append(made)
        elif name == "Wavelength" and found.get("fusion_wave", "false") != "true":
            waves.append((found.get("index", str(len(waves))), _channel(element, len(waves))))
        elif name == "ObjectiveCalibration":
            calibration = calibration or found
        elif name == "Plate":
            plate = plate or found
    described = dict(waves)
    channels = {each.channel: described.get(each.channel, Channel(f"wave {each.channel}")) for each in records}
    findings = Findings(
        records,
        channels,
        name=plate.get("name") or index.stem,
        index=index.name,
        rows=whole(plate.get("rows"), 1, 100) or 0,
        columns=whole(plate.get("columns"), 1, 100) or 0,
        y=axis(calibration.get("pixel_height"), "micrometer"),
        x=axis(calibration.get("pixel_width"), "micrometer"),
        metadata=(str(index),),
        warnings=(f"{skipped} images in {index.name} do not say which plane they are; left out.",) if skipped else (),
    )
    used = {each.file for each in records}
    strays = {key: path for key, path in unlisted(listing, files, records).items() if path not in used}
    return replace(findings, unlisted=strays)


def _record(
    image: Any, named: str, listing: Listing, beside: str, places: dict[str, tuple[int, int] | None]
) -> Record | None:
    inside = {str(each.tag).rpartition("}")[2]: attributes(each) for each in image.iter()}
    row, column = (whole(inside.get(name, {}).get("number"), 1, 100) for name in ("Row", "Column"))
    at = (row - 1, column - 1) if row is not None and column is not None else places.get(named)
    identifier = inside.get("Identifier", {})
    field, time, wave, z = (whole(identifier.get(f"{name}_index")) for name in ("field", "time", "wave", "z"))
    if at is None or field is None or wave is None:
        return None
    z_um = number(inside.get("FocusPosition", {}).get("z"))
    # Fields count from 1 in the names of files, and so does the user.
    return Record(*at, str(field + 1), time or 0, str(wave), z or 0, listing.find(named, beside), named, "", z_um)


def _channel(wavelength: Any, place_: int) -> Channel:
    inside = {str(each.tag).rpartition("}")[2]: attributes(each) for each in wavelength.iter()}
    excitation, emission = (inside.get(f"{kind}Filter", {}) for kind in ("Excitation", "Emission"))
    name = emission.get("name") or excitation.get("name") or f"wave {place_}"
    transmitted = says_transmitted(excitation.get("name", "")) or says_transmitted(name)
    color = None if transmitted else emission_color(number(emission.get("wavelength")))
    return Channel(name, color=color, transmitted=transmitted)
