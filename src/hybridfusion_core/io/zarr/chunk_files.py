"""Which chunks of an array are there, under the very keys that zarr will ask for.

An absent chunk reads as the fill value. That is the standard's way to leave out constant regions, and also what a
copy that was cut short looks like, or a store whose metadata do not say how its chunks are named: zarr looks for
`0.0.0`, the chunks are `0/0/0`, and the picture is black.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from math import ceil, prod
from pathlib import Path
from typing import Any, Literal

import zarr
from zarr.core.chunk_key_encodings import DefaultChunkKeyEncoding, V2ChunkKeyEncoding

from hybridfusion_core.errors import StoredDataError

Absent = Literal["refuse", "fill"]
ABSENT: tuple[Absent, ...] = ("refuse", "fill")

_Key = tuple[int, ...]
_MOST_ABSENT = 1000  # of one chunk that exists; a store with fewer is no image


def check_chunks(
    folder: Path, array: Any, letters: str, name: str, absent: Absent = "refuse"
) -> tuple[Any, tuple[str, ...]]:
    """Look for the file of every chunk (shard, if the array is sharded).

    Args:
        folder: of the array.
        array: zarr.Array.
        letters: one per stored axis, as for `RegionView`.
        name: what to call the store in messages.
        absent: whether slices of which no chunk exists are refused or read as the fill value.

    Returns:
        The array, which looks for its chunks where they are; and warnings: how many chunks are absent.

    Raises:
        StoredDataError: a slice has no chunk at all, hardly any chunk exists, chunks are named in two ways, or one is
            empty.
    """
    grid = chunk_grid(array)
    files = _numbered_files(folder, grid, name)
    present = _under(files, array)
    warnings: tuple[str, ...] = ()
    if len(present) < prod(grid) and len(present) < len(files):
        array, present, warning = _renamed(files, present, array, name)
        warnings = (warning,)
    empty = next((path for path, (key, size) in files.items() if not size and key in present), None)
    if empty is not None:
        raise StoredDataError(
            f"{name}: the chunk {empty} is empty (0 bytes), which zarr would read as the fill value; expected pixels "
            "in it. The store was copied in part: copy or write it again."
        )
    return array, (*warnings, *check_present(present, array, letters, name, absent))


def chunk_grid(array: Any) -> tuple[int, ...]:
    """Return how many chunk files (shards, if the array is sharded) an array has along each axis."""
    sizes = getattr(array, "shards", None) or array.chunks
    return tuple(ceil(length / size) for length, size in zip(array.shape, sizes, strict=True))


def check_present(
    present: set[_Key], array: Any, letters: str, name: str, absent: Absent = "refuse"
) -> tuple[str, ...]:
    """Say what it means that some chunks are there and others are not.

    Args:
        present: places in the grid of chunks (of shards, if the array is sharded).
        array: zarr.Array.
        letters: one per stored axis, as for `RegionView`.
        name: what to call the store in messages.
        absent: whether slices of which no chunk exists are refused or read as the fill value.

    Returns:
        Warnings: how many chunks are absent.

    Raises:
        StoredDataError: a slice has no chunk at all, or hardly any chunk exists; with "fill", none exists.
    """
    grid = chunk_grid(array)
    expected = prod(grid)
    missing = expected - len(present)
    if not missing:
        return ()
    place = _slice_without_chunks(present, grid, array, letters)
    said = f"{missing} of {expected} chunks are absent"
    if absent == "fill" and present:
        where = f", all of the slice at {place} among them" if place is not None else ""
        return (f"{said}{where}; they are read as the fill value {array.fill_value}, as --absent fill asks.",)
    if place is not None:
        raise StoredDataError(
            f"{name}: no chunk of the slice at {place} exists; expected pixels in every slice. The store was written "
            "or copied in part: copy or write it again."
            + (
                f" If its program leaves out black slices, say --absent fill (Python: absent='fill'): absent chunks "
                f"are then read as {array.fill_value}."
                if present
                else ""
            )
        )
    if missing >= (_MOST_ABSENT - 1) * len(present):
        raise StoredDataError(
            f"{name}: {len(present)} of {expected} chunks exist; expected most of them. "
            "The store was written or copied in part, or its metadata are damaged: copy or write it again."
        )
    return (f"{said}; by the standard they are the fill value {array.fill_value}.",)


def _slice_without_chunks(present: set[_Key], grid: _Key, array: Any, letters: str) -> str | None:
    """Return the first place along all axes but Y and X that has no chunk, for messages."""
    leading = [axis for axis, letter in enumerate(letters) if letter not in "YX"]
    slices = {tuple(key[axis] for axis in leading) for key in present}
    if len(slices) == prod(grid[axis] for axis in leading):
        return None
    sizes = getattr(array, "shards", None) or array.chunks
    first = _first_missing(slices, [grid[axis] for axis in leading])
    place = ", ".join(f"{letters[axis]}={at * sizes[axis]}" for axis, at in zip(leading, first, strict=True))
    return place or "any place"


def _first_missing(present: set[_Key], grid: list[int]) -> _Key:
    """Return the first index of a grid that is not among those present; one more step than there are of them."""
    for number in range(len(present) + 1):
        index, rest = [], number
        for length in reversed(grid):
            index.append(rest % length)
            rest //= length
        if tuple(reversed(index)) not in present:
            break
    return tuple(reversed(index))


def _numbered_files(folder: Path, grid: Sequence[int], name: str) -> dict[str, tuple[_Key, int]]:
    """Return place in the grid and bytes of every file whose path could be the key of a chunk, by that path."""
    found = {}
    for entry, inside in _everything(folder):
        if entry.is_dir():
            continue
        if not entry.is_file():
            if os.path.exists(entry.path):  # noqa: PTH110  (a link that leads nowhere is no file of the store)
                raise StoredDataError(
                    f"{name}: {entry.name} is a pipe or a device; expected files and folders only, because reading "
                    "anything else may wait forever. The store is hostile or damaged: remove it."
                )
            continue
        key = _place(inside, grid)
        if key is not None:
            found[inside] = (key, entry.stat().st_size)
    return found


def _place(inside: str, grid: Sequence[int]) -> _Key | None:
    """Read a path as the key of a chunk, with either separator; None if it is none of this grid."""
    parts = re.split(r"[/.]", inside.removeprefix("c/").removeprefix("c."))
    if len(parts) != len(grid) or not all(part.isdecimal() and len(part) < 19 for part in parts):
        return None
    key = tuple(int(part) for part in parts)
    return key if all(at < length for at, length in zip(key, grid, strict=True)) else None


def _everything(folder: Path) -> Iterator[tuple[os.DirEntry[str], str]]:
    """Yield all files and folders with their path inside; links to folders are not followed.

    Raises:
        OSError: a folder may not be listed.
    """
    waiting = [(str(folder), "")]
    while waiting:
        path, before = waiting.pop()
        with os.scandir(path) as entries:
            for entry in entries:
                yield entry, f"{before}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((entry.path, f"{before}{entry.name}/"))


def _under(files: Mapping[str, tuple[_Key, int]], array: Any) -> set[_Key]:
    """Return the places whose chunk stands under the key by which the array asks for it."""
    encode = array.metadata.encode_chunk_key
    return {key for path, (key, _) in files.items() if encode(key) == path}


def _renamed(files: Mapping[str, tuple[_Key, int]], present: set[_Key], array: Any, name: str) -> tuple[Any, Any, str]:
    """Return the array with the naming under which all chunks are, these chunks, and a warning.

    Raises:
        StoredDataError: some chunks are named in one way, others in another.
    """
    for other in () if present else _other_namings(array):
        there = _under(files, other)
        if len(there) == len(files):
            wanted, found = (each.metadata.encode_chunk_key((0,) * array.ndim) for each in (array, other))
            return (
                other,
                there,
                (
                    f"By the metadata of {name} the chunks are named like {wanted}, the files are named like {found}: "
                    "read as they are named."
                ),
            )
    listed = sorted(files)
    strange = next(path for path in listed if array.metadata.encode_chunk_key(files[path][0]) != path)
    raise StoredDataError(
        f"{name}: the chunk {strange} is named otherwise than the metadata say, "
        f"{array.metadata.encode_chunk_key(files[strange][0])}, and {len(present)} of {len(files)} chunks are named as "
        "they say; expected one way. zarr would read the others as the fill value: copy or write the store again."
    )


def _other_namings(array: Any) -> Iterator[Any]:
    """Yield the same array with every other way to name chunks that zarr knows for its version."""
    metadata = array.metadata
    changes: list[tuple[str, Any]] = (
        [("dimension_separator", separator) for separator in "./"]
        if metadata.zarr_format == 2
        else [
            ("chunk_key_encoding", kind(separator=separator))  # type: ignore[arg-type]
            for kind in (DefaultChunkKeyEncoding, V2ChunkKeyEncoding)
            for separator in "/."
        ]
    )
    inner = array.async_array
    for field, value in changes:
        if getattr(metadata, field) == value:
            continue
        changed = copy.copy(metadata)
        object.__setattr__(changed, field, value)
        yield zarr.Array(type(inner)(metadata=changed, store_path=inner.store_path, config=inner.config))
