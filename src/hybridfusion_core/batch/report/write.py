"""What is left to read in the morning: `failures.csv`, `report.csv` and `report.html` beside the plate."""

from __future__ import annotations

from hybridfusion_core.batch.records.store import read_json
from hybridfusion_core.batch.report.field_table import report_csv, rows_of
from hybridfusion_core.batch.report.page import render
from hybridfusion_core.batch.run import Result
from hybridfusion_core.io.disk.atomic import write_whole
from hybridfusion_core.plates.plate import Plate
from hybridfusion_core.plates.select import failures_csv


def write_reports(plate: Plate, result: Result) -> None:
    """Write what is known of every unit of a plate, of this and of earlier runs.

    Args:
        plate: all of it.
        result: of the run that has ended.
    """
    places = result.places
    rows = list(rows_of(plate, places, result.missing))
    failures = [(row.unit, row.reason) for row in rows if row.status == "failed"]
    write_whole(places.failures, failures_csv(failures).encode("utf-8", "replace"))
    write_whole(places.folder / "report.csv", report_csv(rows).encode("utf-8", "replace"))
    page = render(plate, places, rows, read_json(places.run_record) or {})
    write_whole(places.folder / "report.html", page.encode("utf-8", "replace"))
