"""Open a folder or list of single images (PNG, JPEG, TIFF) as one `Stack`, one image per slice."""

from __future__ import annotations

import operator
import re
import shlex
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from natsort import natsorted
from numpy.typing import DTypeLike, NDArray

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.io.description import RGB_CHANNELS
from hybridfusion_core.io.picture_files import Picture, as_shown, describe_slices, inspect
from hybridfusion_core.io.region import normalised
from hybridfusion_core.io.slice_names import Doubt, doubt, gap, in_natural_order
from hybridfusion_core.io.suffixes import PICTURE_SUFFIXES, TIFF_SUFFIXES, has_suffix
from hybridfusion_core.stack import Stack

_SUFFIXES = (*PICTURE_SUFFIXES, *TIFF_SUFFIXES)
# A picture is decoded whole; neighbouring tiles want the same ones again.
_CACHE_BYTES = 64 * 2**20


def open_folder(folder: Path) -> Stack:
    """Open all images of a folder in natural order: 2 before 10, -1 before 0, 0.25 before 0.5.

    Raises:
        UserInputError: no images, images of several kinds, or of several stacks by their names.
        StoredDataError: one of them is damaged.
    """
    entries = [each for each in folder.iterdir() if not each.name.startswith(".")]
    for each in entries:
        if has_suffix(each, _SUFFIXES) and not (each.is_file() or each.is_dir()):
            raise UserInputError(
                f"{each.name} in the folder {folder.name} is a link that leads nowhere, a pipe or a device; expected a "
                "file, since a slice must not be left out unseen. Copy the image there, or remove the link."
            )
    files = [each for each in entries if each.is_file()]
    images = in_natural_order([each for each in files if has_suffix(each, _SUFFIXES)])
    if not images:
        raise UserInputError(
            f"The folder {folder.name} holds no images; expected PNG, JPEG or TIFF files, one per slice, or an "
            f"OME-Zarr image. Name the folder that holds them{_stacks_inside(entries)}."
        )
    kinds = {each.suffix.lower().replace("jpeg", "jpg").replace("tiff", "tif"): each.name for each in images}
    if len(kinds) > 1:
        first, second = list(kinds.values())[:2]
        raise UserInputError(
            f"The folder {folder.name} mixes kinds of images, for example {first} and {second}; expected one kind, "
            "one file per slice. Move the others away, or list the files in slice order."
        )
    others = natsorted(each.name for each in files if not has_suffix(each, _SUFFIXES))
    warnings: list[str] = []
    if others:
        warnings.append(f"Not images, left out: {', '.join(others[:5])}{', …' if len(others) > 5 else ''}.")
    found = doubt(images)
    if found is not None and found.certain:
        raise UserInputError(
            f"{len(images)} images in the folder {folder.name} are not the slices of one stack: {found.reason}; "
            "expected one number that varies. List the slices of one channel, position and time, for example "
            f"`hybridfusion fuse {_quoted(str(folder / found.example))} -o OUTPUT`."
        )
    if found is not None:
        warnings.append(_uncertain(images, found))
    elif said := gap(images):
        warnings.append(said)
    return _stack(images, folder.name or str(folder), warnings)


def _quoted(pattern: str) -> str:
    """Return a pattern as a shell takes it, whatever else is in it."""
    return "".join(
        part if index % 2 else part and shlex.quote(part) for index, part in enumerate(re.split("([*?]+)", pattern))
    )


def _stacks_inside(entries: Sequence[Path]) -> str:
    """Name a folder inside that may hold a stack, for a message."""
    inside = natsorted(each.name for each in entries if each.is_dir())
    return f", such as {inside[0]} in it: each of the {len(inside)} on its own" if inside else ""


