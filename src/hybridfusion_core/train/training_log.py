"""What a training measures of itself, on disk step by step."""

from __future__ import annotations

import csv
from pathlib import Path


class Scalars:
    """A CSV with one row per step, written as it grows; use it as a context manager.

    Args:
        path: of the file.
        first: step that comes next; rows of it and of later ones, which are about to be repeated, are dropped.
    """

    def __init__(self, path: Path, first: int) -> None:
        self._path, self._first = path, first

    def __enter__(self) -> Scalars:
        rows = self._path.read_text(encoding="utf-8").splitlines() if self._path.exists() else []
        kept = [row for row in rows[1:] if int(row.split(",")[0]) < self._first]
        self._file = self._path.open("w", encoding="utf-8", newline="")
        self._file.writelines(f"{row}\n" for row in [*rows[:1], *kept])
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._headed = bool(rows)
        return self

    def write(self, step: int, values: dict[str, float]) -> None:
        """Add a row; the first one names the columns."""
        if not self._headed:
            self._writer.writerow(["step", *values])
            self._headed = True
        self._writer.writerow([step, *(f"{value:.6g}" for value in values.values())])
        self._file.flush()

    def __exit__(self, *_: object) -> None:
        self._file.close()
