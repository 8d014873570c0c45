"""The metadata of the plate that a batch writes: those of a field follow once all its pixels are at their place."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from hybridfusion_core.batch.output.kept_metadata import KeptMetadata
from hybridfusion_core.batch.output.tables import copy_tables
from hybridfusion_core.batch.output.zarr_metadata import remove_group, write_group
from hybridfusion_core.batch.records.paths import BatchPaths, FieldKey, field_key, safe_name
from hybridfusion_core.io.zarr.ngff_plates import plate_attributes, well_attributes
from hybridfusion_core.io.zarr.ngff_writing import Ngff
from hybridfusion_core.plates.field_stack import find_channels
from hybridfusion_core.plates.plate import Field, Plate
from hybridfusion_core.plates.well_names import row_letters
from hybridfusion_core.stack import UNITS_UM

_GROUPS = (".", "labels", "labels/decision")  # of an image; the maps have the first one only


class Publisher:
    """Writes the metadata of the plate and of its maps; only fields that are finished are listed.

    Args:
        plate: that is fused.
        paths: of the batch.
        ngff: version of OME-Zarr.
        channels: names or indices of those that are fused; None means all.
    """

    def __init__(
        self, plate: Plate, paths: BatchPaths, ngff: Ngff = "0.5", channels: Sequence[str] | None = None
    ) -> None:
        self._plate, self._paths, self._ngff = plate, paths, ngff
        self._positions = {
            field_key(well.row, well.column, field.name): _origin(plate, field)
            for well in plate.wells
            for field in well.fields
        }
        self._finished: dict[FieldKey, frozenset[str]] = {}
        self._images = _images(plate)
        self._kept = KeptMetadata(plate, self._images)
        first = next(plate.fields(), None)
        self._channels = find_channels(first, channels) if first is not None and first.imaging.channels else ()
        self.warnings: dict[str, str] = {}

    def add(
        self,
        key: FieldKey,
        records: Sequence[Mapping[str, Any]],
        *,
        missing: Sequence[int] = (),
        fresh: bool = False,
    ) -> None:
        """Describe a field, and give it the tables that its image had.

        Args:
            key: of the field.
            records: of its units that are finished, in order of time.
            missing: indices of time points in its image that have no pixels; its metadata name them.
            fresh: it was fused a moment ago, so that tables of an earlier image are replaced.
        """
        absent = _not_acquired(records)
        described = {
            store: {path: merged([each["attributes"][store][path] for each in records]) for path in groups}
            for store, groups in records[0]["attributes"].items()
        }
        for store, groups in described.items():
            folder = self._paths.store(store).joinpath(*key)
            for path in (each for each in _GROUPS if each in groups):
                attributes = _moved(groups[path], self._positions[key])
                if store == "fused" and path == ".":
                    attributes = self._kept.with_channels(key, self._channels, attributes)
                if missing and path != "labels":
                    attributes["hybridfusion"] = {**attributes.get("hybridfusion", {}), "missing_times": list(missing)}
                if absent and path != "labels":
                    attributes["hybridfusion"] = {**attributes.get("hybridfusion", {}), "not_acquired": absent}
                write_group(folder / path, attributes, self._ngff)
        self._finished[key] = frozenset(described)
        if key in self._images:
            self._copy_tables(self._images[key], self._paths.output.joinpath(*key), fresh=fresh)

    def publish(self) -> None:
        """List all fields that were added, and no others; the plate itself comes last."""
        for store in ("maps", "fused"):
            root = self._paths.store(store)
            listed = {key for key, stores in self._finished.items() if store in stores}
            if not listed:
                remove_group(root, self._ngff)
                continue
            self._publish(root, listed)

    def _copy_tables(self, image: str, target: Path, *, fresh: bool) -> None:
        source = Path(self._plate.folder, image, "tables")
        if (source.is_dir() or source.is_symlink()) and (fresh or not (target / "tables").exists()):
            problem = copy_tables(source, target / "tables", self._paths.staging / "tables", self._ngff)
            if problem:
                self.warnings[str(source)] = problem

    def _publish(self, root: Path, listed: set[FieldKey]) -> None:
        plate, ngff, wells = self._plate, self._ngff, []
        most = 0
        for well in plate.wells:
            keys = {field_key(well.row, well.column, field.name): field.acquisition for field in well.fields}
            fields = {key.field: acquisition for key, acquisition in keys.items() if key in listed}
            if fields:
                first = next(iter(keys))
                wells.append((first.row, first.column))
                most = max(most, len(fields))
                write_group(root / first.row / first.column, well_attributes(fields, ngff), ngff)
                write_group(root / first.row, {}, ngff)
        acquisitions = {each.id: each.name for each in plate.acquisitions}
        described = plate_attributes(
            plate.name, *_axes(plate), wells, fields=most, acquisitions=acquisitions, ngff=ngff
        )
        kept = self._kept.acquisitions() if acquisitions else {}
        for acquisition in described.get("ome", described)["plate"].get("acquisitions", ()):
            for name, value in kept.get(acquisition["id"], {}).items():
                acquisition.setdefault(name, value)
        write_group(root, described, ngff)
        if self._images and root == self._paths.output:
            self._copy_tables("", root, fresh=False)


def _not_acquired(records: Sequence[Mapping[str, Any]]) -> dict[str, list[int]]:
    """Return the time points of the plate at which channels were not acquired, by their names."""
    found: dict[str, list[int]] = {}
    for record in records:
        for name in record.get("not_acquired", ()):
            found.setdefault(str(name), []).append(int(record["unit"]["time"]))
    return found


def _images(plate: Plate) -> dict[FieldKey, str]:
    """Return the path of every image of an OME-Zarr plate; others have no tables."""
    if plate.layout != "ome-zarr":
        return {}
    return {
        field_key(well.row, well.column, field.name): field.frames[0].image.path
        for well in plate.wells
        for field in well.fields
        if field.frames and field.frames[0].image is not None
    }


def _axes(plate: Plate) -> tuple[list[str], list[str]]:
    """Return the names of all rows and columns; those of wells with images as they are written."""
    padded = any(len(well.column) > 1 and well.column.startswith("0") for well in plate.wells)
    rows = {index: row_letters(index) for index in range(plate.rows)}
    columns = {index: f"{index + 1:02d}" if padded else str(index + 1) for index in range(plate.columns)}
    listed = [safe_name(name) for name in plate.row_names], [safe_name(name) for name in plate.column_names]
    used = {safe_name(well.row) for well in plate.wells}, {safe_name(well.column) for well in plate.wells}
    if all(
        names and wells <= set(names) and len(set(names)) == len(names)
        for names, wells in zip(listed, used, strict=True)
    ):
        return listed
    return (
        _named(rows, ((well.row_index, safe_name(well.row)) for well in plate.wells)),
        _named(columns, ((well.column_index, safe_name(well.column)) for well in plate.wells)),
    )


def _named(usual: Mapping[int, str], written: Iterable[tuple[int, str]]) -> list[str]:
    names: dict[int, list[str]] = {}
    for index, name in written:
        if name not in names.setdefault(index, []):
            names[index].append(name)
    used = set(chain(*names.values()))
    # Untrusted metadata may give one row two names, or one name to two rows: each name is listed once.
    in_order = chain.from_iterable(
        names.get(index) or [name for name in (usual.get(index, ""),) if name not in used]
        for index in sorted({*usual, *names})
    )
    return list(dict.fromkeys(in_order))


def _origin(plate: Plate, field: Field) -> dict[str, float]:
    """Return where the first pixel lies on the stage, in µm by axis; OME-Zarr already says so, others their centres."""
    imaging = plate.imaging
    steps = imaging.y.step_um, imaging.x.step_um
    found = {} if field.z_um is None else {"z": field.z_um}
    if field.position_um is None:
        return found
    if plate.layout == "ome-zarr":
        return found | dict(zip("yx", field.position_um, strict=True))
    if imaging.plane is None or steps[0] is None or steps[1] is None:
        return found
    return found | {
        name: at - step * (length - 1) / 2
        for name, at, step, length in zip("yx", field.position_um, steps, imaging.plane, strict=True)
        if step
    }


def merged(attributes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Describe the time points of a field together: display limits that show all, and where each came from."""
    found: dict[str, Any] = copy.deepcopy(dict(attributes[0]))
    for other in attributes[1:]:
        channels, others = (each.get("ome", each).get("omero", {}).get("channels", ()) for each in (found, other))
        for channel, beside in zip(channels, others, strict=True):
            channel["window"]["start"] = min(channel["window"]["start"], beside["window"]["start"])
            channel["window"]["end"] = max(channel["window"]["end"], beside["window"]["end"])
            channel["window"]["min"] = min(channel["window"]["min"], beside["window"]["min"])
            channel["window"]["max"] = max(channel["window"]["max"], beside["window"]["max"])
        if "hybridfusion" in found:
            provenance = found["hybridfusion"]
            known = provenance["input"]
            known += [each for each in other["hybridfusion"]["input"] if each not in known]
            provenance["statistics"] += other["hybridfusion"]["statistics"]
    return found


def _moved(attributes: dict[str, Any], origin: Mapping[str, float]) -> dict[str, Any]:
    """Add the position on the stage, in µm by axis, to every level of an image."""
    moved = copy.deepcopy(attributes)
    for image in moved.get("ome", moved).get("multiscales", ()) if origin else ():
        names = [axis["name"] for axis in image["axes"]]
        units = [axis.get("unit") for axis in image["axes"]]
        for dataset in image["datasets"]:
            first, *rest = dataset["coordinateTransformations"]
            offset = rest[0]["translation"] if rest else [0.0] * len(names)
            for number, (name, unit) in enumerate(zip(names, units, strict=True)):
                offset[number] += _from_um(origin.get(name, 0.0), unit)
            dataset["coordinateTransformations"] = [first, {"type": "translation", "translation": offset}]
    return moved


def _from_um(value: float, unit: str | None) -> float:
    """Return a length in the unit of an axis; one without a unit is taken for µm."""
    return value / UNITS_UM.get(unit or "micrometer", 1.0)
