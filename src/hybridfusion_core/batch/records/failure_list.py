"""Lists of fields that failed, are missing or damaged: written for spreadsheets, and read back for `--only`."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from hybridfusion_core.errors import HybridFusionError, UserInputError
from hybridfusion_core.io.disk.access import permitted
from hybridfusion_core.plates.plate import PlateField

COLUMNS = ("well", "field", "time", "reason")
_LARGEST = 256 << 20  # bytes of a list
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would run
_SEPARATORS = ",;\t"  # Excel writes the one of the user's country

UnitKey = tuple[str, str, int]  # well, field, time


def read_failures(path: Path) -> frozenset[UnitKey]:
    """Read which units are to be fused again, also from a list that a spreadsheet has saved.

    Args:
        path: CSV with the columns well, field and time, separated by commas, semicolons or tabs; without time, the
            first time point is meant.

    Returns:
        Well, field and time of each; none if the list has no rows.

    Raises:
        UserInputError: there is no such file, or it is no list.
    """
    try:
        with permitted(path):
            size = path.stat().st_size
            text = path.read_text(encoding="utf-8-sig", errors="replace") if size <= _LARGEST else ""
        rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=_separator(text))
        if not {"well", "field"} <= set(rows.fieldnames or ()):
            raise LookupError("it has no columns well and field")
        return frozenset((_bare(row["well"]), _bare(row["field"]), int(row.get("time") or 0)) for row in rows)
    except HybridFusionError:
        raise
    except (OSError, LookupError, ValueError, TypeError, AttributeError, csv.Error) as error:
        raise UserInputError(
            f"{path} is no list of failures ({type(error).__name__}: {error}); expected a CSV file with the columns "
            f"{', '.join(COLUMNS)}, as a batch writes it. Name the failures.csv of this plate."
        ) from error


def failures_csv(failures: Iterable[tuple[str, str, int, str]]) -> str:
    """Return a list that `read_failures` reads.

    Args:
        failures: well, field, time and reason of each.

    Returns:
        CSV with the columns `COLUMNS`.
    """
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for well, field, time, reason in failures:
        writer.writerow((guarded_cell(well), guarded_cell(field), time, guarded_cell(reason)))
    return stream.getvalue()


def row_of(unit: PlateField, reason: str) -> tuple[str, str, int, str]:
    """Return the row of a unit."""
    return unit.well, unit.field, unit.t, reason


def guarded_cell(text: str) -> str:
    """Return a cell of a CSV file that no spreadsheet takes for a formula: names in untrusted files may be one."""
    return f"'{text}" if _is_formula(text) else text


def _bare(text: str) -> str:
    """Return what a cell stood for: an apostrophe was put before a formula, and before nothing else."""
    return text[1:] if text.startswith("'") and _is_formula(text) else text


def _is_formula(text: str) -> bool:
    return text.lstrip("'").startswith(_FORMULA)


def _separator(text: str) -> str:
    header = text.partition("\n")[0]
    return max(_SEPARATORS, key=header.count)
