"""The pixels of a file and its smaller copies as lazy dask arrays, as napari's multiscale layers take them.

`Stack` knows full resolution only, which is all that a fusion reads; a viewer of large planes needs
the rest of the pyramid. A pyramid that does not fit its own full resolution is not used.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import dask.array as da
import numpy as np
import tifffile
import zarr

from hybridfusion_core.errors import HybridFusionError
from hybridfusion_core.io.open import open_stack
from hybridfusion_core.io.region import RegionView
from hybridfusion_core.io.tiff.full_series import full_axes, full_series, full_shape, zarr_store
from hybridfusion_core.stack import ArrayLike, Stack

# A dask chunk has at least this side where the file allows it: fewer tasks, and still little to read.
_SIDE = 1024
# Files without a pyramid are read in whole planes up to this size, above it in bands of rows: strips span the width.
_PLANE = 4096 * 4096

_Level = tuple[ArrayLike, Mapping[str, int]]  # pixels with the stack's axes, and the stored chunks by axis letter


def image_attributes(path: Path) -> Mapping[str, Any]:
    """Return the OME attributes of an OME-Zarr image; empty if the folder is no such image."""
    return _attributes(path, lambda found: bool(found["multiscales"][0]["datasets"]))


def is_plate(path: Path) -> bool:
    """Say whether a folder is an OME-Zarr plate."""
    return bool(_attributes(path, lambda found: isinstance(found["plate"], dict)))


def _attributes(path: Path, fit: Callable[[Any], bool]) -> Mapping[str, Any]:
    for name in ("zarr.json", ".zattrs"):
        try:
            attributes = json.loads((path / name).read_text(encoding="utf-8"))
            attributes = attributes.get("attributes", attributes)
            attributes = attributes.get("ome", attributes)
            if fit(attributes):
                return dict(attributes)
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            continue
    return {}


def zarr_levels(path: Path, stack: Stack) -> list[da.Array]:
    """Return all levels of an OME-Zarr image, axes as in the stack; no pixel is read.

    Args:
        path: of the image, which holds "multiscales".
        stack: the image at full resolution.
    """
    entry = image_attributes(path)["multiscales"][0]
    axes = "".join(_letter(axis) for axis in entry.get("axes") or "tczyx")
    try:
        levels = [_zarr_level(path, str(dataset["path"]), axes) for dataset in entry["datasets"]]
    except HybridFusionError:
        return plane_levels(stack)
    return _pyramid(levels, stack) or plane_levels(stack)


def tiff_levels(path: Path, stack: Stack) -> list[da.Array]:
    """Return all levels of a TIFF, axes as in the stack; no pixel is read.

    The file is closed when the last level is forgotten. The stack itself must not be read afterwards.
    """
    file = tifffile.TiffFile(path)
    found = full_series(file)
    series = found[0]
    letters = _tiff_letters(full_axes(series), full_shape(series))
    if len(found) == 1 < len(series.levels) and letters.replace("-", "") == stack.axes:
        levels = [_tiff_level(series, level, letters, stack) for level in range(len(series.levels))]
        if pyramid := _pyramid(levels, stack):
            stack.close()
            weakref.finalize(file, file.filehandle.close)
            return pyramid
    file.close()
    return plane_levels(stack)


def plane_levels(stack: Stack) -> list[da.Array]:
    """Return a stack as its only level, in chunks of one plane or, where planes are huge, of a band of rows.

    Its files are closed when the level is forgotten.
    """
    for close in stack.closers:
        weakref.finalize(stack.array, close)
    *_, y, x = stack.shape
    band = y if y * x <= _PLANE else max(_SIDE, _PLANE // x // _SIDE * _SIDE)
    chunks = {"T": 1, "C": stack.shape[1] if stack.rgb else 1, "Z": 1, "Y": band, "X": x}
    return [_lazy((stack.array, chunks), stack.axes)]


def _zarr_level(path: Path, inside: str, axes: str) -> _Level:
    # `open_stack` has refused paths that leave the store for level 0 only.
    target = (path / inside).resolve()
    if not target.is_relative_to(path.resolve()):
        raise HybridFusionError(f"{path.name}: {inside!r} leads out of the store.")
    array = open_stack(target, axes=axes).array
    stored = zarr.open_array(target, mode="r")
    return array, dict(zip(axes, stored.chunks, strict=True))


def _tiff_level(series: Any, level: int, letters: str, stack: Stack) -> _Level:
    stored = zarr.open_array(zarr_store(series, level), mode="r")
    view = RegionView(stored, letters, stack.name, channels=stack.shape[1])
    return view, dict(zip(letters, stored.chunks, strict=True))


def _tiff_letters(axes: str, shape: Iterable[int]) -> str:
    """Return one letter of TCZYX per stored axis, "-" for an axis of length 1 that the stack does not show."""
    lengths = dict(zip(axes, shape, strict=True))
    samples = lengths.get("S", 1) > 1
    shown = {"T": "T", "Z": "Z", "Y": "Y", "X": "X", "C": "-" if samples else "C", "S": "C" if samples else "-"}
    letters = "".join(shown.get(axis, "-") for axis in axes)
    hidden = [lengths[axis] for axis, letter in zip(axes, letters, strict=True) if letter == "-"]
    return letters if all(length == 1 for length in hidden) else ""


def _letter(axis: Any) -> str:
    name = str(axis.get("name") if isinstance(axis, Mapping) else axis)
    return name.upper() if name.lower() in tuple("tczyx") else "?"


def _pyramid(levels: list[_Level], stack: Stack) -> list[da.Array]:
    """Return the levels as dask arrays, or nothing if they are not what napari takes for one image."""
    shapes = [tuple(array.shape) for array, _ in levels]
    whole = dict(zip("TCZYX", stack.shape, strict=True))
    fits = (
        shapes[0] == tuple(whole[letter] for letter in stack.axes)
        and len({(len(shape), str(array.dtype)) for shape, (array, _) in zip(shapes, levels, strict=True)}) == 1
        and all(np.all(np.less_equal(after, before)) for before, after in pairwise(shapes))
    )
    return [_lazy(level, stack.axes) for level in levels] if fits else []


def _lazy(level: _Level, axes: str) -> da.Array:
    array, stored = level
    chunks = tuple(
        min(length, -(-_SIDE // stored[letter]) * stored[letter] if letter in "YX" else stored[letter])
        for letter, length in zip(axes, array.shape, strict=True)
    )
    # Named at random: dask's own name is a hash of the pixels.
    name = f"hybridfusion-{uuid4()}"
    empty = np.empty((0,) * len(axes), dtype=array.dtype)
    lazy: da.Array = da.from_array(array, chunks=chunks, name=name, meta=empty)  # type: ignore[no-untyped-call]
    return lazy
