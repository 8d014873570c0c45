"""What lies on the surface, by label: where along z, how sure, how large once tilt is accounted for, how bright."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import LocalStore

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.io.disk.atomic import Delivery, explained
from hybridfusion_core.io.open import open_stack
from hybridfusion_core.io.result_spec import product_of, quantity_of
from hybridfusion_core.io.suffixes import result_paths
from hybridfusion_core.stack import Stack

_BAND = 1024  # rows at a time
_MOST = 5_000_000  # labels

Table = dict[str, NDArray[Any]]


def measure_labels(result: str | Path, labels: str | Path, *, sheet: int | None = None) -> Table:
    """Measure the labels of a segmented fused image.

    Args:
        result: what `fuse` wrote, with its maps beside it.
        labels: integers of the same plane, 0 for background: a TIFF or an OME-Zarr.
        sheet: which surface, counted from 1, where the result has two.

    Returns:
        One array per column, one entry per label and time point, in that order: "label", "time", "pixels", "y" and "x"
        (middle), "z" (mean), "z_spread" (standard deviation), "z_roughness" (the same around a plane through the
        label), "tilt_degrees", "in_focus" (share of the pixels with a height), "confidence" (mean), "area" and
        "area_corrected" (on that plane: pixels × √(1 + slope²)), and "intensity: NAME" (mean) of each channel.
        Lengths are in µm if the columns say so, "z_um", "area_um2", else in slices and pixels; NaN where not known.

    Raises:
        UserInputError: there is no height, or the labels do not fit.
        StoredDataError: a file is damaged.
    """
    path = Path(result)
    maps = result_paths(path).get("maps", path)
    if not maps.exists():
        raise UserInputError(
            f"{path.name} has no {maps.name} beside it; expected its height. Fuse again with height among the products."
        )
    with open_stack(str(path)) as fused, open_stack(str(maps)) as explained_by, open_stack(str(labels)) as named:
        plane = _checked(fused, explained_by, named, sheet)
        names, groups = _map_names(explained_by), []
        for t in range(fused.shape[0]):
            numbers = _numbers(named, t)
            sums = _Sums(len(numbers), fused.shape[1])
            for rows in _bands(fused):
                sums.add(numbers, _Band.read(fused, explained_by, named, names, t, plane, rows), rows.start)
            groups.append(_columns(numbers, sums, t, fused, names["unit"]))
    return {name: np.concatenate([group[name] for group in groups]) for name in groups[0]}


def _checked(fused: Stack, maps: Stack, labels: Stack, sheet: int | None) -> int:
    if labels.dtype.kind not in "iu" or labels.shape[1:3] != (1, 1):
        raise UserInputError(
            f"{labels.name} is {labels.dtype} of T C Z Y X = {labels.shape}; expected one plane of integers, 0 for "
            "background. Save the labels as such."
        )
    if labels.shape[3:] != fused.shape[3:] or labels.shape[0] not in (1, fused.shape[0]):
        raise UserInputError(
            f"{labels.name} has T Y X = {(labels.shape[0], *labels.shape[3:])}, the result "
            f"{(fused.shape[0], *fused.shape[3:])}; expected the same. They belong to another image, or were binned."
        )
    depth = maps.shape[2]
    if not (sheet is None and depth == 1) and not 1 <= (sheet or 0) <= depth:
        raise UserInputError(
            f"{fused.name} has {depth} surface(s) and number {sheet} was asked for; expected one of them. Choose one "
            f"with --sheet, from 1 to {depth}."
        )
    return (sheet or 1) - 1


def _map_names(maps: Stack) -> dict[str, Any]:
    products = [product_of(channel.name) for channel in maps.channels]
    if "height" not in products:
        raise UserInputError(
            f"{maps.name} has the maps {', '.join(channel.name for channel in maps.channels)}; expected a height among "
            "them. Fuse again with height among the products."
        )
    index = products.index("height")
    unit = "um" if quantity_of(maps.channels[index].name).endswith("_um") else "slices"
    confidence = products.index("confidence") if "confidence" in products else None
    return {"height": index, "confidence": confidence, "unit": unit}


def _bands(stack: Stack) -> Iterator[slice]:
    for top in range(0, stack.shape[3], _BAND):
        yield slice(top, min(top + _BAND, stack.shape[3]))


def _numbers(labels: Stack, t: int) -> NDArray[Any]:
    found: NDArray[Any] = np.empty(0, labels.dtype)
    for rows in _bands(labels):
        plane = labels.read(min(t, labels.shape[0] - 1), 0, [0], rows, slice(0, labels.shape[4]))
        found = np.union1d(found, plane)
        if len(found) > _MOST:
            raise UserInputError(
                f"{labels.name} has more than {_MOST:,} labels; expected fewer. Is it a picture rather than labels?"
            )
    return found[found > 0]


@dataclass(frozen=True)
class _Band:
    """Rows of a time point: labels, height and confidence Y X, intensities C Y X."""

    labels: NDArray[Any]
    height: NDArray[np.float64]
    confidence: NDArray[np.float64]
    counts: NDArray[np.float64]

    @classmethod
    def read(
        cls, fused: Stack, maps: Stack, labels: Stack, names: dict[str, Any], t: int, plane: int, rows: slice
    ) -> _Band:
        columns = slice(0, fused.shape[4])
        height = maps.read(t, names["height"], [plane], rows, columns)[0].astype(np.float64)
        confidence = np.full(height.shape, np.nan)
        if names["confidence"] is not None:
            confidence = maps.read(t, names["confidence"], [plane], rows, columns)[0].astype(np.float64)
        counts = np.stack(
            [fused.read(t, channel, [plane], rows, columns)[0] for channel in range(fused.shape[1])]
        ).astype(np.float64)
        return cls(labels.read(min(t, labels.shape[0] - 1), 0, [0], rows, columns)[0], height, confidence, counts)


class _Sums:
    """Sums over the pixels of each label."""

    def __init__(self, count: int, channels: int) -> None:
        self.pixels, self.y, self.x = (np.zeros(count) for _ in range(3))
        self.confidence, self.sure = np.zeros(count), np.zeros(count)
        self.counts = np.zeros((channels, count))
        self.moments = np.zeros((count, 4, 4))  # of 1, y, x and height, where there is one

    def add(self, numbers: NDArray[Any], band: _Band, top: int) -> None:
        """Take some rows."""
        inside = band.labels > 0
        index = np.searchsorted(numbers, band.labels[inside])
        y, x = (each.astype(np.float64) for each in np.nonzero(inside))
        y += top

        def total(values: NDArray[np.float64], where: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
            at = index if where is None else index[where]
            taken = values if where is None else values[where]
            return np.asarray(np.bincount(at, taken, minlength=len(numbers)), np.float64)

        self.pixels += total(np.ones(len(y)))
        self.y += total(y)
        self.x += total(x)
        for channel, counts in enumerate(band.counts):
            self.counts[channel] += total(counts[inside])
        confidence = band.confidence[inside]
        self.confidence += total(confidence, np.isfinite(confidence))
        self.sure += total(np.ones(len(y)), np.isfinite(confidence))
        height = band.height[inside]
        known = np.isfinite(height)
        terms = (np.ones(len(y)), y, x, height)
        for row in range(4):
            for column in range(row, 4):
                found = total(terms[row] * terms[column], known)
                self.moments[:, row, column] += found
                if row != column:
                    self.moments[:, column, row] += found


def _columns(numbers: NDArray[Any], sums: _Sums, t: int, fused: Stack, unit: str) -> Table:
    count = sums.moments[:, 0, 0]
    pixel = (fused.y.step_um, fused.x.step_um)
    known_size = None not in pixel
    step_y, step_x = (float(each) for each in pixel) if known_size else (1.0, 1.0)  # type: ignore[arg-type]
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = sums.moments[:, 0] / count[:, None]
        covariance = sums.moments[:, 1:, 1:] / count[:, None, None] - mean[:, 1:, None] * mean[:, None, 1:]
        variance = np.maximum(covariance[:, 2, 2], 0)
        slopes = _slopes(covariance, count)
        explained_part = (slopes * covariance[:, :2, 2]).sum(axis=1)
        # A slope is one only where heights and pixels are lengths alike.
        tilt = np.hypot(slopes[:, 0] / step_y, slopes[:, 1] / step_x) if unit == "um" and known_size else count * np.nan
        area = sums.pixels * step_y * step_x
        lengths, areas = ("um", "um2") if known_size else ("px", "px")
        return {
            "label": numbers.astype(np.int64),
            "time": np.full(len(numbers), t, np.int64),
            "pixels": sums.pixels.astype(np.int64),
            f"y_{lengths}": sums.y / sums.pixels * step_y,
            f"x_{lengths}": sums.x / sums.pixels * step_x,
            f"z_{unit}": mean[:, 3],
            f"z_spread_{unit}": np.sqrt(variance),
            f"z_roughness_{unit}": np.sqrt(np.maximum(variance - explained_part, 0)),
            "tilt_degrees": np.degrees(np.arctan(tilt)),
            "in_focus": count / sums.pixels,
            "confidence": sums.confidence / sums.sure,
            f"area_{areas}": area,
            f"area_corrected_{areas}": area * np.sqrt(1 + tilt**2),
            **{
                f"intensity: {channel.name}": sums.counts[index] / sums.pixels
                for index, channel in enumerate(fused.channels)
            },
        }


def _slopes(covariance: NDArray[np.float64], count: NDArray[np.float64]) -> NDArray[np.float64]:
    """Slope along y and x of the plane through each label; 0 of labels that are too small or thin to have one."""
    a, b, d = covariance[:, 0, 0], covariance[:, 0, 1], covariance[:, 1, 1]
    determinant = a * d - b * b
    good = (count >= 3) & (determinant > 0.05)
    p, q = covariance[:, 0, 2], covariance[:, 1, 2]
    found = np.stack([d * p - b * q, a * q - b * p], axis=1) / np.where(good, determinant, 1)[:, None]
    return np.where(good[:, None], found, np.where(count[:, None] > 0, 0.0, np.nan))


def write_table(path: Path, table: Table, *, labels: str | None = None, overwrite: bool = False) -> None:
    """Write a table as CSV, or as an OME-Zarr table as ngio reads it (a feature table with the CSV inside).

    Args:
        path: ends in ".csv" or ".zarr".
        table: what `measure_labels` returned.
        labels: name of the label image beside the table, if it has one.
        overwrite: replace an existing table, once the new one is complete.

    Raises:
        UserInputError: another suffix, or the table exists.
    """
    if path.suffix not in (".csv", ".zarr"):
        raise UserInputError(f"The table {path.name!r} has no known suffix; expected .csv or .zarr.")
    delivery = Delivery((path,), overwrite=overwrite)
    try:
        with explained(path):
            part = delivery.part(path)
            if path.suffix == ".zarr":
                zarr.create_group(LocalStore(part), zarr_format=3, attributes=_attributes(labels))
            target = part / "table.csv" if path.suffix == ".zarr" else part
            target.write_text(as_csv(table), encoding="utf-8")
            delivery.publish()
    finally:
        with suppress(OSError):
            delivery.discard()


def as_csv(table: Table) -> str:
    """Return a table as CSV; unknown figures are empty."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(table)
    writer.writerows([_cell(value) for value in row] for row in zip(*table.values(), strict=True))
    return stream.getvalue()


def _cell(value: Any) -> str:
    if isinstance(value, np.integer):
        return str(value)
    return f"{value:.6g}" if np.isfinite(value) else ""


def _attributes(labels: str | None) -> dict[str, Any]:
    """Describe a feature table, version 1 (https://biovisioncenter.github.io/ngio, "feature_table")."""
    region = {} if labels is None else {"region": {"path": f"../labels/{labels}"}}
    return {
        "type": "feature_table",
        "table_version": "1",
        "backend": "csv",
        "instance_key": "label",
        "index_key": "label",
        "index_type": "int",
        **region,
    }
