"""Plates and folders in which each file, or each image in a file, is a whole stack of one field."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from natsort import natsorted

from hybridfusion_core.io.description import Description
from hybridfusion_core.plates.listing import Listing
from hybridfusion_core.plates.plate import Defect, Field, Frame, Image, Imaging, Plate, Well
from hybridfusion_core.plates.well_names import row_letters, stated_size
from hybridfusion_core.stack import Channel

_MOST_TIMES = 100_000


@dataclass(frozen=True)
class FieldImage:
    """One image: where it is, what it holds, and which field it is as far as it says so itself.

    Attributes:
        path: inside the folder, with "/".
        series: index of the image in its file, or None if it is the only one.
        about: what its metadata say.
        at: row and column of its well, from 0; None for the one well of a folder that knows no wells.
        field: name of the field.
        position_um: y and x on the stage, or None.
        problem: why it cannot be read, or "".
        dtype: name of the pixel type, or None.
        labels: stage label, name of the image, and file of its pixels without suffix; empty if it has none of them.
        time: number of the one time point that it holds, or None if it holds all of the field's.
        channel: key of the one channel that it holds, or None if it holds all.
        plate: rows and columns of its plate, 0 if unknown.
        axes: what its axes are, if the user had to say it.
    """

    path: str
    series: int | None
    about: Description
    at: tuple[int, int] | None = None
    field: str | None = None
    position_um: tuple[float, float] | None = None
    problem: str = ""
    dtype: str | None = None
    labels: tuple[str, ...] = ()
    time: int | None = None
    channel: str | None = None
    plate: tuple[int, int] = (0, 0)
    axes: str | None = None


def plate_of(
    listing: Listing,
    found: Iterable[FieldImage],
    layout: str,
    warnings: tuple[str, ...] = (),
    well_names: Mapping[tuple[int, int], tuple[str, str]] | None = None,
) -> Plate:
    """Describe a plate of images.

    Args:
        listing: of the folder.
        found: images with the names of their fields; two images of one field are a defect of both.
        layout: name of the layout.
        warnings: what the user should know.
        well_names: row and column as written, where they are not the usual letters and two digits.
    """
    ones = list(found)
    keys = natsorted({one.channel for one in ones if one.channel is not None})
    groups: dict[tuple[tuple[int, int], str], list[FieldImage]] = defaultdict(list)
    for one in ones:
        groups[one.at or (0, 0), str(one.field)].append(one)
    wells: dict[tuple[int, int], list[Field]] = defaultdict(list)
    acquired = {(one.time or 0, one.channel) for one in ones}
    for (at, name), images in groups.items():
        wells[at].extend(_field(name, images, keys, acquired))
    written = well_names or {}
    stated = (1, len(wells)) if written else tuple(max((one.plate[axis] for one in ones), default=0) for axis in (0, 1))
    rows, columns = stated_size(wells, *stated)
    return Plate(
        folder=str(listing.root),
        layout=layout,
        name=listing.root.name,
        wells=tuple(
            Well(
                *written.get((row, column), (row_letters(row), f"{column + 1:02d}")),
                row,
                column,
                tuple(natsorted(fields, key=lambda each: each.name)),
            )
            for (row, column), fields in sorted(wells.items())
        ),
        imaging=_imaging(ones, keys),
        rows=rows,
        columns=columns,
        warnings=warnings,
    )


def _field(
    name: str, images: Sequence[FieldImage], keys: Sequence[str], acquired: Set[tuple[int, str | None]]
) -> Iterator[Field]:
    """Yield the field of some images; images that no time and no channel tells apart are fields of one name."""
    if all(one.time is None and one.channel is None for one in images):
        for one in images:
            yield Field(name, _frames(one, len(images)), one.position_um)
        return
    shots: dict[int, dict[str, list[FieldImage]]] = defaultdict(lambda: defaultdict(list))
    for one in images:
        shots[one.time or 0][one.channel or ""].append(one)
    frames = tuple(
        _shot(shots[time], str(time), keys or [""], {key for at, key in acquired if at == time})
        for time in sorted(shots)
    )
    yield Field(name, frames, images[0].position_um)


def _shot(shot: Mapping[str, Sequence[FieldImage]], time: str, keys: Sequence[str], acquired: Set[str | None]) -> Frame:
    """Describe one time point whose channels, or all of it, have files of their own.

    A channel that no field has at this time was not acquired; one that only some lack is missing there.
    """
    defects, slices, images = [], [], []
    for index, key in enumerate(keys):
        found = shot.get(key, ())
        sizes = dict(found[0].about.sizes) if found else {}
        channels = sizes.get("C", 1)
        if not found:
            defects += [Defect("missing", _no_file(key), index)] if key in acquired else []
        elif len(found) > 1:
            defects.append(Defect("duplicate", _clash(found[0], len(found)), index))
        elif found[0].problem:
            defects.append(Defect("missing", found[0].problem, index))
        elif sizes.get("T", 1) > 1 or (channels > 1 and key):
            defects.append(Defect("refused", _too_much(found[0]), index))
        slices += [sizes.get("Z", 0)] * (1 if key else channels)
        images.append(Image(found[0].path, found[0].series, axes=found[0].axes) if found else Image(""))
    if len(keys) == 1:
        return Frame(time, tuple(slices), image=images[0], defects=tuple(defects))
    return Frame(time, tuple(slices), images=tuple(images), defects=tuple(defects))


def _frames(one: FieldImage, count: int) -> tuple[Frame, ...]:
    sizes = dict(one.about.sizes)
    times, slices = sizes.get("T", 1), (sizes.get("Z", 1),) * sizes.get("C", 1)
    problem = one.problem
    if not problem and (min(sizes.values(), default=0) < 1 or times > _MOST_TIMES):
        problem = (
            f"{one.path!r} states the sizes {sizes}; expected at least one pixel and at most {_MOST_TIMES} times. "
            "The metadata are damaged: export it again."
        )
    if problem:
        return (Frame("0", (), image=Image(one.path, one.series), defects=(Defect("missing", problem),)),)
    clash = () if count == 1 else (Defect("duplicate", _clash(one, count)),)
    return tuple(
        Frame(str(t), slices, image=Image(one.path, one.series, t, one.axes), defects=clash) for t in range(times)
    )


def _clash(one: FieldImage, count: int) -> str:
    return (
        f"{one.path!r} is one of {count} files for field {one.field} of one well; expected one file for every field. "
        "Move the wrong ones away, or say with --pattern what tells them apart: {field}, {time} or {channel}."
    )


def _no_file(key: str) -> str:
    return (
        f"No file of channel {key!r} is there; expected one for every channel. Copy the missing file into the folder."
    )


def _too_much(one: FieldImage) -> str:
    return (
        f"{one.path!r} holds several time points or channels, and its name stands for one; expected one stack in each "
        "file. Leave {time} or {channel} out of the pattern."
    )


def _imaging(found: Iterable[FieldImage], keys: Sequence[str]) -> Imaging:
    for one in found:
        sizes, about = dict(one.about.sizes), one.about
        if one.problem or not sizes:
            continue
        count = max(1, min(sizes.get("C", 1), 10_000))
        channels = about.channels if len(about.channels) == count else tuple(Channel(str(c)) for c in range(count))
        if keys:
            channels = tuple(Channel(key) for key in keys)
        plane = (sizes["Y"], sizes["X"])
        return Imaging(channels, plane, one.dtype, t=about.t, z=about.z, y=about.y, x=about.x)
    return Imaging(())
