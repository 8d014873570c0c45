"""Read OME-XML: steps, channels, modality and Z positions of each image, and the files it names.

The text comes from strangers: no DOCTYPE, no entities, and nothing in it is trusted to be a number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from defusedxml import DefusedXmlException, ElementTree

from hybridfusion_core.errors import StoredDataError
from hybridfusion_core.io.description import Description
from hybridfusion_core.io.units import axis, ngff_unit, number
from hybridfusion_core.stack import UNITS_UM, Axis, Channel

_TRANSMITTED = {
    "Brightfield",
    "Phase",
    "DIC",
    "HoffmanModulation",
    "ObliqueIllumination",
    "PolarizedLight",
    "Darkfield",
    "Transmitted",
    "Oblique",
    "BrightField",
}
_EMITTED = {"Fluorescence", "Epifluorescence", "NonLinear"}


def parse(text: str, name: str) -> Any:
    """Parse OME-XML.

    Args:
        text: the XML.
        name: what to call the file in messages.

    Raises:
        StoredDataError: it is no well-formed XML, or declares a document type or entities.
    """
    # Looked for before any parser sees the text: tifffile parses it with the standard library.
    if re.search(r"<!\s*(DOCTYPE|ENTITY)", text, re.IGNORECASE):
        raise StoredDataError(
            f"{name}: the OME-XML declares a DOCTYPE or ENTITY; expected plain OME-XML without either. "
            "Such declarations can make a reader hang: export the image again."
        )
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, DefusedXmlException, ValueError) as error:
        raise StoredDataError(
            f"{name}: the OME-XML is not well-formed ({error}); expected valid XML. "
            "The metadata are damaged: export the image again."
        ) from error


def file_names(root: Any) -> set[str]:
    """Return the names of all files that hold planes of these images."""
    names = (uuid.get("FileName") for data in _all(root, "TiffData") for uuid in _all(data, "UUID"))
    return {name for name in names if name}


def file_uuids(root: Any) -> dict[str, str]:
    """Return the UUID of each file that is named together with one."""
    elements = (uuid for data in _all(root, "TiffData") for uuid in _all(data, "UUID"))
    return {uuid.get("FileName"): uuid.text.strip() for uuid in elements if uuid.get("FileName") and uuid.text}


def metadata_file(root: Any) -> str | None:
    """Return the companion that holds the metadata, for a file that has pixels only."""
    for element in _all(root, "BinaryOnly"):
        return str(element.get("MetadataFile") or "unnamed")
    return None


def describe(root: Any) -> list[Description]:
    """Describe every image, in file order."""
    apertures = {lens.get("ID"): number(lens.get("LensNA")) for lens in _all(root, "Objective")}
    return [_image(image, apertures) for image in _all(root, "Image") if next(_all(image, "Pixels"), None) is not None]


def _image(image: Any, apertures: Mapping[str, float | None]) -> Description:
    pixels = next(_all(image, "Pixels"))
    sizes = {letter: int(number(pixels.get(f"Size{letter}")) or 0) for letter in "TCZYX"}
    z = _length(pixels, "PhysicalSizeZ")
    positions, z, warnings = z_positions(_stated_positions(pixels, sizes["Z"]), z)
    return Description(
        name=image.get("Name") or "",
        t=axis(pixels.get("TimeIncrement"), ngff_unit(pixels.get("TimeIncrementUnit", "s"))),
        z=z,
        y=_length(pixels, "PhysicalSizeY"),
        x=_length(pixels, "PhysicalSizeX"),
        channels=tuple(_channel(channel, index) for index, channel in enumerate(_all(pixels, "Channel"))),
        z_positions_um=positions,
        sizes=tuple(sizes.items()),
        planes=sizes["T"] * sizes["Z"] * sizes["C"] // _samples(pixels),
        na=next((apertures.get(used.get("ID")) for used in _all(image, "ObjectiveSettings")), None),
        warnings=warnings,
    )


def _samples(pixels: Any) -> int:
    first = next(_all(pixels, "Channel"), None)
    return max(1, int(number(first.get("SamplesPerPixel")) or 1)) if first is not None else 1


def _length(pixels: Any, key: str) -> Axis:
    return axis(pixels.get(key), ngff_unit(pixels.get(f"{key}Unit", "µm")))


def _channel(channel: Any, index: int) -> Channel:
    return Channel(
        name=channel.get("Name") or str(index), color=_color(channel.get("Color")), transmitted=_transmitted(channel)
    )


def _color(text: str | None) -> str | None:
    value = number(text)
    if value is None:
        return None
    # OME stores RGBA as one signed 32-bit number.
    return f"{int(value) & 0xFFFFFFFF:08X}"[:6]


def _transmitted(channel: Any) -> bool | None:
    said = {channel.get(key) for key in ("ContrastMethod", "IlluminationType", "AcquisitionMode")}
    if said & _EMITTED:
        return False
    if said & _TRANSMITTED:
        return True
    return False if channel.get("EmissionWavelength") or channel.get("Fluor") else None


def _stated_positions(pixels: Any, slices: int) -> list[float] | None:
    """Return the Z positions in µm of the first time point and channel, if all of them are stated."""
    stated: dict[int, float] = {}
    for plane in _all(pixels, "Plane"):
        index, position = number(plane.get("TheZ")), number(plane.get("PositionZ"))
        # The schema's default unit, the reference frame of the stage, has no known length.
        factor = UNITS_UM.get(ngff_unit(plane.get("PositionZUnit")) or "")
        if plane.get("TheC", "0") != "0" or plane.get("TheT", "0") != "0":
            continue
        if index is not None and position is not None and factor is not None:
            stated[int(index)] = position * factor
    # The length first: a damaged size may be larger than memory.
    whole = 1 < slices <= len(stated) and all(z in stated for z in range(slices))
    return [stated[z] for z in range(slices)] if whole else None


def z_positions(stated: Sequence[float] | None, z: Axis) -> tuple[tuple[float, ...] | None, Axis, tuple[str, ...]]:
    """Decide between the stated positions in µm and the step.

    Returns:
        Positions, or None where the step says it all; the step; warnings.
    """
    if stated is None or len(set(stated)) == 1:  # a stage that does not move states one position for all
        return None, z, ()
    steps = np.array([after - before for before, after in pairwise(stated)])
    if not (np.all(steps > 0) or np.all(steps < 0)):
        return None, z, ("The stated Z positions go back and forth; they are ignored and the Z step is used.",)
    step = float(np.mean(steps))
    regular = bool(np.all(np.abs(steps - step) <= 0.01 * abs(step)))
    size = z.step_um
    if size is not None and abs(abs(step) - size) > 0.05 * size:
        warning = f"The stated Z positions are {abs(step):.4g} µm apart, the Z step says {size:.4g} µm; positions used."
        return tuple(stated), Axis(abs(step), "micrometer"), (warning,)
    if size is None:
        z = Axis(abs(step), "micrometer")
    return (None if regular and step > 0 else tuple(stated)), z, ()


def _all(parent: Any, tag: str) -> Iterator[Any]:
    """Iterate over descendants by local name: the namespace differs from version to version."""
    return (element for element in parent.iter() if str(element.tag).rpartition("}")[2] == tag)
