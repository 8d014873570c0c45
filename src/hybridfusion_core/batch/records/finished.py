"""What of a plate is finished: fused from the files that are there now, into pixels that are still there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hybridfusion_core.batch.records.paths import BatchPaths, FieldKey, key_of
from hybridfusion_core.batch.records.store import read_json, unit_record
from hybridfusion_core.io.zarr.source import UrlSource, is_url, reached
from hybridfusion_core.plates.plate import Plate, PlateField
from hybridfusion_core.stack import Axis


def missing_times(plate: Plate, paths: BatchPaths, takes: Callable[[PlateField], bool]) -> dict[FieldKey, set[int]]:
    """Find out which time points of every field are not fused from the files that are there now.

    Args:
        plate: all of it.
        paths: of the batch.
        takes: whether a field at a time point is to be fused at all.

    Raises:
        UserInputError: a record may not be read.
    """
    missing: dict[FieldKey, set[int]] = {}
    for unit in filter(takes, plate.fields()):
        key = key_of(unit)
        left = missing.setdefault(key, set())
        if not finished(unit, unit_record(paths, key, unit.t), paths):
            left.add(unit.t)
    return missing


def with_stored_name(plate: Plate, paths: BatchPaths) -> Plate:
    """Call a plate as it was called when its batch began, if it is the same one in a folder that was renamed.

    Args:
        plate: as it was opened now.
        paths: of the batch.

    Returns:
        The plate itself if its name is not that of its folder, or the first field that was fused is not the same.
    """
    request = (read_json(paths.run_record) or {}).get("request")
    before = request.get("plate") if isinstance(request, Mapping) else None
    if not isinstance(before, str) or before == plate.name or plate.name != Path(plate.folder).name:
        return plate
    for unit in plate.fields():
        record = unit_record(paths, key_of(unit), unit.t)
        if record is not None and record.get("status") == "done":
            return replace(plate, name=before) if finished(unit, record, paths) else plate
    return plate


def fingerprint(folder: str, inputs: Iterable[str]) -> str:
    """Return a checksum of the names, sizes and times of files, and of all files in folders among them.

    Args:
        folder: of the plate, or its URL. Behind `https://`, where no server says which files there are, it is the
            content of metadata.
        inputs: paths in it, with "/", or absolute ones.

    Returns:
        sha256 as hexadecimal digits; "" if one of them is not there.
    """
    if is_url(folder):
        return _remote_fingerprint(folder, sorted(inputs))
    digest = hashlib.sha256()
    try:
        for name in sorted(inputs):
            path = Path(folder, name)
            files = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
            if not files:
                return ""
            for file in files:
                found = file.stat()
                inside = file.relative_to(path).as_posix()
                digest.update(json.dumps([name, inside, found.st_size, found.st_mtime_ns]).encode() + b"\n")
    except OSError:
        return ""
    return digest.hexdigest()


def _remote_fingerprint(url: str, inputs: Sequence[str]) -> str:
    with reached(url):
        source = UrlSource(url)
        found = [[name, source.versions(name)] for name in inputs]
    return hashlib.sha256(json.dumps(found).encode()).hexdigest() if all(files for _, files in found) else ""


def listed_inputs(unit: PlateField) -> set[str]:
    """Return the files that a unit names, as paths in the folder of the plate."""
    return set(unit.frame.files)


def finished(unit: PlateField, record: Mapping[str, Any] | None, paths: BatchPaths) -> bool:
    """Say whether a unit was fused, from the files that are there now, into pixels that are still there.

    Args:
        unit: as the plate describes it now.
        record: how it ended, or None.
        paths: of the batch.
    """
    if record is None or record.get("status") != "done":
        return False
    try:
        inputs, pixels = record["inputs"], record["pixels"]
        return (
            listed_inputs(unit) <= set(inputs)
            and bool(pixels)
            and record["frame"] == frame_digest(unit)
            and record["fingerprint"] == fingerprint(unit.folder, inputs)
            and all((paths.output.parent / each).exists() for each in pixels)
        )
    except (LookupError, TypeError, ValueError):  # another program wrote into it
        return False


def frame_digest(unit: PlateField) -> str:
    """Return a checksum of what the metadata of the plate say of a unit: an index may change and no image with it."""
    imaging = unit.imaging
    if all(plane.z_um is not None for planes in unit.frame.planes for plane in planes):
        # Its own planes say where they are; what the plate says may come from another field.
        imaging = replace(imaging, z=Axis())
    return hashlib.sha256(repr((unit.frame, imaging)).encode("utf-8", "surrogatepass")).hexdigest()
