"""Olympus FluoView OIB and OIF by the library `oiffile`, OIR by `oirfile`: one scene to a file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.io.description import RGB_CHANNELS, Description
from hybridfusion_core.io.native.scene import CONFOCAL, TRANSMITTED, Scene
from hybridfusion_core.io.tiff.ome_xml import z_positions
from hybridfusion_core.io.units import axis, ngff_unit, number
from hybridfusion_core.stack import UNITS_UM, Axis, Channel

_PLANE = re.compile(r"s_((?:[A-Z]\d{3,6})+)\.tif", re.IGNORECASE)
_AT = re.compile(r"([A-Z])(\d{3,6})", re.IGNORECASE)


class OifReader:
    """An OIB file, or an OIF file with its folder of planes.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        from oiffile import OifFile  # noqa: PLC0415  (each of the two formats works without the other's library)

        self._file = OifFile(path)
        try:
            names = list(self._file.glob("*"))
            self._planes = dict(_planes(names))
            self.companions = () if self._file.is_oib else tuple(str(path.parent / name) for name in names[1:])
            first = self._plane(next(iter(self._planes.values()), ""))
            self.scenes: tuple[Scene, ...] = (_oif_scene(self._file.mainfile, self._planes, first),)
        except BaseException:
            self.close()
            raise

    def read(self, scene: int, t: int, z: int, channels: Sequence[int], y: slice, x: slice) -> NDArray[Any]:
        """Read a region of one slice; see `NativeReader`."""
        if self.scenes[scene].rgb:
            pixels = self._plane(self._planes[t, 0, z])
            return np.array(np.moveaxis(pixels, -1, 0)[list(channels), y, x])
        return np.stack([self._plane(self._planes[t, c, z])[y, x] for c in channels])

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _plane(self, name: str) -> NDArray[Any]:
        pixels = np.asarray(self._file.asarray(name))
        return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def _planes(names: Sequence[str]) -> Sequence[tuple[tuple[int, int, int], str]]:
    """Return the files of planes by their T, C and Z from 0."""
    found = {}
    for name in names:
        match = _PLANE.fullmatch(re.split(r"[\\/]", name)[-1])
        if match is None:
            continue
        at = {letter.upper(): int(index) - 1 for letter, index in _AT.findall(match[1])}
        if not set(at) <= set("TCZ"):
            raise ValueError(f"the planes have axes {', '.join(at)}; time, channel and z are read")
        found[at.get("T", 0), at.get("C", 0), at.get("Z", 0)] = name
    if not found:
        raise ValueError("it holds no planes")
    return sorted(found.items())


def _oif_scene(settings: Mapping[str, Any], planes: Mapping[tuple[int, int, int], str], first: NDArray[Any]) -> Scene:
    axes = [settings.get(f"Axis {index} Parameters Common", {}) for index in range(9)]
    by_letter = {str(each.get("AxisCode")): each for each in axes}
    times, count, slices = (
        max(_size(by_letter.get(letter, {})), 1 + max(at[place] for at in planes)) for place, letter in enumerate("TCZ")
    )
    rgb = first.ndim == 3 and first.shape[-1] == 3
    problem = "" if first.ndim == 2 or (rgb and count == 1) else f"its planes have the shape {first.shape}"
    if len(planes) < times * count * slices:
        problem = (
            f"it has {len(planes)} of {times * count * slices} planes; expected all of them. It is cut short or was "
            "stopped: copy it again, or export the part that is whole"
        )
    rows, columns = first.shape[:2]
    channels = 3 if rgb else count
    z, positions = _oif_heights(by_letter.get("Z", {}), slices)
    common = settings.get("Acquisition Parameters Common", {})
    return Scene(
        about=Description(
            t=_oif_step(by_letter.get("T", {}), times),
            z=z,
            y=_oif_pixel(settings, "Height") or _oif_step(by_letter.get("Y", {}), rows),
            x=_oif_pixel(settings, "Width") or _oif_step(by_letter.get("X", {}), columns),
            channels=_oif_channels(settings, channels, rgb=rgb),
            z_positions_um=positions,
            na=_oif_na(settings),
        ),
        shape=(times, channels, slices, rows, columns),
        dtype=first.dtype.name,
        rgb=rgb,
        objective=str(common.get("Objective Lens Name") or common.get("ObjectiveLens Name") or "") or None,
        decode_unit=(1, 3 if rgb else 1, 1, rows, columns),
        problem=problem,
    )


def _size(parameters: Mapping[str, Any]) -> int:
    return int(number(parameters.get("MaxSize")) or 1)


def _span(parameters: Mapping[str, Any]) -> tuple[float | None, str | None]:
    """Return last − first position of an axis, and the unit."""
    first, last = number(parameters.get("StartPosition")), number(parameters.get("EndPosition"))
    unit = ngff_unit(str(parameters.get("UnitName") or parameters.get("PixUnit") or ""))
    return (None if first is None or last is None else last - first), unit


def _oif_pixel(settings: Mapping[str, Any], side: str) -> Axis | None:
    """Return the size of a pixel as the reference image states it."""
    reference = settings.get("Reference Image Parameter", {})
    unit = ngff_unit(str(reference.get(f"{side}Unit") or ""))
    size = axis(reference.get(f"{side}ConvertValue"), unit)
    return size if size.step_um is not None else None


