"""Nikon ND2 by the library `nd2`: each XY position is a scene."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nd2
import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.io.description import RGB_CHANNELS, Description
from hybridfusion_core.io.native.scene import CONFOCAL, MULTIPHOTON, TRANSMITTED, WIDEFIELD, Scene
from hybridfusion_core.io.units import axis, number
from hybridfusion_core.stack import Axis, Channel

_AXES = {"TimeLoop": "T", "NETimeLoop": "T", "XYPosLoop": "P", "ZStackLoop": "Z"}
_TRANSMITTED = {"brightfield", "phaseContrast", "diContrast"}
_WELL = re.compile(r"[A-Z]{1,2}\d{1,2}")
_CONFOCAL = re.compile("confocal|sora|RCM|vaas|^VCS$", re.IGNORECASE)


class Nd2Reader:
    """An ND2 file.

    Args:
        path: of the file.
    """

    companions: tuple[str, ...] = ()

    def __init__(self, path: Path) -> None:
        self._file = nd2.ND2File(path)
        try:
            self._loops = [(_AXES.get(loop.type, "?"), int(loop.count)) for loop in self._file.experiment]
            self.scenes: tuple[Scene, ...] = tuple(_scenes(self._file, self._loops, path.stat().st_size))
        except BaseException:
            self.close()
            raise

    def read(self, scene: int, t: int, z: int, channels: Sequence[int], y: slice, x: slice) -> NDArray[Any]:
        """Read a region of one slice; see `NativeReader`."""
        sequence = _sequence(self._loops, {"T": t, "Z": z, "P": scene})
        _, count, _, rows, columns = self.scenes[scene].shape
        frame = self._file.read_frame(sequence)  # C Y X, or Y X C for colours, without axes of length 1
        if self.scenes[scene].rgb:
            frame = np.moveaxis(frame.reshape(rows, columns, count), -1, 0)
        return np.array(frame.reshape(count, rows, columns)[list(channels), y, x])

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _sequence(loops: Sequence[tuple[str, int]], at: Mapping[str, int]) -> int:
    """Return the number of a frame: the last loop runs fastest."""
    index = 0
    for letter, count in loops:
        index = index * count + (at.get(letter, 0) if count > 1 else 0)
    return index


def _scenes(file: Any, loops: Sequence[tuple[str, int]], file_size: int) -> list[Scene]:
    counts = dict(loops)
    common = _common(file, counts)
    several = [loop for loop in file.experiment if loop.type == "XYPosLoop"]
    points = list(several[0].parameters.points) if several else []
    names = [str(point.name or "") for point in points]
    wells = all(_WELL.fullmatch(name) for name in names)
    problem = _problem(file, loops)
    absent = set() if problem else _absent_frames(file, np.prod([1, *(n for _, n in loops)], dtype=object), file_size)
    scenes = []
    for index in range(counts.get("P", 1)):
        point = points[index] if index < len(points) else None
        times, why = (counts.get("T", 1), problem) if problem else _whole_times(loops, index, absent)
        scenes.append(
            Scene(
                about=_described(common, names[index] if point else "", times, counts.get("T", 1)),
                shape=(max(times, 1), *common["shape"][1:]),
                dtype=common["dtype"],
                rgb=common["rgb"],
                objective=common["objective"],
                decode_unit=common["decode_unit"],
                # A name says the well only where all of them do.
                well=names[index] if point and wells else None,
                position_um=None if point is None else _stage(point),
                problem=why,
            )
        )
    return scenes


def _common(file: Any, counts: Mapping[str, int]) -> dict[str, Any]:
    attributes, metadata = file.attributes, file.metadata
    planes = list(getattr(metadata, "channels", None) or [])
    components = file.components_per_channel
    rgb = components == 3 and (attributes.channelCount or 1) == 1
    count = int(attributes.componentCount)
    size = (int(attributes.heightPx), int(attributes.widthPx or 0))
    compressed = attributes.compressionType is not None
    first = planes[0] if planes else None
    y, x, z = _steps(file, first)
    lens = getattr(first, "microscope", None)
    return {
        "shape": (counts.get("T", 1), count, counts.get("Z", 1), *size),
        "dtype": file.dtype.name,
        "rgb": rgb,
        "objective": getattr(lens, "objectiveName", None) or None,
        "decode_unit": (1, count, 1, *size) if compressed or file.is_legacy else None,
        "channels": _channels(planes, count, rgb=rgb),
        "steps": {"t": _time_step(file, counts), "z": z, "y": y, "x": x},
        "positions": _positions(file, z, counts.get("Z", 1)),
        "na": number(getattr(lens, "objectiveNumericalAperture", None)),
    }


def _described(common: Mapping[str, Any], name: str, times: int, announced: int) -> Description:
    stopped = (
        f"The acquisition stopped early: {times} of {announced} time points are complete; the others are left out.",
    )
    return Description(
        name=name,
        channels=common["channels"],
        z_positions_um=common["positions"],
        na=common["na"] or None,
        warnings=stopped if 0 < times < announced else (),
        **common["steps"],
    )


def _problem(file: Any, loops: Sequence[tuple[str, int]]) -> str:
    """Say why the file as a whole cannot be read as stacks, or nothing."""
    letters = [letter for letter, count in loops if count > 1]
    strange = [loop.type for loop in file.experiment if loop.type not in _AXES and loop.count > 1]
    if strange:
        return f"it has a loop of the kind {strange[0]!r}; expected time, position and z only"
    if len(set(letters)) < len(letters):
        return f"its loops are {', '.join(letters)}; expected each of time, position and z once"
    if file.attributes.compressionType == "lossy" and not file.is_legacy:
        return "its pixels are compressed with losses in a way that is not read; expected none, or lossless"
    if file.components_per_channel == 3 and (file.attributes.channelCount or 1) > 1:
        return "several of its channels are colour images; expected one colour image, or grey channels"
    return ""


def _absent_frames(file: Any, count: int, file_size: int) -> set[int]:
    """Return the numbers of frames that are not in the file: the library gives black for them."""
    offsets = getattr(getattr(file, "_rdr", None), "_frame_offsets", None)
    if file.is_legacy or offsets is None:
        return set()
    attributes = file.attributes
    stored = 0 if attributes.compressionType else int(attributes.heightPx) * int(attributes.widthBytes or 0)
    if count > file_size:  # each frame takes more than a byte
        raise ValueError(f"{count} frames are announced in {file_size} bytes")
    return {index for index in range(count) if not 0 < offsets.get(index, 0) <= file_size - stored}


def _whole_times(loops: Sequence[tuple[str, int]], scene: int, absent: set[int]) -> tuple[int, str]:
    """Return how many time points have all their slices, and what is wrong if others come after a gap."""
    counts = dict(loops)
    whole = [
        not any(_sequence(loops, {"T": t, "Z": z, "P": scene}) in absent for z in range(counts.get("Z", 1)))
        for t in range(counts.get("T", 1))
    ]
    times = whole.index(False) if False in whole else len(whole)
    if times and not any(whole[times:]):
        return times, ""
    return times, (
        f"slices of time point {times} are missing in it; expected all slices. The file is cut short or the "
        "acquisition was stopped: copy it again, or export the part that is whole"
    )


def _steps(file: Any, channel: Any) -> tuple[Axis, Axis, Axis]:
    """Return Y, X and Z."""
    volume = getattr(channel, "volume", None)
    known = getattr(volume, "axesCalibrated", None) or (False, False, False)
    steps = getattr(volume, "axesCalibration", None) or (None, None, None)
    x, y, z = (axis(step, "micrometer") if sure else Axis() for step, sure in zip(steps, known, strict=True))
    stated = [loop.parameters.stepUm for loop in file.experiment if loop.type == "ZStackLoop"]
    of_loop = axis(abs(number(stated[0]) or 0), "micrometer") if stated else Axis()
    return y, x, of_loop if of_loop.unit else z


def _positions(file: Any, z: Axis, slices: int) -> tuple[float, ...] | None:
    """Return Z positions where the stack was taken from top to bottom: they descend."""
    down = any(loop.type == "ZStackLoop" and not loop.parameters.bottomToTop for loop in file.experiment)
    step = z.step_um
    if not down or step is None or not 1 < slices <= 1_000_000:
        return None
    return tuple(-step * index for index in range(slices))


def _time_step(file: Any, counts: Mapping[str, int]) -> Axis:
    times = counts.get("T", 1)
    stated = [loop.parameters.periodMs for loop in file.experiment if loop.type == "TimeLoop"]
    period = number(stated[0]) if stated else None
    if period:
        return axis(period / 1000, "second")
    if times < 2 or not stated:
        return Axis()
    # As fast as the microscope could: the mean interval is what the time stamps say.
    try:
        loops = [(_AXES.get(loop.type, "?"), int(loop.count)) for loop in file.experiment]
        first, last = (
            file.frame_metadata(_sequence(loops, {"T": t})).channels[0].time.relativeTimeMs for t in (0, times - 1)
        )
    except (AttributeError, LookupError, TypeError, ValueError):
        return Axis()
    return axis((last - first) / (times - 1) / 1000, "second")


def _channels(planes: Sequence[Any], count: int, *, rgb: bool) -> tuple[Channel, ...]:
    if rgb:
        flags = set(getattr(getattr(planes[0], "microscope", None), "modalityFlags", ())) if planes else set()
        transmitted, modality = _light(flags)
        return tuple(Channel(each.name, each.color, transmitted, modality=modality) for each in RGB_CHANNELS)
    return tuple(_channel(plane, index) for index, plane in enumerate(planes)) if len(planes) == count else ()


def _channel(plane: Any, index: int) -> Channel:
    color = plane.channel.color
    transmitted, modality = _light(set(getattr(plane.microscope, "modalityFlags", ()) or ()))
    return Channel(
        name=str(plane.channel.name or index),
        color=f"{color.r & 255:02X}{color.g & 255:02X}{color.b & 255:02X}" if any(color[:3]) else None,
        transmitted=transmitted,
        modality=modality,
    )


def _light(flags: set[str]) -> tuple[bool | None, str | None]:
    """Return whether light was transmitted, and the modality, of Nikon's flags."""
    fluorescent = "fluorescence" in flags
    if "transmitDetector" in flags or (flags & _TRANSMITTED and not fluorescent):
        return True, TRANSMITTED
    if "multiphoton" in flags:
        return False, MULTIPHOTON
    if any(_CONFOCAL.search(flag) for flag in flags):
        return False, CONFOCAL
    return (False, WIDEFIELD) if fluorescent else (None, None)


def _stage(point: Any) -> tuple[float, float] | None:
    y, x = number(point.stagePositionUm.y), number(point.stagePositionUm.x)
    return None if y is None or x is None else (y, x)
