"""Look through the files of a batch: all that its records say is there, whole and with what belongs to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hybridfusion_core.batch.records.paths import Places
from hybridfusion_core.batch.records.store import read_json
from hybridfusion_core.errors import StoredDataError
from hybridfusion_core.io.suffixes import has_suffix, output_suffix
from hybridfusion_core.io.verify import shortened, verify


def holds_files(output: Path) -> bool:
    """Say whether a folder is where a batch has written files."""
    return (
        output.is_dir()
        and output_suffix(output) is None
        and bool(output.absolute().name)
        and Places(output.absolute(), files=True).run_record.is_file()
    )


def verify_files(output: Path) -> list[str]:
    """Read all files of a batch.

    Args:
        output: the folder of the files.

    Returns:
        What is wrong, one sentence each, as `store.verify` says it.
    """
    places = Places(output.absolute(), files=True)
    return shortened(list(_findings(places)))


def _findings(places: Places) -> Iterator[str]:
    for path in sorted((places.folder / "units").rglob("*.json")):
        try:
            names = _names(read_json(path) or {})
        except StoredDataError:
            yield f"{path.relative_to(places.folder.parent)} is no record of a batch"
            continue
        for name in names:
            # A record may have been changed by a stranger.
            if Path(name).name != name or not has_suffix(Path(name), (".tif",)):
                yield f"{path.relative_to(places.folder.parent)} names {name!r}, which is no file of the batch"
            elif not (places.output / name).is_file():
                yield f"{name} is missing"
            else:
                yield from verify(places.output / name)


def _names(record: dict[str, Any]) -> list[str]:
    files = record.get("files")
    return [str(each) for each in files.values()] if record.get("status") == "done" and isinstance(files, dict) else []
