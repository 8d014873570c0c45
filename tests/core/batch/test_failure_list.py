"""Lists of failures: what was written is read back, also after a spreadsheet had it."""

import csv
import io
from pathlib import Path

import pytest

from hybridfusion_core.batch.records.failure_list import failures_csv, read_failures
from hybridfusion_core.errors import UserInputError

FIELDS = ("1", "=HYPERLINK(x)", "'quoted", "'=x", 'a,"b"\nc')
UNITS = {(well, field, time) for well in ("A01", "H12") for field in FIELDS for time in (0, 3)}


def written(path: Path, separator: str = ",", before: bytes = b"") -> Path:
    text = failures_csv((*unit, '=cmd|"x",\n') for unit in sorted(UNITS))
    stream = io.StringIO(newline="")
    rows = csv.reader(io.StringIO(text, newline=""))
    csv.writer(stream, delimiter=separator, lineterminator="\n").writerows(rows)
    path.write_bytes(before + stream.getvalue().encode())
    return path


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf"])
def test_what_was_written_is_read_back_also_from_a_spreadsheet(separator: str, before: bytes, tmp_path: Path) -> None:
    assert read_failures(written(tmp_path / "failures.csv", separator, before)) == UNITS


def test_no_cell_is_a_formula(tmp_path: Path) -> None:
    text = written(tmp_path / "failures.csv").read_text(encoding="utf-8")
    for row in csv.reader(io.StringIO(text, newline="")):
        assert not any(cell.startswith(("=", "+", "-", "@")) for cell in row)


def test_a_reason_with_an_apostrophe_stays_as_it_is() -> None:
    assert "\nA01,1,0,'A01_f2.tif' is gone\n" in failures_csv([("A01", "1", 0, "'A01_f2.tif' is gone")])


def test_a_list_made_by_hand_needs_no_times(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("well;field\nB02;1\n", encoding="utf-8")
    assert read_failures(tmp_path / "mine.csv") == {("B02", "1", 0)}


def test_a_list_without_rows_is_empty(tmp_path: Path) -> None:
    (tmp_path / "none.csv").write_text(failures_csv([]), encoding="utf-8")
    assert read_failures(tmp_path / "none.csv") == frozenset()


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "well,field,time\nB02,1,x\n", "well,field,time\nB02\n", "\0\0"])
def test_what_is_no_list_of_failures_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "failures.csv").write_text(content)
    with pytest.raises(UserInputError, match=r"is no list of failures .*expected a CSV file"):
        read_failures(tmp_path / "failures.csv")
    with pytest.raises(UserInputError, match=r"is no list of failures .*expected a CSV file"):
        read_failures(tmp_path / "missing.csv")
