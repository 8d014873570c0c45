"""JSON of zarr groups and arrays, written and read as files: zarr 3 for OME-Zarr 0.5, zarr 2 for 0.4.

zarr's own opening takes milliseconds for a group, and what is written here appears whole or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hybridfusion_core.io.disk.atomic import write_whole
from hybridfusion_core.io.zarr.ngff_writing import Ngff


class Group(NamedTuple):
    """A group: its path in the store, "." for the root, and its attributes."""

    path: Path
    attributes: dict[str, Any]


class Array(NamedTuple):
    """An array: its path in the store, and the files of metadata with their content."""

    path: Path
    metadata: dict[str, dict[str, Any]]


def nodes(root: Path, ngff: Ngff) -> Iterator[Group | Array]:
    """Yield all groups and arrays of a store, in order of their paths."""
    if ngff == "0.5":
        for file in sorted(root.rglob("zarr.json")):
            stored, path = _read(file), file.parent.relative_to(root)
            is_group = stored["node_type"] == "group"
            yield Group(path, stored["attributes"]) if is_group else Array(path, {file.name: stored})
        return
    for file in sorted([*root.rglob(".zgroup"), *root.rglob(".zarray")]):
        path, beside = file.parent.relative_to(root), file.with_name(".zattrs")
        attributes = _read(beside) if beside.is_file() else {}
        if file.name == ".zgroup":
            yield Group(path, attributes)
        else:
            yield Array(path, {file.name: _read(file)} | ({beside.name: attributes} if attributes else {}))


def time_folder(array: Path, index: int, ngff: Ngff) -> Path:
    """Return the folder of all pixels of one time point of an array T C Z Y X whose chunks hold one each."""
    return array / "c" / str(index) if ngff == "0.5" else array / str(index)


def write_array(folder: Path, array: Array, times: int) -> None:
    """Write the metadata of an array T C Z Y X, with another number of time points."""
    for name, stored in array.metadata.items():
        content = {**stored, "shape": [times, *stored["shape"][1:]]} if "shape" in stored else stored
        write_whole(folder / name, _json(content))


def write_group(folder: Path, attributes: Mapping[str, Any], ngff: Ngff) -> None:
    """Write the metadata of a group, if they are not there already."""
    if ngff == "0.5":
        _write(folder / "zarr.json", {"attributes": dict(attributes), "zarr_format": 3, "node_type": "group"})
        return
    _write(folder / ".zattrs", attributes)
    _write(folder / ".zgroup", {"zarr_format": 2})


def remove_group(folder: Path, ngff: Ngff) -> None:
    """Remove the metadata of a group, and nothing else."""
    for name in ("zarr.json",) if ngff == "0.5" else (".zgroup", ".zattrs"):
        (folder / name).unlink(missing_ok=True)


def _write(path: Path, content: Mapping[str, Any]) -> None:
    encoded = _json(content)
    if not path.is_file() or path.read_bytes() != encoded:
        write_whole(path, encoded)


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_bytes())
    return found


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, indent=2).encode()
