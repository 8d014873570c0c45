"""ImageXpress HCS.ai: a descriptor (.jdce, JSON) and manifests (image_metadata_1.csv, …) that list every plane.

All numbers count from 0. One run may have several acquisitions, each in a folder with a descriptor of its own: the
stack in one that ends in "_z_stack", its projection in another. Written from the sources of bioio-imagexpress, which
its authors checked against acquisitions of the instrument.
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from hybridfusion_core.errors import StoredDataError
from hybridfusion_core.io.disk.access import permitted
from hybridfusion_core.io.units import axis, number
from hybridfusion_core.plates.layouts.named_planes import matches, read_names, record, unlisted
from hybridfusion_core.plates.layouts.table import plane_names
from hybridfusion_core.plates.light import emission_color, says_transmitted
from hybridfusion_core.plates.listing import Listing
from hybridfusion_core.plates.plane_records import Findings, Record
from hybridfusion_core.plates.well_names import well_index
from hybridfusion_core.plates.xml_stream import whole
from hybridfusion_core.stack import Channel

_LARGEST = 64 << 20  # bytes of a descriptor
_LARGEST_MANIFEST = 4 << 30


def read_hcs_ai(listing: Listing, index: Path | None) -> Findings:
    """Read an ImageXpress HCS.ai plate.

    Args:
        listing: of the folder.
        index: the .jdce file, or None to go by names.

    Raises:
        StoredDataError: the descriptor or a manifest is damaged.
    """
    files = plane_names("hcs-ai")
    if index is None:
        return read_names(listing, files, listing.root.name, "w")
    beside = listing.folder_of(index)
    stack = _inside(_descriptor(index), "ImageStack")
    protocol = _inside(stack, "AutoLeadAcquisitionProtocol")
    manifests = _manifests(listing, beside, stack)
    records, skipped = [], 0
    for manifest in manifests:
        for row in _rows(listing.root / manifest):
            made = _record(row, listing, beside)
            skipped += made is None
            if made is not None:
                records.append(made)
    if not records:
        found = read_names(listing, files, listing.root.name, "w")
        warning = f"No manifest (image_metadata_1.csv) with planes lies beside {index.name}; the names of files tell."
        return replace(found, warnings=(*found.warnings, warning))
    described = _channels(protocol, {each.channel for each in records})
    calibration = _inside(protocol, "ObjectiveCalibration")
    plate = _inside(_inside(protocol, "PlateMap"), "ZDimensionParameters")
    steps = [number(each.get("ZStep")) for each in _wavelengths(protocol)] + [number(plate.get("Step"))]
    here = f"{beside}/" if beside else ""
    strays = unlisted(listing, files, records)
    return Findings(
        _with_heights(records),
        described,
        name=str(stack.get("PlateId") or listing.root.name),
        index=index.name,
        y=axis(calibration.get("PixelHeight"), "micrometer"),
        x=axis(calibration.get("PixelWidth"), "micrometer"),
        z=axis(next((each for each in steps if each), None), "micrometer"),
        metadata=(str(index), *(str(listing.root / each) for each in manifests)),
        warnings=(f"{skipped} rows in {index.name}'s manifests do not say which plane they are; left out.",)
        if skipped
        else (),
        unlisted={key: path for key, path in strays.items() if path.startswith(here)},
        projections=tuple(_projections(listing, here)) if here else (),
    )


def _descriptor(index: Path) -> Mapping[str, Any]:
    with permitted(index):
        content = index.read_bytes() if index.stat().st_size <= _LARGEST else b""
    try:
        found = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or "ImageStack" not in found:
        raise StoredDataError(
            f"{index.name} is no JSON with an ImageStack, or has more than {_LARGEST >> 20} MiB; expected what "
            "MetaXpress Acquire writes. It is damaged: copy it again, or move it away to go by the names of the files."
        )
    return found


def _inside(stored: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = stored.get(key)
    return value if isinstance(value, dict) else {}


def _wavelengths(protocol: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    listed = protocol.get("Wavelengths")
    return [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []


def _manifests(listing: Listing, beside: str, stack: Mapping[str, Any]) -> list[str]:
    """Return the manifests that the descriptor names, or that lie beside it, as paths in the listing."""
    named = stack.get("ImageMetadataFiles")
    names = {str(PurePosixPath(beside, str(each))) for each in named} if isinstance(named, list) else set()
    found = sorted(names & listing.others)
    return found or [
        path
        for path in sorted(listing.others)
        if path.rpartition("/")[0] == beside
        and path.rpartition("/")[2].lower().startswith("image_metadata_")
        and path.lower().endswith(".csv")
    ]


def _rows(path: Path) -> Iterator[Mapping[str, str | None]]:
    try:
        with permitted(path), path.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
            if path.stat().st_size <= _LARGEST_MANIFEST:
                yield from csv.DictReader(stream)
    except csv.Error as error:
        raise StoredDataError(
            f"{path.name} cannot be read as CSV ({error}); expected the manifest of an acquisition. Copy it again."
        ) from error


def _record(row: Mapping[str, str | None], listing: Listing, beside: str) -> Record | None:
    at = well_index(row.get("Well") or "")
    field, channel, time, z = (whole(row.get(name)) for name in ("Field", "Wavelength", "Timepoint", "ZIndex"))
    named = (row.get("ImageFileName") or "").strip()
    if at is None or field is None or channel is None or time is None or z is None or not named:
        return None
    folder = (row.get("ImageSubFolderPath") or "").strip() or f"timepoint{time}"
    return Record(
        *at,
        str(field),
        time,
        str(channel),
        z,
        file=listing.find(f"{folder}/{named}", beside),
        named=named,
        z_um=number(row.get("PositionZUm")),
        y_um=number(row.get("PositionYUm")),
        x_um=number(row.get("PositionXUm")),
    )


def _with_heights(records: list[Record]) -> list[Record]:
    """Leave out heights that are the same for all slices: they are where the stage stood before the stack."""
    heights: dict[tuple[int, int, str, int, str], set[float | None]] = defaultdict(set)
    for each in records:
        heights[each[:5]].add(each.z_um)
    counts: dict[tuple[int, int, str, int, str], int] = defaultdict(int)
    for each in records:
        counts[each[:5]] += 1
    return [each._replace(z_um=None) if len(heights[each[:5]]) < counts[each[:5]] else each for each in records]


def _channels(protocol: Mapping[str, Any], keys: set[str]) -> dict[str, Channel]:
    by_index = {str(each.get("Index", place)): each for place, each in enumerate(_wavelengths(protocol))}
    described = {}
    for key in keys:
        emission = _inside(by_index.get(key, {}), "EmissionFilter")
        name = str(emission.get("Name") or f"w{key}")
        color = emission_color(number(emission.get("Wavelength")))
        described[key] = Channel(name, color=color, transmitted=says_transmitted(name))
    return described


def _projections(listing: Listing, here: str) -> Iterator[Record]:
    """Yield what other acquisitions of the same run have of the same planes: projections."""
    for path, groups in matches(plane_names("hcs-ai"), listing.images):
        if not path.startswith(here) and (made := record(path, groups)) is not None and made.z == 0:
            yield made
