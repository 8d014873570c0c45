"""Zeiss CZI by Zeiss' own library `pylibCZIrw`: each scene of the file is a scene; tiles are put together by it."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from defusedxml import ElementTree
from numpy.typing import NDArray
from pylibCZIrw.czi import CziReader as Library

from hybridfusion_core.io.description import RGB_CHANNELS, Description
from hybridfusion_core.io.native.scene import CONFOCAL, TRANSMITTED, WIDEFIELD, Scene
from hybridfusion_core.io.tiff.ome_xml import z_positions
from hybridfusion_core.io.units import axis, number
from hybridfusion_core.stack import Axis, Channel

_DTYPES = {"Gray8": "uint8", "Gray16": "uint16", "Gray32Float": "float32", "Bgr24": "uint8", "Bgr48": "uint16"}
_LARGEST_WHOLE = 2**28  # bytes of a plane; larger ones are mosaics of tiles, read by region
_TRANSMITTED = {"Brightfield", "Phase", "PhaseContrast", "DIC", "HoffmanModulation", "Darkfield", "Transmitted"}
_CONFOCAL = {"LaserScanningConfocalMicroscopy", "SpinningDiskConfocal", "SweptFieldConfocal", "SlitScanConfocal"}


@dataclass(frozen=True)
class _Place:
    """Where a scene lies: its number in the file, its x, y, width and height there, and its first T, C and Z."""

    number: int | None
    rectangle: tuple[int, ...]
    first: tuple[int, int, int]


class CziReader:
    """A CZI file.

    Args:
        path: of the file.
    """

    companions: tuple[str, ...] = ()

    def __init__(self, path: Path) -> None:
        self._file = Library(str(path))
        try:
            self._places, self.scenes = _scenes(self._file)
        except BaseException:
            self.close()
            raise

    def read(self, scene: int, t: int, z: int, channels: Sequence[int], y: slice, x: slice) -> NDArray[Any]:
        """Read a region of one slice; see `NativeReader`."""
        place = self._places[scene]
        left, top, _, _ = place.rectangle
        region = (left + x.start, top + y.start, x.stop - x.start, y.stop - y.start)

        def plane(c: int) -> NDArray[Any]:
            first = place.first
            at = {"T": first[0] + t, "C": first[1] + c, "Z": first[2] + z}
            return np.asarray(self._file.read(roi=region, plane=at, scene=place.number))  # Y X and 1, or BGR

        if self.scenes[scene].rgb:
            return np.array(np.moveaxis(plane(0)[..., ::-1], -1, 0)[list(channels)])
        return np.stack([plane(c)[..., 0] for c in channels])

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _scenes(file: Any) -> tuple[list[_Place], tuple[Scene, ...]]:
    root = ElementTree.fromstring(file.raw_metadata)
    rectangles = dict(sorted(file.scenes_bounding_rectangle_no_pyramid.items()))
    if not rectangles:
        rectangles = {None: file.total_bounding_rectangle_no_pyramid}
    planes = _planes(file)
    stated = {each.get("Index"): each for each in root.iterfind(".//Dimensions/S/Scenes/Scene")}
    places, scenes = [], []
    for index, rectangle in rectangles.items():
        of_scene = planes.get(index) or planes.get(None) or set()
        ranges = [(min(each), max(each) + 1) for each in zip(*of_scene, strict=True)] or [(0, 0)] * 3
        places.append(_Place(index, tuple(rectangle), (ranges[0][0], ranges[1][0], ranges[2][0])))
        lengths = [stop - start for start, stop in ranges]
        scenes.append(_scene(file, root, places[-1], stated.get(str(index or 0)), lengths, len(of_scene)))
    return places, tuple(scenes)


def _planes(file: Any) -> dict[int | None, set[tuple[int, int, int]]]:
    """Return (t, c, z) of all planes that have pixels, by scene: what has none would be read as black."""
    found: dict[int | None, set[tuple[int, int, int]]] = defaultdict(set)

    def note(_: int, block: Any) -> bool:
        at = block.coordinate.to_dict()
        if abs(block.get_zoom() - 1) < 0.01:
            found[at.get("S")].add((at.get("T", 0), at.get("C", 0), at.get("Z", 0)))
        return True

    file.enumerate_subblocks(note)
    return found


def _scene(file: Any, root: Any, place: _Place, stated: Any, lengths: Sequence[int], planes: int) -> Scene:
    times, count, slices = lengths
    start = place.first[1]
    kinds = {str(file.get_channel_pixel_type(index)) for index in range(start, start + min(count, 1000))}
    kind = next(iter(kinds), "Invalid")
    rgb = kind.startswith("Bgr")
    channels = 3 if rgb else count
    problem = _problem(file.total_bounding_box, kinds, count, rgb=rgb)
    if not problem and planes < math.prod(lengths):
        problem = (
            f"it has {planes} of {math.prod(lengths)} planes; expected all of them, since the others would be black. "
            "It is cut short or was stopped: export the part that is whole"
        )
    _, _, width, height = place.rectangle
    dtype = _DTYPES.get(kind, "uint16")
    small = channels * width * height * np.dtype(dtype).itemsize <= _LARGEST_WHOLE
    name, well, position = _stated_place(stated)
    lens = _objective(root)
    na = None if lens is None else number(lens.findtext("LensNA"))
    return Scene(
        about=_about(root, name, channels, slices, rgb=rgb, na=na),
        shape=(times, channels, slices, height, width),
        dtype=dtype,
        rgb=rgb,
        objective=None if lens is None else (lens.get("Name") or lens.findtext("Manufacturer/Model")),
        decode_unit=(1, 3 if rgb else 1, 1, height, width) if small else None,
        well=well,
        position_um=position,
        problem=problem,
    )


def _problem(bounds: Mapping[str, Any], kinds: set[str], channels: int, *, rgb: bool) -> str:
    other = [each for each in "RIHVB" if each in bounds and bounds[each][1] - bounds[each][0] > 1]
    if other:
        what = {"H": "phases", "R": "rotations", "I": "illuminations", "V": "views", "B": "blocks"}[other[0]]
        return (
            f"it has several {what}; expected time, z and channels only. Process it in ZEN first and export the result"
        )
    if len(kinds) > 1 or not kinds <= set(_DTYPES):
        return f"its pixels are {', '.join(sorted(kinds))}; expected one kind of {', '.join(_DTYPES)}"
    return "it has several colour images as channels; expected one, or grey channels" if rgb and channels > 1 else ""


def _stated_place(scene: Any) -> tuple[str, str | None, tuple[float, float] | None]:
    """Return name, well and position on the stage in µm of a scene's metadata."""
    if scene is None:
        return "", None, None
    well = scene.findtext("ArrayName") or next((each.get("Name") for each in scene.iterfind("Shape")), None)
    centre = [number(each) for each in (scene.findtext("CenterPosition") or "").split(",")]
    x, y = centre if len(centre) == 2 else (None, None)
    position = None if x is None or y is None else (y, x)
    return scene.get("Name") or "", well if well and re.fullmatch(r"[A-Z]{1,2}\d{1,2}", well) else None, position


