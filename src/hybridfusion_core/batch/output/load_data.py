"""`load_data.csv` among the files of a batch: what CellProfiler's LoadData module reads, finished fields only."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from hybridfusion_core.batch.output.file_names import padded_well
from hybridfusion_core.batch.records.paths import FieldKey, Places, key_of
from hybridfusion_core.io.disk.atomic import write_whole
from hybridfusion_core.plates.plate import Plate
from hybridfusion_core.plates.select import guarded_cell


class FileList:
    """Lists the files of finished fields.

    Args:
        plate: that is fused.
        places: of the batch.
    """

    def __init__(self, plate: Plate, places: Places) -> None:
        self._plate, self._places = plate, places
        self._finished: dict[FieldKey, dict[int, Mapping[str, str]]] = {}
        self.warnings: dict[str, str] = {}

    def add(self, key: FieldKey, records: Sequence[Mapping[str, Any]], *, fresh: bool = False) -> None:
        """Take the files of a field.

        Args:
            key: of the field.
            records: of its units, in order of time, all of them finished.
            fresh: it was fused a moment ago; makes no difference here.
        """
        del fresh
        self._finished[key] = {int(each["unit"]["time"]): each["files"] for each in records}

    def publish(self) -> None:
        """Write the table, in the order of the plate; the names of files have passed `NameTemplate`."""
        path = self._places.output / "load_data.csv"
        if not self._finished:
            path.unlink(missing_ok=True)
            return
        rows = [
            (unit, files)
            for unit in self._plate.fields()
            if (files := self._finished.get(key_of(unit), {}).get(unit.t)) is not None
        ]
        labels = list(dict.fromkeys(label for _, files in rows for label in files))
        stream = io.StringIO(newline="")
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(
            [f"Image_{what}_{label}" for label in labels for what in ("FileName", "PathName")]
            + [f"Metadata_{what}" for what in ("Plate", "Well", "Site", "Timepoint")]
        )
        folder = str(self._places.output)
        for unit, files in rows:
            places = [cell for label in labels for cell in ((files[label], folder) if label in files else ("", ""))]
            named = (unit.plate, padded_well(unit), unit.field)
            writer.writerow([*places, *map(guarded_cell, named), unit.t])
        content = stream.getvalue().encode("utf-8", "replace")
        if not path.is_file() or path.read_bytes() != content:
            write_whole(path, content)
