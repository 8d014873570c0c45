"""Read OME-NGFF metadata (0.4 and 0.5): axes, scales, channels, and the images of a collection."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hybridfusion_core.errors import StoredDataError, UserInputError
from hybridfusion_core.io.description import Description
from hybridfusion_core.io.units import axis, ngff_unit, number
from hybridfusion_core.stack import Axis, Channel


def described_axes(entry: Mapping[str, Any], ndim: int, name: str) -> str:
    """Return one letter per axis; "?" for an axis that is no t, c, z, y, x.

    Raises:
        StoredDataError: the metadata name another number of axes than the array has.
        UserInputError: Y or X is not among them.
    """
    # Before 0.3 the axes were always these five.
    stored = entry.get("axes") or list("tczyx")
    names = [str(each.get("name", "?")) if isinstance(each, Mapping) else str(each) for each in stored]
    if len(names) != ndim:
        raise StoredDataError(
            f"{name}: the metadata name {len(names)} axes, the array has {ndim}; expected the same number. "
            "The metadata are damaged: write the image again."
        )
    letters = "".join(each.upper() if each.lower() in ("t", "c", "z", "y", "x") else "?" for each in names)
    if not {"Y", "X"} <= set(letters):
        raise UserInputError(
            f"{name} has the axes {names}; expected y and x among them. Say what each axis is, for example "
            "--axes CZYX (Python: axes=)."
        )
    return letters


def describe(
    entry: Mapping[str, Any], attributes: Mapping[str, Any], name: str, *, sizes_known: bool = False
) -> Description:
    """Describe one multiscale image at full resolution.

    Args:
        entry: one element of "multiscales".
        attributes: what stands beside "multiscales", for "omero".
        name: what to call the store in messages.
        sizes_known: the user gave pixel size or Z step: a scale that does not fit is left out, with a warning.

    Raises:
        StoredDataError: a scale has the wrong length or holds something else than numbers.
    """
    stored = entry.get("axes") or list("tczyx")
    warnings: tuple[str, ...] = ()
    try:
        steps = _steps(entry, stored, name)
    except StoredDataError as error:
        if not sizes_known:
            raise
        steps, warnings = {}, (f"{str(error).partition(';')[0]}; it is not used.",)
    return Description(
        name=str(entry.get("name") or ""),
        t=steps.get("t", Axis()),
        z=steps.get("z", Axis()),
        y=steps.get("y", Axis()),
        x=steps.get("x", Axis()),
        channels=_channels(attributes.get("omero")),
        warnings=warnings,
    )


def _steps(entry: Mapping[str, Any], stored: Sequence[Any], name: str) -> dict[str, Axis]:
    dataset = entry["datasets"][0]
    first = _scale(dataset.get("coordinateTransformations") if isinstance(dataset, Mapping) else None, stored, name)
    common = _scale(entry.get("coordinateTransformations"), stored, name)
    return {
        str(each.get("name")).lower(): axis(step * factor, _unit(each.get("unit")))
        for each, step, factor in zip(stored, first, common, strict=True)
        if isinstance(each, Mapping)
    }


def _scale(transformations: Any, stored: Sequence[Any], name: str) -> list[float]:
    found = [1.0] * len(stored)
    for each in transformations or ():
        if not isinstance(each, Mapping) or each.get("type") != "scale":
            continue
        scale = each.get("scale")
        numbers = [number(value) for value in scale] if isinstance(scale, Sequence) else []
        if len(numbers) != len(stored) or any(value is None for value in numbers):
            raise StoredDataError(
                f"{name}: the scale {scale!r} does not fit {len(stored)} axes; expected one number for each. "
                "Give the sizes yourself, --pixel-size and --z-step in µm (Python: pixel_size_um=, z_step_um=), or "
                "write the image again."
            )
        found = [value * (other or 1.0) for value, other in zip(found, numbers, strict=True)]
    return found


def _unit(stored: object) -> str | None:
    return None if not isinstance(stored, str) else ngff_unit(stored) or stored


def _channels(omero: Any) -> tuple[Channel, ...]:
    listed = omero.get("channels") if isinstance(omero, Mapping) else None
    if not isinstance(listed, Sequence):
        return ()
    return tuple(_channel(each if isinstance(each, Mapping) else {}, index) for index, each in enumerate(listed))


def _channel(stored: Mapping[str, Any], index: int) -> Channel:
    window = stored.get("window")
    low, high = (number(window.get(key)) for key in ("start", "end")) if isinstance(window, Mapping) else (None, None)
    color = str(stored.get("color") or "").lstrip("#").upper()
    return Channel(
        name=str(stored.get("label") or index),
        color=color if re.fullmatch("[0-9A-F]{6}", color) else None,
        window=(low, high) if low is not None and high is not None and low < high else None,
    )


def image_paths(attributes: Mapping[str, Any], path: Path) -> list[str]:
    """Return the paths of the images inside a plate, a well or a bioformats2raw collection."""
    plate, well, listed = attributes.get("plate"), attributes.get("well"), attributes.get("series")
    if isinstance(plate, Mapping):
        return [f"{each}/0" for each in _entry_paths(plate.get("wells"))]
    if isinstance(well, Mapping):
        return _entry_paths(well.get("images"))
    if isinstance(listed, Sequence) and not isinstance(listed, str):
        return [str(each) for each in listed if is_plain(str(each))]
    if "bioformats2raw.layout" in attributes:
        numbered = (each.name for each in path.iterdir() if each.is_dir() and each.name.isdecimal())
        return sorted(numbered, key=int)
    return []


def _entry_paths(entries: Any) -> list[str]:
    if not isinstance(entries, Sequence):
        return []
    found = (str(each.get("path")) for each in entries if isinstance(each, Mapping))
    return [each for each in found if is_plain(each)]


def is_plain(inside: str) -> bool:
    """Say whether a path in metadata leads nowhere but into the folder that they describe, links aside."""
    return bool(inside) and ".." not in inside.split("/") and not inside.startswith("/") and "\\" not in inside
