"""Opera Phenix and Operetta: planes that Harmony's index lists, with positions in metres.

Harmony up to 5 describes the channel in every `Image`; from 6 on the channels stand in `Maps`. An index of either kind
may have flat-field profiles in `Maps`, so what both say of a channel is put together. The index lies beside the images,
or in the folder above them (Harmony 7). The stage counts y upwards, see docs/decisions/020.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from hybridfusion_core.io.units import axis, number
from hybridfusion_core.plates.layouts.named_planes import read_names, unlisted
from hybridfusion_core.plates.layouts.table import plane_names
from hybridfusion_core.plates.light import emission_color
from hybridfusion_core.plates.listing import Listing
from hybridfusion_core.plates.plane_records import Findings, Record
from hybridfusion_core.plates.xml_stream import children, elements, whole
from hybridfusion_core.stack import Axis, Channel

_NAMES = frozenset({"Image", "Entry", "Plate"})
_TRANSMITTED = {"brightfield", "digitalphase", "phase", "digitalphasecontrast", "transmission"}
_UM_PER_M = 1e6


def read_harmony(listing: Listing, index: Path | None) -> Findings:
    """Read a Harmony plate.

    Args:
        listing: of the folder of the images.
        index: the index file, or None to go by names.

    Raises:
        StoredDataError: the index is damaged.
    """
    files = plane_names("harmony")
    if index is None:
        return read_names(listing, files, listing.root.name, "ch")
    beside = listing.folder_of(index)
    plate: dict[str, str] = {}
    channels: dict[str, dict[str, str]] = defaultdict(dict)
    inline: dict[str, dict[str, str]] = {}
    records: list[Record] = []
    skipped = 0
    for name, element in elements(index, _NAMES):
        found = children(element)
        if name == "Plate":
            plate = plate or found
        elif name == "Entry":
            channels[element.get("ChannelID", "")].update(found)
        elif "Row" in found:  # wells list their images by `Image` too
            made = _record(found, listing, beside)
            skipped += made is None
            if made is not None:
                records.append(made)
                if made.channel not in inline:
                    inline[made.channel] = found
    for key, about in inline.items():
        channels[key] = about | channels[key]
    described = {key: _channel(key, channels.get(key, {})) for key in {each.channel for each in records}}
    first = next((about for about in channels.values() if "ImageResolutionX" in about), {})
    findings = Findings(
        records,
        described,
        name=plate.get("Name") or plate.get("PlateID") or listing.root.name,
        index=index.name,
        rows=whole(plate.get("PlateRows"), 1, 100) or 0,
        columns=whole(plate.get("PlateColumns"), 1, 100) or 0,
        y=_um(first.get("ImageResolutionY")),
        x=_um(first.get("ImageResolutionX")),
        metadata=(str(index),),
        warnings=_warnings(skipped, index.name),
    )
    # Names count the times from 1, the index from 0.
    strays = {(*key[:3], key[3] - 1, *key[4:]): file for key, file in unlisted(listing, files, records).items()}
    return replace(findings, unlisted=strays)


def _record(found: dict[str, str], listing: Listing, beside: str) -> Record | None:
    """Make a record of an `Image`, or None if it says not which."""
    row, column = whole(found["Row"], 1, 100), whole(found.get("Col"), 1, 100)
    field, z = whole(found.get("FieldID")), whole(found.get("PlaneID"))
    channel = whole(found.get("ChannelID"))
    if row is None or column is None or field is None or z is None or channel is None:
        return None
    named, state = found.get("URL", ""), found.get("State") or "Ok"
    # A focus that failed leaves a plane in the index that has another state, or no file name.
    problem = f"the index calls it {state!r}" if state != "Ok" else "" if named else "the index names no file for it"
    height = _scaled(found.get("PositionZ"))
    return Record(
        row - 1,
        column - 1,
        str(field),
        whole(found.get("TimepointID")) or 0,
        str(channel),
        z,
        file=listing.find(named, beside) if named else None,
        named=named,
        problem=problem,
        z_um=_scaled(found.get("AbsPositionZ")) if height is None else height,
        y_um=_scaled(found.get("PositionY"), -1.0),
        x_um=_scaled(found.get("PositionX")),
    )


def _channel(key: str, about: dict[str, str]) -> Channel:
    kinds = {about.get(name, "").replace(" ", "").lower() for name in ("ChannelType", "IlluminationType")}
    transmitted = True if kinds & _TRANSMITTED else (False if "fluorescence" in kinds else None)
    color = None if transmitted else emission_color(number(about.get("MainEmissionWavelength")))
    return Channel(about.get("ChannelName") or f"ch{key}", color=color, transmitted=transmitted)


def _um(metres: str | None) -> Axis:
    return axis(_scaled(metres), "micrometer")


def _scaled(metres: str | None, direction: float = 1.0) -> float | None:
    value = number(metres)
    return None if value is None else direction * value * _UM_PER_M + 0.0  # no -0.0


def _warnings(skipped: int, index: str) -> tuple[str, ...]:
    return (f"{skipped} images in {index} do not say which plane they are; left out.",) if skipped else ()