def _oif_step(parameters: Mapping[str, Any], length: int) -> Axis:
    """Return the step of an axis: pixels, times and slices stand at both ends of its span."""
    span, unit = _span(parameters)
    if span is None or unit is None or length < 2:
        return Axis()
    step = abs(span) / (length - 1)
    return axis(step * UNITS_UM[unit], "micrometer") if unit in UNITS_UM else axis(step, unit)


def _oif_heights(parameters: Mapping[str, Any], slices: int) -> tuple[Axis, tuple[float, ...] | None]:
    z = _oif_step(parameters, slices)
    span, _ = _span(parameters)
    if span is None or span >= 0 or z.step_um is None or not 1 < slices <= 1_000_000:
        return z, None
    return z, tuple(-z.step_um * index for index in range(slices))


def _oif_channels(settings: Mapping[str, Any], count: int, *, rgb: bool) -> tuple[Channel, ...]:
    stated = [settings.get(f"Channel {index + 1} Parameters", {}) for index in range(1 if rgb else min(count, 1000))]
    if rgb:
        transmitted, modality = _oif_light(stated[0])
        return tuple(Channel(each.name, each.color, transmitted, modality=modality) for each in RGB_CHANNELS)
    if len(stated) != count:
        return ()
    channels = []
    for index, each in enumerate(stated):
        dye = str(each.get("DyeName") or "")
        name = dye if dye not in ("", "None") else str(each.get("CH Name") or index)
        transmitted, modality = _oif_light(each)
        channels.append(Channel(name, None, transmitted, modality=modality))
    return tuple(channels)


def _oif_light(stated: Mapping[str, Any]) -> tuple[bool | None, str | None]:
    kind = str(stated.get("LightType") or "").lower()
    if "transmitted" in kind:
        return True, TRANSMITTED
    if "fluorescence" in kind or stated.get("ExcitationWavelength"):
        return False, CONFOCAL if stated.get("Confocal", "ON") == "ON" else None
    return None, None


def _oif_na(settings: Mapping[str, Any]) -> float | None:
    """Return the aperture: settings spell it in several ways, in one of several sections."""
    for section in settings.values():
        for key, value in section.items() if isinstance(section, dict) else ():
            if re.fullmatch(r"(?:objective ?lens ?)?na(?: ?value)?", str(key).strip().lower()):
                found = number(value)
                if found:
                    return found
    return None


class OirReader:
    """An OIR file.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        from oirfile import OirFile  # noqa: PLC0415

        self._file = OirFile(path)
        try:
            self.companions = tuple(str(each) for each in self._file.companion_files)
            self.scenes: tuple[Scene, ...] = (_oir_scene(self._file, path.stat().st_size, self.companions),)
            self._pixels: NDArray[Any] | None = None
        except BaseException:
            self.close()
            raise

    def read(self, scene: int, t: int, z: int, channels: Sequence[int], y: slice, x: slice) -> NDArray[Any]:
        """Read a region of one slice; see `NativeReader`."""
        del scene
        if self._pixels is None:
            # The library has no way to read a part: it unpacks into a scratch file, and only once.
            self._pixels = self._file.asarray(out="memmap")
        at: dict[str, Any] = {"T": t, "Z": z, "C": list(channels), "S": list(channels), "Y": y, "X": x}
        sizes = self._file.sizes
        pixels: NDArray[Any] = np.asarray(self._pixels[tuple(at[letter] for letter in sizes)])
        channelled = "C" in sizes or "S" in sizes
        return np.array(pixels if channelled else pixels[np.newaxis])

    def close(self) -> None:
        """Close the file."""
        self._pixels = None
        self._file.close()


def _oir_scene(file: Any, file_size: int, companions: Sequence[str]) -> Scene:
    sizes, scales, coords = dict(file.sizes), file.coord_scales, file.coords
    rgb = sizes.get("S") == 3
    count = 3 if rgb else sizes.get("C", 1)
    problem = ""
    if "L" in sizes or "Y" not in sizes or sizes.get("S", 3) != 3:
        problem = f"its axes are {', '.join(sizes)}; expected time, z, channels, Y and X"
    shape = (sizes.get("T", 1), count, sizes.get("Z", 1), sizes.get("Y", 1), sizes.get("X", 1))
    if not companions and int(np.prod(shape, dtype=object)) > file_size:
        problem = f"its sizes {sizes} need more than the {file_size} bytes of the file. It is cut short: copy it again"
    stated = [float(each) for each in coords["Z"]] if "Z" in coords else None
    z = axis(abs(scales.get("Z", 0)), "micrometer")
    positions, z, warnings = z_positions(stated, z) if stated and len(stated) > 1 else (None, z, ())
    return Scene(
        about=Description(
            t=axis(scales.get("T"), "second"),
            z=z,
            y=axis(scales.get("Y"), "micrometer"),
            x=axis(scales.get("X"), "micrometer"),
            channels=RGB_CHANNELS if rgb else _oir_channels(file, count),
            z_positions_um=positions,
            warnings=warnings,
        ),
        shape=shape,
        dtype=file.dtype.name,
        rgb=rgb,
        problem=problem,
    )


def _oir_channels(file: Any, count: int) -> tuple[Channel, ...]:
    names = [str(each) for each in file.coords.get("C", [each.name for each in file.channels])]
    if len(names) != count:
        return ()
    emitted = {each.name: each.start_wavelength is not None for each in file.channels}
    return tuple(
        Channel(
            name,
            None,
            True if name.upper().startswith("TD") else (False if emitted.get(name) else None),
            modality=TRANSMITTED if name.upper().startswith("TD") else (CONFOCAL if emitted.get(name) else None),
        )
        for name in names
    )
