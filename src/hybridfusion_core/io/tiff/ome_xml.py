"""Read OME-XML: steps, channels, modality and Z positions of each image, and the files it names.

The text is not trusted: no DOCTYPE, no entities, and nothing in it is trusted to be a number.
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
from hybridfusion_core.io.units import axis, is_no_length, number, ome_time_unit, ome_unit
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


def refuse_declarations(text: str, name: str) -> None:
    """Refuse a document type or entities, before any parser sees the text: tifffile uses the standard library's.

    Args:
        text: the XML.
        name: what to call the file in messages.

    Raises:
        StoredDataError: it declares some.
    """
    if re.search(r"<!\s*(DOCTYPE|ENTITY)", text, re.IGNORECASE):
        raise StoredDataError(
            f"{name}: the OME-XML declares a DOCTYPE or ENTITY; expected plain OME-XML without either. "
            "Such declarations can make a reader hang: export the image again."
        )


def parse(text: str, name: str) -> Any:
    """Parse OME-XML.

    Args:
        text: the XML.
        name: what to call the file in messages.

    Raises:
        StoredDataError: it is no well-formed XML, or declares a document type or entities.
    """
    refuse_declarations(text, name)
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, DefusedXmlException, ValueError) as error:
        raise StoredDataError(
            f"{name}: the OME-XML is not well-formed ({error}); expected valid XML. The metadata are damaged or cut "
            "off: export the image again, or say what the axes are, for example --axes ZYX (Python: axes=), to read "
            "it without them."
        ) from error


def file_names(root: Any) -> set[str]:
    """Return the names of all files that hold planes of these images."""
    names = (uuid.get("FileName") for uuid in _uuids(root))
    return {name for name in names if name}


def file_uuids(root: Any) -> dict[str, str]:
    """Return the UUID of each file that is named together with one."""
    return {uuid.get("FileName"): uuid.text.strip() for uuid in _uuids(root) if uuid.get("FileName") and uuid.text}


def names_pages(root: Any) -> bool:
    """Say whether every block of planes is given its pages, by the first one or by their number."""
    blocks = [data for pixels in _pixels(root) for data in _children(pixels, "TiffData")]
    return bool(blocks) and all(each.get("IFD") or each.get("PlaneCount") or each.get("NumPlanes") for each in blocks)


def with_file_names(root: Any, names: Mapping[str, str]) -> str:
    """Return the XML with other names of files.

    Args:
        root: of the XML; it is changed.
        names: what each file is to be called, by the name that the XML has for it.
    """
    for uuid in _uuids(root):
        stated = uuid.get("FileName")
        if stated in names:
            uuid.set("FileName", names[stated])
    return str(ElementTree.tostring(root, encoding="unicode"))


def metadata_file(root: Any) -> str | None:
    """Return the companion that holds the metadata, for a file that has pixels only."""
    for element in _children(root, "BinaryOnly"):
        return str(element.get("MetadataFile") or "unnamed")
    return None


def describe(root: Any, samples: int = 1) -> list[Description]:
    """Describe every image, in file order.

    Args:
        root: of the XML.
        samples: how many values a pixel of the file's first page has, for channels that leave it out.
    """
    lenses = (lens for instrument in _children(root, "Instrument") for lens in _children(instrument, "Objective"))
    apertures = {lens.get("ID"): number(lens.get("LensNA")) for lens in lenses}
    return [
        _image(image, apertures, samples)
        for image in _children(root, "Image")
        if next(_children(image, "Pixels"), None) is not None
    ]


def state_samples(root: Any, samples: int) -> str | None:
    """Write the samples of a pixel into channels that leave them out; None if there is nothing to write.

    Args:
        root: of the XML; it is changed.
        samples: how many values a pixel of the file's first page has.
    """
    changed = False
    for pixels in _pixels(root):
        channels = list(_children(pixels, "Channel"))
        count = int(number(pixels.get("SizeC")) or 0)
        if samples > 1 and count == samples * len(channels) and all(not each.get(_SAMPLES) for each in channels):
            changed = True
            for each in channels:
                each.set(_SAMPLES, str(samples))
    return str(ElementTree.tostring(root, encoding="unicode")) if changed else None


def _image(image: Any, apertures: Mapping[str, float | None], samples: int) -> Description:
    pixels = next(_children(image, "Pixels"))
    sizes = {letter: int(number(pixels.get(f"Size{letter}")) or 0) for letter in "TCZYX"}
    x, y, z, t = (_step(pixels, key) for key in _STEPS)
    positions, z, warnings = z_positions(_stated_positions(pixels, sizes["Z"]), z)
    return Description(
        name=image.get("Name") or "",
        t=t,
        z=z,
        y=y,
        x=x,
        channels=tuple(_channel(channel, index) for index, channel in enumerate(_children(pixels, "Channel"))),
        z_positions_um=positions,
        sizes=tuple(sizes.items()),
        planes=sizes["T"] * sizes["Z"] * sizes["C"] // _samples(pixels, samples, sizes["C"]),
        na=next((apertures.get(used.get("ID")) for used in _children(image, "ObjectiveSettings")), None),
        warnings=(*_odd_steps(pixels), *warnings),
    )


def _samples(pixels: Any, of_page: int, channels: int) -> int:
    """Return the samples of a pixel: they are optional in the schema, and 1 where nothing else fits."""
    listed = list(_children(pixels, "Channel"))
    if not listed:
        return 1
    stated = listed[0].get(_SAMPLES)
    if stated is None and of_page > 1 and channels == of_page * len(listed):
        return of_page
    return max(1, int(number(stated) or 1))


_SAMPLES = "SamplesPerPixel"
_STEPS = ("PhysicalSizeX", "PhysicalSizeY", "PhysicalSizeZ", "TimeIncrement")


def _step(pixels: Any, key: str) -> Axis:
    value = number(pixels.get(key))
    if key == "TimeIncrement":
        return axis(value, ome_time_unit(pixels.get("TimeIncrementUnit", "s")))
    unit, factor = ome_unit(pixels.get(f"{key}Unit", "µm"))
    return axis(None if value is None else value * factor, unit)


def _odd_steps(pixels: Any) -> Iterator[str]:
    """Yield a sentence for each step that is stated and counts as unknown."""
    for key in _STEPS:
        stated, symbol = pixels.get(key), pixels.get(f"{key}Unit", "")
        value = number(stated)
        if stated is None:
            continue
        if value is None:
            comma = ": a decimal comma is none in XML" if re.fullmatch(r"\s*\d+,\d+\s*", stated) else ""
            yield f"{key} is {stated!r} in the OME-XML, which is not a number{comma}; it counts as not stated."
        elif value > 0 and _step(pixels, key).unit is None and not is_no_length(symbol):
            yield f"{key}Unit is {symbol!r} in the OME-XML, which is no unit that is known; {key} counts as not stated."


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
    for plane in _children(pixels, "Plane"):
        index, position = number(plane.get("TheZ")), number(plane.get("PositionZ"))
        # The schema's default unit, the reference frame of the stage, has no known length.
        unit, factor = ome_unit(plane.get("PositionZUnit"))
        if plane.get("TheC", "0") != "0" or plane.get("TheT", "0") != "0":
            continue
        if index is not None and position is not None and unit in UNITS_UM:
            stated[int(index)] = position * factor * UNITS_UM[unit]
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


def _pixels(root: Any) -> Iterator[Any]:
    return (pixels for image in _children(root, "Image") for pixels in _children(image, "Pixels"))


def _uuids(root: Any) -> Iterator[Any]:
    return (
        uuid for pixels in _pixels(root) for data in _children(pixels, "TiffData") for uuid in _children(data, "UUID")
    )


def _children(parent: Any, tag: str) -> Iterator[Any]:
    """Iterate over children by local name: the namespace differs from version to version.

    Not over descendants: annotations may hold whole OME-XML documents of their own.
    """
    return (element for element in parent if str(element.tag).rpartition("}")[2] == tag)
