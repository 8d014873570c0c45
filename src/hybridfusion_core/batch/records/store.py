"""What a batch writes down beside its plate: what was asked for, how each unit ended, and what has only begun.

Each file appears whole or not at all, and is read as what a stranger may have changed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hybridfusion_core.batch.records.paths import FieldKey, Places
from hybridfusion_core.errors import StoredDataError, UserInputError
from hybridfusion_core.io.disk.access import guarded
from hybridfusion_core.io.zarr.source import UrlSource, is_url, reached
from hybridfusion_core.plates.plate import PlateField
from hybridfusion_core.stack import Axis

FORMAT = 1
_LARGEST = 64 << 20  # bytes of a record
_SUSPECT = 3  # runs that were killed while they worked on the same unit


def write_whole(path: Path, content: bytes, *, durable: bool = False) -> None:
    """Write a file that is there whole or not at all, whenever its writer is killed.

    Args:
        path: of the file.
        content: of it.
        durable: it is there after a power cut, too. That takes 5 to 30 ms; and pixels, which a record must not
            outlive, are not written so.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as stream:
        stream.write(content)
        if durable:
            stream.flush()
            os.fsync(stream.fileno())
    part.replace(path)


def write_json(path: Path, content: Mapping[str, Any], *, durable: bool = False) -> None:
    """Write a record."""
    write_whole(path, json.dumps(content, indent=1, sort_keys=True).encode(), durable=durable)


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a record; None if there is none.

    Raises:
        UserInputError: it may not be read.
        StoredDataError: it is no record of this version.
    """
    cure = "a record of a batch. Move the folder of records and the plate away to start anew."
    with guarded(f"{path} cannot be read", cure):
        try:
            with path.open("rb") as stream:
                content = stream.read(_LARGEST + 1)
        except FileNotFoundError:
            return None
        found = json.loads(content) if len(content) <= _LARGEST else None
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise StoredDataError(f"{path} is no record of format {FORMAT}; expected {cure}")
        return found


def unit_record(places: Places, key: FieldKey, t: int) -> dict[str, Any] | None:
    """Read how a unit ended; None if that is not known, also because somebody else wrote there.

    Args:
        places: of the batch.
        key: of the field.
        t: of the unit.
    """
    try:
        return read_json(places.record(key, t))
    except StoredDataError:
        return None


def run_record(places: Places, request: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the record of the run that began this output, if there is one.

    Args:
        places: of the batch.
        request: what is asked for now, plain JSON values.

    Raises:
        UserInputError: the output is nobody's or somebody else's, or was begun with another request.
        StoredDataError: the record is damaged.
    """
    found = read_json(places.run_record)
    if found is None:
        existing = [path for path in (places.output, places.maps) if path.exists() or path.is_symlink()]
        if existing:
            raise UserInputError(
                f"{existing[0]} exists already and no batch began it ({places.run_record} is not there); expected a "
                "new name, or the output of a batch to go on with. Choose another output."
            )
        return None
    before = found.get("request")
    if not isinstance(before, dict):
        raise StoredDataError(
            f"{places.run_record} does not say what was asked for; expected the record of a batch. Move it and the "
            "plate away to start anew."
        )
    changed = sorted(name for name in {*before, *request} if before.get(name) != request.get(name))
    if changed:
        raise UserInputError(
            f"{places.output.name} was begun with other choices than these; expected the same, because one plate is "
            "fused in one way. Give the same choices again, choose another output, or move the plate, its maps and "
            f"{places.folder.name} away to start anew. What differs:",
            [f"{name}: {json.dumps(before.get(name))} then, {json.dumps(request.get(name))} now" for name in changed],
        )
    return found


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


def finished(unit: PlateField, record: Mapping[str, Any] | None, places: Places) -> bool:
    """Say whether a unit was fused, from the files that are there now, into pixels that are still there.

    Args:
        unit: as the plate describes it now.
        record: how it ended, or None.
        places: of the batch.
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
            and all((places.output.parent / each).exists() for each in pixels)
        )
    except (LookupError, TypeError, ValueError):  # somebody else wrote into it
        return False


def frame_digest(unit: PlateField) -> str:
    """Return a checksum of what the metadata of the plate say of a unit: an index may change and no image with it."""
    imaging = unit.imaging
    if all(plane.z_um is not None for planes in unit.frame.planes for plane in planes):
        # Its own planes say where they are; what the plate says may come from another field.
        imaging = replace(imaging, z=Axis())
    return hashlib.sha256(repr((unit.frame, imaging)).encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True)
class Start:
    """One start of a unit.

    Attributes:
        kills: workers that died with it in this run.
        halvings: how often to halve its tiles.
    """

    kills: int
    halvings: int


def count_start(places: Places, key: FieldKey, t: int, session: str) -> Start:
    """Write down that a unit is about to start, before it does: out of memory is a kill and leaves no other trace.

    Workers that died with the unit in this run halve its tiles each. Earlier runs that were killed as a whole are
    counted from the third on, because whatever they died of was most likely not this unit, and other tiles give
    other last bits.

    Args:
        places: of the batch.
        key: of the field.
        t: of the unit.
        session: of the run.
    """
    path = places.starts(key, t)
    before = _starts(path)
    kills = before.count(session)
    suspected = max(len(set(before) - {session}) - (_SUSPECT - 1), 0)
    _write_starts(path, [*before, session])
    return Start(kills, kills + suspected)


def starts_in_run(places: Places, key: FieldKey, t: int, session: str) -> int:
    """Return how many starts of a unit in this run have not ended."""
    return _starts(places.starts(key, t)).count(session)


def uncount_start(places: Places, key: FieldKey, t: int) -> None:
    """Take the last start back: it ended, in whatever way."""
    path = places.starts(key, t)
    _write_starts(path, _starts(path)[:-1])


def forget_starts(places: Places, key: FieldKey, t: int) -> None:
    """Forget all starts of a unit: how it ended is written down."""
    places.starts(key, t).unlink(missing_ok=True)


def _starts(path: Path) -> Sequence[str]:
    try:
        with path.open("rb") as stream:
            return stream.read(1 << 16).decode("ascii", "replace").split()
    except FileNotFoundError:
        return []


def _write_starts(path: Path, sessions: Sequence[str]) -> None:
    if sessions:
        write_whole(path, "\n".join(sessions).encode())
    else:
        path.unlink(missing_ok=True)


def begin_session(places: Places, session: str) -> None:
    """Let tasks of this run write, and no others."""
    write_whole(places.session, session.encode())


def end_session(places: Places) -> None:
    """Have all tasks stop after their current tile."""
    places.session.unlink(missing_ok=True)


def in_session(places: Places, session: str) -> bool:
    """Say whether tasks of a run may go on; asked between tiles."""
    try:
        with places.session.open("rb") as stream:
            return stream.read(len(session) + 1) == session.encode()
    except FileNotFoundError:
        return False
