"""Open whatever a microscope or a user left behind as a `Stack`: the right reader for each path."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import isfinite
from pathlib import Path

from hybridfusion_core.errors import StoredDataError, UserInputError, printable
from hybridfusion_core.io.disk.access import existing, permitted
from hybridfusion_core.io.file_facts import FileFacts
from hybridfusion_core.io.native.open import open_native
from hybridfusion_core.io.slice_files import open_files, open_folder
from hybridfusion_core.io.suffixes import (
    NATIVE_SUFFIXES,
    PICTURE_SUFFIXES,
    TIFF_SUFFIXES,
    ZARR_SUFFIXES,
    ZIPPED_SUFFIXES,
    has_suffix,
)
from hybridfusion_core.io.tiff.file import open_tiff
from hybridfusion_core.io.units import doubtful_step, usual
from hybridfusion_core.io.zarr.chunk_files import Absent
from hybridfusion_core.io.zarr.image import is_zarr, open_ome_zarr
from hybridfusion_core.stack import Axis, Stack

_SMALLEST_UM, _LARGEST_UM = 5e-5, 1e5
Source = str | os.PathLike[str]
_KNOWN = (
    "OME-TIFF, TIFF, OME-Zarr, a microscope's own file (.nd2, .czi, .lif, .oib, .oif, .oir, .vsi), a folder of slice "
    "images, or PNG, JPEG or TIFF slices"
)


def open_stack(
    source: Source | Sequence[Source],
    *,
    axes: str | None = None,
    z_step_um: float | None = None,
    pixel_size_um: float | None = None,
    series: str | int | None = None,
    absent: Absent = "refuse",
) -> Stack:
    """Open a focal stack lazily; pixels are read by `Stack.read`.

    Args:
        source: a file, an OME-Zarr image, a folder of slice images, or two or more slice images in slice order.
        axes: what the axes are, in stored order, where the file does not say: letters of TCZYX.
        z_step_um: distance between slices in µm; replaces what the file says.
        pixel_size_um: distance between pixels in µm; replaces what the file says.
        series: which image, for a file with several: index or name.
        absent: what to do about slices of which an OME-Zarr has no chunk: "refuse" them, or "fill" them with the
            fill value that it states.

    Returns:
        The stack; close it, or use it as a context manager.

    Raises:
        UserInputError: nothing there, nothing that can be opened, or the file leaves open what it means.
        StoredDataError: the file is damaged, or its metadata do not fit its pixels.
    """
    for option, value in (("z step", z_step_um), ("pixel size", pixel_size_um)):
        if value is not None and not (isfinite(value) and value > 0):
            raise UserInputError(f"The {option} is {value!r}; expected a length in µm above 0. Give another one.")
    listed = [source] if isinstance(source, (str, os.PathLike)) else list(source)
    paths = [_not_empty(existing(Path(each), _KNOWN)) for each in listed]
    if not paths:
        raise UserInputError(f"No input was named; expected {_KNOWN}. Name at least one path.")
    with permitted(paths[0]):
        facts = FileFacts(axes, series, absent, sizes_known=z_step_um is not None or pixel_size_um is not None)
        stack = _open_one(paths[0], facts) if len(paths) == 1 else _open_several(paths, axes)
    warnings = tuple(printable(warning) for warning in (*stack.warnings, *_impossible_sizes(stack)))
    source = (*(str(each) for each in listed), *stack.source)
    steps = usual({"z": stack.z, "y": stack.y, "x": stack.x})
    stack = replace(stack, source=source, warnings=warnings, z=steps["z"], y=steps["y"], x=steps["x"]).with_z_step(
        z_step_um
    )
    if pixel_size_um is not None:
        size = Axis(pixel_size_um, "micrometer")
        stack = replace(stack, y=size, x=size)
    doubt = doubtful_step(stack.z, stack.x) if stack.shape[2] > 1 else ""
    return replace(stack, warnings=(*stack.warnings, doubt)) if doubt else stack


def _impossible_sizes(stack: Stack) -> Iterator[str]:
    """Say which sizes are smaller than an atom or larger than a hand: metres were written for micrometres."""
    stated = (("pixel size", stack.x.step_um, "--pixel-size"), ("z step", stack.z.step_um, "--z-step"))
    for what, value, option in stated:
        if value is not None and not _SMALLEST_UM <= value <= _LARGEST_UM:
            yield (
                f"The {what} of {stack.name} is {value:g} µm by its metadata, which no microscope has: its unit or its "
                f"number is wrong, and so are all heights and sizes. Give the right one with {option}."
            )


def _not_empty(path: Path) -> Path:
    if path.is_file() and path.stat().st_size == 0:
        raise UserInputError(f"{path} is empty (0 bytes); expected an image. Copy or export it again.")
    return path


def _open_one(path: Path, facts: FileFacts) -> Stack:
    if path.is_dir():
        if is_zarr(path):
            return open_ome_zarr(path, facts)
        if has_suffix(path, ZARR_SUFFIXES):
            raise StoredDataError(
                f"{path.name} is named like a zarr store and has no zarr metadata; expected zarr.json or .zgroup in "
                "it. It was copied in part: copy or write it again."
            )
        return _slices(open_folder(path), facts.axes)
    if has_suffix(path, TIFF_SUFFIXES):
        return open_tiff(path, facts.axes, facts.series)
    if has_suffix(path, NATIVE_SUFFIXES):
        return open_native(path, facts.axes, facts.series)
    if has_suffix(path, PICTURE_SUFFIXES):
        return _slices(open_files([path]), facts.axes)
    if has_suffix(path, ZIPPED_SUFFIXES):
        raise UserInputError(
            f"{path.name} is an OME-Zarr in a zip file; expected a folder. Take it out with `python -m zipfile -e "
            f"{path.name} FOLDER` and open the folder that then holds zarr.json or .zattrs."
        )
    raise UserInputError(
        f"{path.name} has the suffix {path.suffix!r}; expected {_KNOWN}. Export the image as OME-TIFF first."
    )


def _open_several(paths: list[Path], axes: str | None) -> Stack:
    for path in paths:
        if path.is_dir() or not has_suffix(path, (*PICTURE_SUFFIXES, *TIFF_SUFFIXES)):
            raise UserInputError(
                f"{path.name} stands among {len(paths)} inputs and is no image file; expected PNG, JPEG or TIFF "
                "slices of one stack. Fuse stacks one by one, or use `hybridfusion batch`."
            )
    return _slices(open_files(paths), axes)


def _slices(stack: Stack, axes: str | None) -> Stack:
    """Refuse axes that slice images cannot have."""
    if axes is None or axes.upper() in ("ZYX", "ZCYX", "YX"):
        return stack
    raise UserInputError(
        f"Slice images are stacked along Z; axes {axes!r} do not fit. Expected ZYX, or no axes. Leave the axes out."
    )
