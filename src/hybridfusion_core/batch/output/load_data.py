"""`load_data.csv` among the files of a batch: what CellProfiler's LoadData module reads, finished fields only."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hybridfusion_core.batch.output.file_names import padded_well
from hybridfusion_core.batch.records.failure_list import guarded_cell
from hybridfusion_core.batch.records.paths import BatchPaths, FieldKey, key_of
from hybridfusion_core.io.disk.atomic import write_whole
from hybridfusion_core.io.suffixes import result_paths
from hybridfusion_core.plates.plate import Plate


class _Files(NamedTuple):
    """Names of files by the label of their channel: fused images, and decisions as CellProfiler's objects."""

    images: Mapping[str, str]
    decisions: Mapping[str, str]


class FileList:
    """Lists the files of finished fields.

    Args:
        plate: that is fused.
        paths: of the batch.
    """

    def __init__(self, plate: Plate, paths: BatchPaths) -> None:
        self._plate, self._paths = plate, paths
        self._finished: dict[FieldKey, dict[int, _Files]] = {}
        self.warnings: dict[str, str] = {}

    def add(
        self,
        key: FieldKey,
        records: Sequence[Mapping[str, Any]],
        *,
        missing: Sequence[int] = (),
        fresh: bool = False,
    ) -> None:
        """Take the files of a field.

        Args:
            key: of the field.
            records: of its units that are finished, in order of time.
            missing: time points without files; makes no difference here, since each has files of its own.
            fresh: it was fused a moment ago; makes no difference here.
        """
        del missing, fresh
        self._finished[key] = {int(each["unit"]["time"]): _files(each) for each in records}

    def publish(self) -> None:
        """Write the table, in the order of the plate; the names of files have passed `NameTemplate`."""
        path = self._paths.output / "load_data.csv"
        if not self._finished:
            path.unlink(missing_ok=True)
            return
        rows = [
            (unit, files)
            for unit in self._plate.fields()
            if (files := self._finished.get(key_of(unit), {}).get(unit.t)) is not None
        ]
        labels = list(dict.fromkeys(label for _, files in rows for label in files.images))
        decided = [label for label in labels if any(label in files.decisions for _, files in rows)]
        stream = io.StringIO(newline="")
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(
            [f"Image_{what}_{label}" for label in labels for what in ("FileName", "PathName")]
            + [f"Image_Objects{what}_Decision_{label}" for label in decided for what in ("FileName", "PathName")]
            + [f"Metadata_{what}" for what in ("Plate", "Well", "Site", "Timepoint")]
        )
        folder = str(self._paths.output)
        for unit, files in rows:
            names = [files.images.get(label) for label in labels] + [files.decisions.get(label) for label in decided]
            cells = [cell for name in names for cell in ((name, folder) if name else ("", ""))]
            named = (unit.plate, padded_well(unit), unit.field)
            writer.writerow([*cells, *map(guarded_cell, named), unit.t])
        content = stream.getvalue().encode("utf-8", "replace")
        if not path.is_file() or path.read_bytes() != content:
            write_whole(path, content)


def _files(record: Mapping[str, Any]) -> _Files:
    written = {Path(each).name for each in record["pixels"]}
    decisions = {
        label: result_paths(Path(name)).get("decision", Path(name)).name for label, name in record["files"].items()
    }
    return _Files(
        record["files"],
        {label: name for label, name in decisions.items() if name in written and name != record["files"][label]},
    )
