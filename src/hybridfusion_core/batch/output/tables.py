"""Tables of an input plate, as ngio and Fractal keep them in `tables/` groups: regions of interest and measurements.

They are copied as they are. zarr 3 finds no groups of zarr 2 and the other way round: for a plate of another version,
groups and arrays are written anew with the same content, and all other files are copied.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import zarr
from zarr.storage import LocalStore

from hybridfusion_core.batch.output.zarr_metadata import write_group
from hybridfusion_core.errors import HybridFusionError, StoredDataError
from hybridfusion_core.io.disk.access import guarded
from hybridfusion_core.io.zarr.guards import bounded
from hybridfusion_core.io.zarr.ngff_writing import Ngff

_MOST_FILES = 5000
_LARGEST = 256 << 20  # bytes of all files of one group of tables, and of one array that is written anew
_METADATA = {"zarr.json", ".zgroup", ".zarray", ".zattrs", ".zmetadata"}
# Of zarr 2, where a codec may be any that numcodecs knows; "pickle", for one, runs code from the file.
_CODECS = {"blosc", "zstd", "gzip", "zlib", "lz4", "vlen-utf8"}


def copy_tables(source: Path, target: Path, scratch: Path, ngff: Ngff) -> str:
    """Copy a group of tables; it is there whole or not at all, and replaces what was there.

    Args:
        source: the group `tables`.
        target: where it belongs.
        scratch: where it is built, on the disk of the target.
        ngff: version of OME-Zarr of the target.

    Returns:
        Why it was not copied, as far as its content is to blame; "" if it was.
    """
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        with guarded(f"{source} cannot be copied", "tables of an OME-Zarr. Copy them by hand."):
            _check(source)
            if (source / "zarr.json").is_file() == (ngff == "0.5"):
                shutil.copytree(source, scratch)
            else:
                _write_anew(source, scratch, ngff)
    except HybridFusionError as error:
        shutil.rmtree(scratch, ignore_errors=True)
        return str(error)
    if target.exists():
        shutil.rmtree(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch.rename(target)
    return ""


def _check(source: Path) -> None:
    """Refuse what leads out of the tables, may wait forever, or is no table by its size."""
    size = 0
    for count, path in enumerate(_everything(source)):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise _refused(source, f"{path.name!r} in it is a link, a pipe or a device", "files and folders only")
        size += path.stat().st_size if path.is_file() else 0
        if count >= _MOST_FILES or size > _LARGEST:
            most = f"at most {_MOST_FILES} files and {_LARGEST >> 20} MiB"
            raise _refused(source, "it is larger than tables are", most)


def _everything(source: Path) -> Iterator[Path]:
    yield source
    for folder, folders, files in os.walk(source):
        yield from (Path(folder, name) for name in (*folders, *files))


def _write_anew(source: Path, target: Path, ngff: Ngff) -> None:
    for folder, folders, files in os.walk(source):
        path = Path(folder)
        copy = target / path.relative_to(source)
        copy.mkdir(parents=True, exist_ok=True)
        if _is_array(path):
            folders.clear()  # its chunks
            _write_array(path, copy, ngff)
            continue
        if _METADATA & set(files):
            write_group(copy, _attributes(path), ngff)
        for name in set(files) - _METADATA:
            shutil.copyfile(path / name, copy / name)


def _is_array(path: Path) -> bool:
    return (path / ".zarray").is_file() or _json(path / "zarr.json").get("node_type") == "array"


def _attributes(path: Path) -> Mapping[str, Any]:
    found = (
        _json(path / "zarr.json").get("attributes", {}) if (path / "zarr.json").is_file() else _json(path / ".zattrs")
    )
    return found if isinstance(found, Mapping) else {}


def _write_array(source: Path, target: Path, ngff: Ngff) -> None:
    stored = _json(source / ".zarray")
    codecs = [each["id"] for each in [*(stored.get("filters") or ()), stored.get("compressor")] if each]
    if not _CODECS.issuperset(codecs):
        raise _refused(
            source, f"its codecs are {', '.join(map(repr, codecs))}", f"some of {', '.join(sorted(_CODECS))}"
        )
    array = zarr.open_array(LocalStore(source, read_only=True), mode="r")
    if math.prod(array.shape) * max(array.dtype.itemsize, 8) > _LARGEST:
        raise _refused(source, f"its shape is {array.shape}", f"at most {_LARGEST >> 20} MiB")
    zarr.create_array(
        LocalStore(target),
        data=bounded(array)[...],
        attributes=dict(_attributes(source)),
        zarr_format=3 if ngff == "0.5" else 2,
    )


def _json(path: Path) -> Mapping[str, Any]:
    found = json.loads(path.read_bytes()) if path.is_file() else {}
    return found if isinstance(found, Mapping) else {}


def _refused(source: Path, found: str, expected: str) -> StoredDataError:
    return StoredDataError(f"{source} was left out: {found}; expected {expected}. Copy the tables by hand.")