def open_files(paths: Sequence[Path]) -> Stack:
    """Open images in the order given.

    Raises:
        UserInputError: they differ in size or pixel type.
        StoredDataError: one of them is damaged.
    """
    warnings = []
    natural = in_natural_order(paths)
    names = [path.name for path in paths]
    # A pattern such as img_*.png comes from the shell in this order; any other order was chosen on purpose.
    if natural != list(paths) and names in (sorted(names), sorted(names, key=str.casefold)):
        listed = ", ".join(names[:3])
        warnings.append(
            f"The slices are read in the order given, {listed}, …; by the numbers in their names it would be "
            f"{', '.join(path.name for path in natural[:3])}, …. A folder in place of a list is read by the numbers."
        )
    found = doubt(paths)
    if found is not None:
        warnings.append(_uncertain(paths, found))
    return _stack(list(paths), paths[0].stem, warnings)


def _uncertain(paths: Sequence[Path], found: Doubt) -> str:
    return (
        f"{len(paths)} images are read as slices of one stack, though {found.reason}. Slices of one channel, position "
        f"and time would be {found.example}."
    )


def _stack(paths: list[Path], name: str, warnings: Sequence[str]) -> Stack:
    pictures = [inspect(path) for path in paths]
    pictures, turned = as_shown(pictures)
    first = pictures[0]
    for other in pictures[1:]:
        if (other.shape, other.samples, other.dtype) != (first.shape, first.samples, first.dtype):
            raise UserInputError(
                f"{first.path.name} is {_kind(first)}, {other.path.name} is {_kind(other)}; expected slices of one "
                "size and pixel type. Leave the odd one out or export it like the others."
            )
    about = describe_slices(pictures)
    rgb = first.samples == 3
    named = RGB_CHANNELS if rgb else about.channels if len(about.channels) == 1 else ()
    return Stack(
        array=PictureStack(pictures),
        axes="ZCYX" if rgb else "ZYX",
        name=name,
        channels=named,
        z=about.z,
        y=about.y,
        x=about.x,
        na=about.na,
        rgb=rgb,
        warnings=(*warnings, *turned, *about.warnings),
        decode_unit=(1, first.samples, 1, *first.shape),
    )


def _kind(picture: Picture) -> str:
    y, x = picture.shape
    return f"{y} × {x} {'RGB' if picture.samples == 3 else 'grey'} {picture.dtype}"


class PictureStack:
    """Image files read as an array of axes Z Y X (grey) or Z C Y X (RGB).

    Args:
        pictures: one per slice, all of one size and dtype.
        cache_bytes: how much of what was decoded is kept, at least one picture.
    """

    def __init__(self, pictures: Sequence[Picture], cache_bytes: int = _CACHE_BYTES) -> None:
        first = pictures[0]
        self._pictures = tuple(pictures)
        self._grey = first.samples == 1
        self.shape = (len(pictures), *(() if self._grey else (first.samples,)), *first.shape)
        self.dtype = first.dtype
        plane_bytes = first.samples * first.shape[0] * first.shape[1] * first.dtype.itemsize
        self._room = max(1, cache_bytes // max(1, plane_bytes))
        self._decoded: OrderedDict[int, NDArray[Any]] = OrderedDict()
        self._lock = threading.Lock()

    def __getitem__(self, key: Any, /) -> NDArray[Any]:
        z, *rest = normalised(key, self.shape)
        # Nobody comes back for the rest of a picture that is read whole.
        whole = rest == [slice(0, length, 1) for length in self.shape[1:]]
        if not isinstance(z, slice):
            return self._plane(operator.index(z), keep=not whole)[tuple(rest)].copy()
        planes = range(z.start, z.stop, z.step or 1)
        empty = np.empty((0, *self.shape[1:]), self.dtype)[(slice(None), *rest)]
        return np.stack([self._plane(index, keep=not whole)[tuple(rest)] for index in planes]) if planes else empty

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        del copy  # what was read is always a copy
        return np.asarray(self[...], dtype=dtype)

    def _plane(self, index: int, *, keep: bool) -> NDArray[Any]:
        """Return C Y X, or Y X for grey images, decoded once while it stays in the cache."""
        with self._lock:
            if index in self._decoded:
                self._decoded.move_to_end(index)
                return self._decoded[index]
        pixels = self._pictures[index].read()
        plane = pixels[0] if self._grey else pixels
        if not keep:
            return plane
        with self._lock:
            self._decoded[index] = plane
            while len(self._decoded) > self._room:
                self._decoded.popitem(last=False)
        return plane
