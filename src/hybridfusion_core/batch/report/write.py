"""What is left to read in the morning: `failures.csv`, `report.csv` and `report.html` beside the plate."""

from __future__ import annotations

from hybridfusion_core.batch.records.failure_list import failures_csv, row_of
from hybridfusion_core.batch.records.store import read_json
from hybridfusion_core.batch.report.field_table import field_rows, report_csv
from hybridfusion_core.batch.report.page import render
from hybridfusion_core.batch.result import Result
from hybridfusion_core.io.disk.atomic import write_whole
from hybridfusion_core.plates.plate import Plate


def write_reports(plate: Plate, result: Result) -> None:
    """Write what is known of every unit of a plate, of this and of earlier runs.

    Args:
        plate: all of it.
        result: of the run that has ended.
    """
    paths = result.paths
    rows = list(field_rows(plate, paths, result.missing))
    failures = [row_of(row.unit, row.reason) for row in rows if row.status == "failed"]
    write_whole(paths.failures, failures_csv(failures).encode("utf-8", "replace"))
    write_whole(paths.folder / "report.csv", report_csv(rows).encode("utf-8", "replace"))
    page = render(plate, paths, rows, read_json(paths.run_record) or {}, result.warnings)
    write_whole(paths.folder / "report.html", page.encode("utf-8", "replace"))