def _about(root: Any, name: str, channels: int, slices: int, *, rgb: bool, na: float | None) -> Description:
    steps = {each.get("Id"): number(each.findtext("Value")) for each in root.iterfind(".//Scaling/Items/Distance")}
    x, y, z = (axis(f"{(steps.get(letter) or 0) * 1e6:.12g}", "micrometer") for letter in "XYZ")
    positions, z, warnings = z_positions(_heights(root, slices, z), z)
    every = root.findtext(".//Image/Dimensions/T/Positions/Interval/Increment")
    return Description(
        name=name,
        t=axis(every, "second"),
        z=z,
        y=y,
        x=x,
        channels=_channels(root, channels, rgb=rgb),
        z_positions_um=positions,
        na=na,
        warnings=warnings,
    )


def _heights(root: Any, slices: int, z: Axis) -> list[float] | None:
    """Return Z positions in µm that the metadata list or that descend; None where the step says it all."""
    positions = root.find(".//Image/Dimensions/Z/Positions")
    if positions is None or not 1 < slices <= 1_000_000:
        return None
    listed = [number(each) for each in (positions.findtext("List/Offsets") or "").split()]
    if len(listed) == slices and None not in listed:
        return [float(each) for each in listed if each is not None]
    step, known = number(positions.findtext("Interval/Increment")), z.step_um
    # Its unit is not stated anywhere: it is believed where it is the step of the scaling, which is in metres.
    if step is None or known is None or abs(abs(step) - known) > 0.05 * known:
        return None
    return [step * index for index in range(slices)] if step < 0 else None


def _channels(root: Any, count: int, *, rgb: bool) -> tuple[Channel, ...]:
    stated = list(root.iterfind(".//Information/Image/Dimensions/Channels/Channel"))
    shown = {each.get("Id"): each for each in root.iterfind(".//DisplaySetting/Channels/Channel")}
    if rgb:
        transmitted, modality = _light(stated[0]) if stated else (None, None)
        return tuple(Channel(each.name, each.color, transmitted, modality=modality) for each in RGB_CHANNELS)
    if len(stated) != count:
        return ()
    return tuple(_channel(each, shown.get(each.get("Id")), index) for index, each in enumerate(stated))


def _channel(stated: Any, shown: Any, index: int) -> Channel:
    color = stated.findtext("Color") or (None if shown is None else shown.findtext("Color"))
    name = stated.get("Name") or (None if shown is None else shown.get("Name"))
    transmitted, modality = _light(stated)
    return Channel(name or str(index), next(_rgb(color), None), transmitted, modality=modality)


def _rgb(color: str | None) -> Iterator[str]:
    """Yield RRGGBB of "#AARRGGBB" or "#RRGGBB"."""
    match = re.fullmatch(r"#(?:[0-9A-Fa-f]{2})?([0-9A-Fa-f]{6})", color or "")
    if match is not None:
        yield match[1].upper()


def _light(stated: Any) -> tuple[bool | None, str | None]:
    """Return whether light was transmitted, and the modality."""
    said = {stated.findtext(each) or "" for each in ("ContrastMethod", "IlluminationType", "AcquisitionMode")}
    if said & _TRANSMITTED:
        return True, TRANSMITTED
    fluorescent = "Fluorescence" in said or "Epifluorescence" in said
    if said & _CONFOCAL:
        return False, CONFOCAL
    fluorescent = fluorescent or bool(stated.findtext("EmissionWavelength") or stated.findtext("Fluor"))
    return (False, WIDEFIELD if "WideField" in said else None) if fluorescent else (None, None)


def _objective(root: Any) -> Any:
    """Return the objective that was used, or the only one there is."""
    lenses = list(root.iterfind(".//Instrument/Objectives/Objective"))
    used = root.find(".//Image/ObjectiveSettings/ObjectiveRef")
    chosen = [each for each in lenses if used is not None and each.get("Id") == used.get("Id")]
    return chosen[0] if chosen else (lenses[0] if len(lenses) == 1 else None)
