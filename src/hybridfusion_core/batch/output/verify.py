"""Look through the output of a batch: how much of what was asked for is there, and whether it is whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybridfusion_core.batch.records.paths import BatchPaths, FieldKey, field_key
from hybridfusion_core.batch.records.store import all_asked, read_json, unit_record
from hybridfusion_core.errors import StoredDataError, UserInputError
from hybridfusion_core.io.suffixes import ZARR_SUFFIXES, has_suffix, output_suffix
from hybridfusion_core.io.verify import check_field, shortened, verify


@dataclass(frozen=True)
class Unfinished:
    """A field at a time point that was asked for and is not there, or not whole.

    Attributes:
        well: as written.
        field: its name.
        time: index.
        reason: why it failed, what is damaged, or "not fused yet".
    """

    well: str
    field: str
    time: int
    reason: str


@dataclass(frozen=True)
class Inventory:
    """How much of what was asked for is there.

    Attributes:
        asked: focal stacks, one for each field and time.
        failed: of them.
        waiting: of them, neither fused nor failed.
        damaged: of them, fused and not whole.
    """

    asked: int
    failed: tuple[Unfinished, ...]
    waiting: tuple[Unfinished, ...]
    damaged: tuple[Unfinished, ...]

    @property
    def unfinished(self) -> tuple[Unfinished, ...]:
        """All that is to be fused again."""
        return (*self.failed, *self.waiting, *self.damaged)

    def describe(self) -> str:
        """Say it in a line."""
        done = self.asked - len(self.unfinished)
        parts = {"failed": self.failed, "not fused yet": self.waiting, "damaged": self.damaged}
        rest = "".join(f", {len(units)} {word}" for word, units in parts.items() if units)
        return f"{done} of {self.asked} focal stacks that were asked for are there{rest}"


def paths_of(output: Path) -> BatchPaths | None:
    """Return the paths of the batch that wrote an output; None if no batch did."""
    output = output.absolute()
    if not output.is_dir() or not output.name:
        return None
    try:
        paths = BatchPaths(output, files=not has_suffix(output, ZARR_SUFFIXES))
    except UserInputError:
        return None
    return paths if paths.run_record.is_file() else None


def inventory(paths: BatchPaths) -> Inventory:
    """Compare what was asked for with what is there; the pixels of every field are read.

    Args:
        paths: of the batch.
    """
    asked = all_asked(paths) or sorted(set(_recorded(paths)))
    failed, waiting, damaged = [], [], []
    fields: dict[FieldKey, list[tuple[str, str, str, int]]] = {}
    for row, column, field, t in asked:
        key = field_key(row, column, field)
        record = unit_record(paths, key, t) or {}
        if record.get("status") == "done":
            fields.setdefault(key, []).append((row, column, field, t))
        elif record.get("status") == "failed":
            failed.append(Unfinished(row + column, field, t, str(record.get("reason", ""))))
        else:
            waiting.append(Unfinished(row + column, field, t, "not fused yet"))
    for key, units in fields.items():
        found = damage(paths, key, [t for *_, t in units])
        if found:
            damaged += [Unfinished(row + column, field, t, found[0]) for row, column, field, t in units]
    return Inventory(len(asked), tuple(failed), tuple(waiting), tuple(damaged))


def _recorded(paths: BatchPaths) -> Iterator[tuple[str, str, str, int]]:
    """Yield all that was ever tried, for batches of versions that did not write down what was asked for."""
    for path in sorted((paths.folder / "units").rglob("*.json")):
        try:
            unit = (read_json(path) or {})["unit"]
            yield str(unit["row"]), str(unit["column"]), str(unit["field"]), int(unit["time"])
        except (StoredDataError, LookupError, TypeError, ValueError):
            continue


def damage(paths: BatchPaths, key: FieldKey, times: Sequence[int]) -> list[str]:
    """Say what is wrong with the pixels of a field that its records say are there.

    Args:
        paths: of the batch.
        key: of the field.
        times: its time points to look at, where each has files of its own; an image is read as a whole.
    """
    records = [record for t in times if (record := unit_record(paths, key, t) or {}).get("status") == "done"]
    if not records:
        return []
    if paths.files:
        return [finding for record in records for name in _names(record) for finding in _of_file(paths, name)]
    return check_field(paths.output, paths.maps, "/".join(key))


def damaged_wells(paths: BatchPaths) -> list[tuple[FieldKey, str]]:
    """Return which images of whole wells are not whole, and what is wrong with each.

    Args:
        paths: of the batch.
    """
    found = []
    for record in sorted((paths.folder / "wells").glob("*/*/*.json")):
        key = FieldKey(record.parent.parent.name, record.parent.name, record.stem)
        wrong = check_field(paths.output, paths.maps, "/".join(key))
        found += [(key, f"well {key.row}{key.column}: {wrong[0]}")] if wrong else []
    return found


def holds_files(output: Path) -> bool:
    """Say whether a folder is where a batch has written files."""
    found = paths_of(output) if output_suffix(output) is None else None
    return found is not None and found.files


def verify_files(output: Path) -> list[str]:
    """Read all files of a batch.

    Args:
        output: the folder of the files.

    Returns:
        What is wrong, one sentence each, as `io.verify` says it.
    """
    return shortened(list(_findings(BatchPaths(output.absolute(), files=True))))


def _findings(paths: BatchPaths) -> Iterator[str]:
    for path in sorted((paths.folder / "units").rglob("*.json")):
        try:
            names = _names(read_json(path) or {})
        except StoredDataError:
            yield f"{path.relative_to(paths.folder.parent)} is no record of a batch"
            continue
        for name in names:
            yield from _of_file(paths, name)


def _of_file(paths: BatchPaths, name: str) -> Iterator[str]:
    # Another program may have changed a record.
    if Path(name).name != name or not has_suffix(Path(name), (".tif",)):
        yield f"a record of {paths.folder.name} names {name!r}, which is no file of the batch"
    elif not (paths.output / name).is_file():
        yield f"{name} is missing"
    else:
        yield from verify(paths.output / name)


def _names(record: dict[str, Any]) -> list[str]:
    files = record.get("files")
    return [str(each) for each in files.values()] if record.get("status") == "done" and isinstance(files, dict) else []
