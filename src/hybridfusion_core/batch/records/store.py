"""What a batch writes down beside its plate: what was asked for, how each unit ended, and what has only begun.

Each file appears whole or not at all, and is read as an untrusted file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybridfusion_core.batch.records.paths import BatchPaths, FieldKey
from hybridfusion_core.errors import StoredDataError, UserInputError
from hybridfusion_core.io.disk.access import guarded
from hybridfusion_core.io.disk.atomic import write_whole
from hybridfusion_core.plates.plate import PlateField

FORMAT = 1
_LARGEST = 64 << 20  # bytes of a record
_SHORT = "-memory"  # after the name of a session whose start ended so
_SUSPECT = 3  # runs that were killed while they worked on the same unit


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


def unit_record(paths: BatchPaths, key: FieldKey, t: int) -> dict[str, Any] | None:
    """Read how a unit ended; None if that is not known, also because another program wrote there.

    Args:
        paths: of the batch.
        key: of the field.
        t: of the unit.
    """
    try:
        return read_json(paths.record(key, t))
    except StoredDataError:
        return None


def run_record(paths: BatchPaths, request: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the record of the run that began this output, if there is one.

    Args:
        paths: of the batch.
        request: what is asked for now, plain JSON values.

    Raises:
        UserInputError: no batch, or another one, began the output.
        StoredDataError: the record is damaged.
    """
    found = read_json(paths.run_record)
    if found is None:
        _refuse_existing(paths)
        return None
    before = found.get("request")
    if not isinstance(before, dict):
        raise StoredDataError(
            f"{paths.run_record} does not say what was asked for; expected the record of a batch. Move it and the "
            "plate away to start anew."
        )
    changed = sorted(name for name in {*before, *request} if before.get(name) != request.get(name))
    if changed:
        raise UserInputError(
            f"{paths.output.name} was begun with other choices than these; expected the same, because one plate is "
            "fused in one way. Give the same choices again, choose another output, or begin anew with --overwrite, "
            f"which removes the plate, its maps and {paths.folder.name}. What differs:",
            [f"{name}: {json.dumps(before.get(name))} then, {json.dumps(request.get(name))} now" for name in changed],
        )
    return found


def refuse_foreign(paths: BatchPaths) -> None:
    """Refuse to overwrite what no batch has made.

    Raises:
        UserInputError: there is something at the output, and no record of a batch beside it.
    """
    if not paths.run_record.is_file():
        _refuse_existing(paths)


def _refuse_existing(paths: BatchPaths) -> None:
    for path in (paths.output, paths.maps):
        # Pipelines make the folders of their outputs before they are written.
        empty = path.is_dir() and not path.is_symlink() and next(path.iterdir(), None) is None
        if (path.exists() or path.is_symlink()) and not empty:
            raise UserInputError(
                f"{path} exists already and no batch began it ({paths.run_record} is not there); expected a new name, "
                "an empty folder, or the output of a batch to resume. Choose another output."
            )


def note_asked(paths: BatchPaths, units: Iterable[PlateField]) -> None:
    """Write down what was asked for, in this run and before: `verify` says how much of it is there.

    Args:
        paths: of the batch; every shard has a list of its own.
        units: that were chosen now.
    """
    before = {tuple(each) for each in _asked(paths.asked)}
    asked = before | {(unit.row, unit.column, unit.field, unit.t) for unit in units}
    if asked != before:
        write_json(paths.asked, {"format": FORMAT, "units": sorted(map(list, asked))})


def all_asked(paths: BatchPaths) -> list[tuple[str, str, str, int]]:
    """Return row, column, field and time of all that was ever asked for, in all shards."""
    found: set[tuple[str, str, str, int]] = set()
    for path in sorted(paths.folder.glob("asked*.json")):
        found.update(_asked(path))
    return sorted(found)


def _asked(path: Path) -> list[tuple[str, str, str, int]]:
    units = (read_json(path) or {}).get("units", [])
    try:
        return [(str(row), str(column), str(field), int(t)) for row, column, field, t in units]
    except (TypeError, ValueError):  # another program wrote into it
        return []


@dataclass(frozen=True)
class Start:
    """One start of a unit.

    Attributes:
        kills: workers that died with it in this run.
        halvings: how often to halve its tiles.
    """

    kills: int
    halvings: int


def count_start(paths: BatchPaths, key: FieldKey, t: int, session: str) -> Start:
    """Write down that a unit is about to start, before it does: out of memory is a kill and leaves no other trace.

    What a worker died of is not known: its time was over, its node was lost, or its memory was too small. The first
    death in a run changes nothing, each further one halves the tiles of the unit, because other tiles give other last
    bits. Memory that ran out without a death halves them at once. Earlier runs that were killed as a whole count from
    the third on, because whatever they died of was most likely not this unit.

    Args:
        paths: of the batch.
        key: of the field.
        t: of the unit.
        session: of the run.
    """
    path = paths.starts(key, t)
    before = _starts(path)
    kills, short = before.count(session), before.count(session + _SHORT)
    earlier = {each.removesuffix(_SHORT) for each in before} - {session}
    suspected = max(len(earlier) - (_SUSPECT - 1), 0)
    _write_starts(path, [*before, session])
    return Start(kills, short + max(kills - 1, 0) + suspected)


def note_shortage(paths: BatchPaths, key: FieldKey, t: int, session: str) -> None:
    """Write down that the last start of a unit ended because memory ran out."""
    path = paths.starts(key, t)
    _write_starts(path, [*_starts(path)[:-1], session + _SHORT])


def starts_in_run(paths: BatchPaths, key: FieldKey, t: int, session: str) -> int:
    """Return how many starts of a unit in this run have not ended."""
    return _starts(paths.starts(key, t)).count(session)


def uncount_start(paths: BatchPaths, key: FieldKey, t: int) -> None:
    """Take the last start back: it finished or failed."""
    path = paths.starts(key, t)
    _write_starts(path, _starts(path)[:-1])


def forget_starts(paths: BatchPaths, key: FieldKey, t: int) -> None:
    """Forget all starts of a unit: how it ended is written down."""
    paths.starts(key, t).unlink(missing_ok=True)


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


def begin_session(paths: BatchPaths, session: str) -> None:
    """Let tasks of this run write, and no others."""
    write_whole(paths.session, session.encode())


def end_session(paths: BatchPaths) -> None:
    """Have all tasks stop after their current tile."""
    paths.session.unlink(missing_ok=True)


def in_session(paths: BatchPaths, session: str) -> bool:
    """Say whether tasks of a run may go on; asked between tiles."""
    try:
        with paths.session.open("rb") as stream:
            return stream.read(len(session) + 1) == session.encode()
    except FileNotFoundError:
        return False
