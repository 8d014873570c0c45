"""One field at one time point as a `Stack`: what is listed is looked at before any pixel is fused.

A plane that is missing, cut short, of another size or of another type fails the field by name; nothing is ever
replaced by black.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.errors import StoredDataError, UserInputError
from hybridfusion_core.io.description import RGB_CHANNELS
from hybridfusion_core.io.disk.access import permitted
from hybridfusion_core.io.open import open_stack
from hybridfusion_core.io.picture_files import Picture, inspect
from hybridfusion_core.io.region import DecodeUnit
from hybridfusion_core.io.slice_files import PictureStack
from hybridfusion_core.io.tiff.ome_xml import z_positions
from hybridfusion_core.io.zarr.chunk_files import Absent
from hybridfusion_core.io.zarr.remote_image import open_remote_image
from hybridfusion_core.io.zarr.source import is_url
from hybridfusion_core.plates.arrays import AtIndex, AtIndices, JoinedChannels, PlaneGrid
from hybridfusion_core.plates.plate import Defect, Image, Plane, PlateField
from hybridfusion_core.stack import Axis, Channel, Stack

_SAME_HEIGHT = 0.1  # of a step


def open_field(
    field: PlateField,
    *,
    channels: Sequence[str] | None = None,
    z_step_um: float | None = None,
    pixel_size_um: float | None = None,
    absent: Absent = "refuse",
) -> Stack:
    """Open one field at one time point; every header is read, no pixel.

    A channel of one slice beside others of many is repeated, so that fusing gives it back as it is. One that was not
    acquired at this time reads as zeros, and a warning says so.

    Args:
        field: of `Plate.fields`.
        channels: names or indices of the channels to open; None opens all.
        z_step_um: distance between slices in µm; replaces what the metadata say.
        pixel_size_um: distance between pixels in µm; replaces what the metadata say.
        absent: what to do about slices of which an OME-Zarr has no chunk, as for `open_stack`.

    Returns:
        T = 1, C Z Y X; close it, or use it as a context manager.

    Raises:
        UserInputError: no such channel; channels with different slices; a file may not be read.
        StoredDataError: the field has defects, or a file is damaged or of another size or pixel type than the others.
    """
    chosen = find_channels(field, channels)
    problems = defects_of(field, chosen)
    if problems:
        first, *others = problems
        raise StoredDataError(f"{field.name}: {first.message}", [each.message for each in others])
    if field.frame.image is not None:
        stack = _of_image(field, channels, absent)
    else:
        stack = _of_images(field, chosen, absent) if field.frame.images else _of_planes(field, chosen, z_step_um)
    if not field.frame.dropped:
        stack = stack.with_z_step(z_step_um)
    if pixel_size_um is not None:
        size = Axis(pixel_size_um, "micrometer")
        stack = replace(stack, y=size, x=size)
    return stack


def find_channels(field: PlateField, wanted: Sequence[str] | None) -> tuple[int, ...]:
    """Return the indices of channels that are given by name or index; None means all.

    Raises:
        UserInputError: no such channel.
    """
    names = [channel.name for channel in field.imaging.channels]
    if wanted is None:
        return tuple(range(len(names)))
    found = []
    for each in wanted:
        if names.count(each) == 1:
            found.append(names.index(each))
        elif each.isascii() and each.isdecimal() and int(each) < len(names):
            found.append(int(each))
        else:
            raise UserInputError(
                f"The plate has no channel {each!r}, or several of that name; expected one of "
                f"{', '.join(map(repr, names))}, or an index from 0. Give another one with --channels."
            )
    return tuple(dict.fromkeys(found))


def defects_of(field: PlateField, channels: Sequence[int]) -> tuple[Defect, ...]:
    """Return what is wrong with some channels of a field, as far as it is known without opening a file.

    Args:
        field: a field at one time point.
        channels: indices.
    """
    known = tuple(each for each in field.frame.defects if each.channel is None or each.channel in channels)
    if known or field.frame.image is not None:
        return known
    names = [channel.name for channel in field.imaging.channels]
    acquired = [each for each in channels if each not in field.frame.not_acquired]
    counts = {names[each]: field.frame.slices[each] for each in acquired}
    absent = [name for name, count in counts.items() if not count]
    if absent:
        return (
            Defect(
                "missing",
                f"channel {absent[0]!r} was not taken here; expected all channels that are fused. Choose channels that "
                "every field has, with --channels.",
            ),
        )
    if field.frame.images:
        return ()
    deep = [each for each in acquired if field.frame.slices[each] > 1]
    odd = next((each for each in deep if not _alike(field.frame.planes[deep[0]], field.frame.planes[each])), None)
    if odd is None:
        return ()
    listing = ", ".join(f"{name!r}: {count}" for name, count in counts.items())
    return (
        Defect(
            "missing",
            f"channels {names[deep[0]]!r} and {names[odd]!r} do not have the same slices ({listing}); expected as many "
            "at the same distances, or a single one. Fuse them one after the other, with --channels.",
        ),
    )


def _alike(one: Sequence[Plane], other: Sequence[Plane]) -> bool:
    """Say whether two channels were taken at the same distances; an offset between colours is no difference."""
    if len(one) != len(other):
        return False
    heights = [[plane.z_um for plane in planes if plane.z_um is not None] for planes in (one, other)]
    if len(heights[0]) != len(one) or len(heights[1]) != len(other):
        return [plane.z - one[0].z for plane in one] == [plane.z - other[0].z for plane in other]
    steps = [np.diff(each) for each in heights]
    return bool(np.all(np.abs(steps[0] - steps[1]) <= _SAME_HEIGHT * np.abs(steps[0]).max(initial=0)))


def _of_planes(field: PlateField, channels: Sequence[int], z_step_um: float | None) -> Stack:
    folder = Path(field.folder)
    runs = [field.frame.planes[each] for each in channels]
    longest = max(runs, key=len)
    files = [plane.file for run in runs for plane in run]
    with permitted(folder):
        pictures = [inspect(_inside(folder, file)) for file in files]
    _check_alike(field, files, pictures)
    first, planes = pictures[0], PictureStack(pictures)
    rgb = first.samples == 3
    if rgb and len(runs) > 1:
        raise UserInputError(
            f"{field.name}: {files[0]!r} is a colour image and one of {len(runs)} channels; expected grey planes, or "
            "colours alone. Choose one channel with --channels."
        )
    dropped, imaging = field.frame.dropped, field.imaging
    step = imaging.z if z_step_um is None else Axis(z_step_um, "micrometer")
    positions, z = _counted_heights(longest, step) if dropped else _heights(longest, imaging.z)
    flat = [channel for channel, run in zip(channels, runs, strict=True) if 0 < len(run) < len(longest)]
    blank = [imaging.channels[channel] for channel, run in zip(channels, runs, strict=True) if not run]
    return Stack(
        array=planes if rgb else PlaneGrid(planes, _plane_index(runs)),
        axes="ZCYX" if rgb else "CZYX",
        name=field.name,
        channels=_rgb(imaging.channels[channels[0]]) if rgb else tuple(imaging.channels[each] for each in channels),
        t=imaging.t,
        z=z,
        y=imaging.y,
        x=imaging.x,
        z_positions_um=positions,
        rgb=rgb,
        source=tuple(str(folder / file) for file in files),
        warnings=(
            *_dropped(dropped, positions),
            *_serving([imaging.channels[each] for each in flat], len(longest)),
            *_not_acquired(blank),
        ),
        decode_unit=(1, first.samples, 1, *first.shape),
    )


def _plane_index(runs: Sequence[Sequence[Plane]]) -> NDArray[np.int64]:
    """Return which of all planes, channel after channel, stands where, C Z; a single slice serves all, -1 is none."""
    depth = max(len(run) for run in runs)
    starts = np.cumsum([0, *(len(run) for run in runs)])[:-1]
    return np.array(
        [
            start + (np.arange(depth) if len(run) > 1 else np.zeros(depth, int)) if run else np.full(depth, -1)
            for start, run in zip(starts, runs, strict=True)
        ]
    )


def _serving(channels: Sequence[Channel], depth: int) -> Iterator[str]:
    if channels:
        yield f"One slice of {', '.join(each.name for each in channels)} serves all {depth} slices."


def _not_acquired(channels: Iterable[Channel]) -> Iterator[str]:
    return (f"{channel.name!r} was not acquired at this time point and reads as zeros." for channel in channels)


def _rgb(channel: Channel) -> tuple[Channel, ...]:
    return tuple(replace(each, transmitted=channel.transmitted) for each in RGB_CHANNELS)


def _heights(planes: Sequence[Plane], z: Axis) -> tuple[tuple[float, ...] | None, Axis]:
    heights = [plane.z_um for plane in planes if plane.z_um is not None]
    if len(heights) != len(planes) or len(planes) < 2:
        return None, z
    positions, step, _ = z_positions(heights, Axis())
    return positions, step if step.unit else z


def _counted_heights(planes: Sequence[Plane], step: Axis) -> tuple[tuple[float, ...] | None, Axis]:
    """Return where slices were taken, some of which are missing: by their own heights, or else by their numbers."""
    if step.step_um is None:
        return _heights(planes, step)
    heights = [plane.z_um for plane in planes if plane.z_um is not None]
    if len(heights) == len(planes) > 1:
        return tuple(heights), step
    numbers = [plane.z for plane in planes]
    usual = min((after - before for before, after in pairwise(numbers)), default=1)
    return tuple((each - numbers[0]) / usual * step.step_um for each in numbers), step


def _dropped(slices: Sequence[int], positions: Sequence[float] | None) -> Iterator[str]:
    if slices:
        shown = ", ".join(map(str, slices[:8])) + (", …" if len(slices) > 8 else "")
        heights = "" if positions is not None else "; no z step is known, so heights count the slices that are left"
        yield f"{len(slices)} slices are left out, because planes of them are missing: z {shown}{heights}."


def _inside(folder: Path, file: str) -> Path:
    """Return the path of a plane; it may have become a link since the folder was listed."""
    path = folder / file
    if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
        raise StoredDataError(
            f"{file!r} is a link that leads out of the folder of the plate; expected a file inside it. Copy the image "
            "there."
        )
    if not path.exists():
        raise StoredDataError(
            f"{file!r} is gone; expected the file that was there when the plate was opened. Copy it into the folder."
        )
    return path


def _check_alike(field: PlateField, files: Sequence[str], pictures: Sequence[Picture]) -> None:
    """Refuse a plane of another size or pixel type: microscopes write garbage of 32 bit where a plane failed."""
    usual = Counter((each.shape, each.samples, each.dtype.name) for each in pictures).most_common(1)[0][0]
    if field.imaging.plane is not None and field.imaging.dtype is not None:
        usual = (field.imaging.plane, 3 if field.imaging.rgb else 1, field.imaging.dtype)
    odd = [
        file for file, each in zip(files, pictures, strict=True) if (each.shape, each.samples, each.dtype.name) != usual
    ]
    if odd:
        found = pictures[files.index(odd[0])]
        (y, x), samples, dtype = usual
        raise StoredDataError(
            f"{field.name}: {len(odd)} of {len(files)} planes are unlike the others of the plate: {odd[0]!r} is "
            f"{found.shape[0]} × {found.shape[1]} {_colour(found.samples)} {found.dtype}; expected {y} × {x} "
            f"{_colour(samples)} {dtype}. They are no planes, or were not recorded: leave their channel out with "
            "--channels, or move them away."
        )


def _colour(samples: int) -> str:
    return "RGB" if samples == 3 else "grey"


def _of_image(field: PlateField, channels: Sequence[str] | None, absent: Absent) -> Stack:
    image = field.frame.image
    assert image is not None  # noqa: S101  (for mypy: the caller has looked)
    remote = is_url(field.folder)
    stack = open_remote_image(f"{field.folder}/{image.path}", absent) if remote else _of_file(field, image, absent)
    stack = replace(stack, name=field.name)
    if "T" in stack.axes:
        stack = _at_time(stack, image.t)
    if channels is None:
        return stack
    return _with_channels(
        stack, find_channels(replace(field, imaging=replace(field.imaging, channels=stack.channels)), channels)
    )


def _of_images(field: PlateField, channels: Sequence[int], absent: Absent) -> Stack:
    """Open a field whose channels have an image each, or none at this time; all must have the same Z, Y and X."""
    blank = [each for each in channels if each in field.frame.not_acquired]
    opened = {each: _of_file(field, field.frame.images[each], absent) for each in channels if each not in blank}
    stacks = list(opened.values())
    first = stacks[0]
    for stack in stacks[1:]:
        if stack.shape[2:] != first.shape[2:] or stack.dtype != first.dtype:
            raise StoredDataError(
                f"{field.name}: {stack.source[0]!r} holds Z Y X {stack.shape[2:]} {stack.dtype}, {first.source[0]!r} "
                f"{first.shape[2:]} {first.dtype}; expected the same for every channel. Fuse them one after the other, "
                "with --channels."
            )
    return replace(
        first,
        array=JoinedChannels(
            [(opened[each].array, opened[each].axes) if each in opened else None for each in channels]
        ),
        axes="CZYX",
        name=field.name,
        channels=tuple(field.imaging.channels[each] for each in channels),
        source=tuple(path for stack in stacks for path in stack.source),
        warnings=(
            *dict.fromkeys(warning for stack in stacks for warning in stack.warnings),
            *_not_acquired(field.imaging.channels[each] for each in blank),
        ),
        closers=tuple(close for stack in stacks for close in stack.closers),
    )


def _of_file(field: PlateField, image: Image, absent: Absent) -> Stack:
    folder = Path(field.folder)
    path = folder / image.path
    if not path.resolve().is_relative_to(folder.resolve()):
        raise StoredDataError(
            f"{image.path!r} leads out of the folder of the plate; expected an image inside it. Copy the image there."
        )
    return open_stack(path, axes=image.axes, series=image.series, absent=absent)


def _at_time(stack: Stack, t: int) -> Stack:
    unit: DecodeUnit | None = None if stack.decode_unit is None else (1, *stack.decode_unit[1:])
    at = stack.axes.index("T")
    array = AtIndex(stack.array, at, t)
    return replace(stack, array=array, axes=stack.axes.replace("T", ""), decode_unit=unit)


def _with_channels(stack: Stack, channels: Sequence[int]) -> Stack:
    """Leave out channels; the colours of an image belong together."""
    if stack.rgb or list(channels) == list(range(stack.shape[1])):
        return stack
    array = AtIndices(stack.array, stack.axes.index("C"), channels)
    return replace(stack, array=array, channels=tuple(stack.channels[each] for each in channels))
