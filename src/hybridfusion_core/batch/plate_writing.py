"""The plate that a batch writes: pixels are moved to their place unit by unit, metadata follow once a field is whole.

Every unit is built and verified as an image of its own. Its shards hold one time point each, so that they are whole
folders, `LEVEL/c/T`, which are renamed into the image of the field: no shard ever has two writers.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from hybridfusion_core.batch.places import FieldKey, Places, field_key, safe_name
from hybridfusion_core.batch.records import write_whole
from hybridfusion_core.plates import Plate
from hybridfusion_core.plates.well_names import row_letters
from hybridfusion_core.stack import UNITS_UM
from hybridfusion_core.store.ngff_plates import plate_attributes, well_attributes
from hybridfusion_core.store.suffixes import result_paths

_GROUPS = (".", "labels", "labels/decision")  # of an image; the maps have the first one only


def place_unit(staged: Path, places: Places, key: FieldKey, index: int, times: int) -> dict[str, Any]:
    """Move a unit's result into the plate; may be repeated after it was interrupted at any moment.

    Args:
        staged: the result, an OME-Zarr image of one time point.
        places: of the batch.
        key: of the field.
        index: of the time point in the field's image.
        times: how many the field's image has.

    Returns:
        "attributes" of the groups, by store ("fused", "maps") and path, and "pixels", the folders that hold the
        pixels, relative to where the plate stands. Plain JSON values.
    """
    attributes: dict[str, dict[str, Any]] = {}
    pixels: list[str] = []
    for store, source in result_paths(staged).items():
        if not source.is_dir():
            continue
        attributes[store] = {}
        target = _store(places, store).joinpath(*key)
        for described in sorted(source.rglob("zarr.json")):
            inside = described.parent.relative_to(source)
            stored = json.loads(described.read_bytes())
            if stored["node_type"] == "group":
                attributes[store][inside.as_posix()] = stored["attributes"]
                continue
            stored["shape"][0] = times
            write_whole(target / inside / "zarr.json", _json(stored))
            chunks = target / inside / "c" / str(index)
            _replace(described.parent / "c" / "0", chunks)
            pixels.append(chunks.relative_to(places.output.parent).as_posix())
    for source in result_paths(staged).values():
        shutil.rmtree(source, ignore_errors=True)
    return {"attributes": attributes, "pixels": pixels}


def _replace(source: Path, target: Path) -> None:
    if target.exists():
        shutil.rmtree(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)


class Publisher:
    """Writes the metadata of the plate and of its maps; only fields that are finished are listed.

    Args:
        plate: that is fused.
        places: of the batch.
    """

    def __init__(self, plate: Plate, places: Places) -> None:
        self._plate, self._places = plate, places
        self._positions = {
            field_key(well.row, well.column, field.name): _corner(plate, field.position_um)
            for well in plate.wells
            for field in well.fields
        }
        self._finished: dict[FieldKey, frozenset[str]] = {}

    def add(self, key: FieldKey, records: Sequence[Mapping[str, Any]]) -> None:
        """Describe a field.

        Args:
            key: of the field.
            records: of its units, in order of time, all of them finished.
        """
        described = {
            store: {path: merged([each["attributes"][store][path] for each in records]) for path in groups}
            for store, groups in records[0]["attributes"].items()
        }
        for store, groups in described.items():
            folder = _store(self._places, store).joinpath(*key)
            for path in (each for each in _GROUPS if each in groups):
                _write_group(folder / path, _moved(groups[path], self._positions[key]))
        self._finished[key] = frozenset(described)

    def publish(self) -> None:
        """List all fields that were added, and no others; the plate itself comes last."""
        for store in ("maps", "fused"):
            root = _store(self._places, store)
            listed = {key for key, stores in self._finished.items() if store in stores}
            if not listed:
                (root / "zarr.json").unlink(missing_ok=True)
                continue
            self._publish(root, listed)

    def _publish(self, root: Path, listed: set[FieldKey]) -> None:
        plate, wells = self._plate, []
        most = 0
        for well in plate.wells:
            keys = {field_key(well.row, well.column, field.name): field.acquisition for field in well.fields}
            fields = {key.field: acquisition for key, acquisition in keys.items() if key in listed}
            if fields:
                first = next(iter(keys))
                wells.append((first.row, first.column))
                most = max(most, len(fields))
                _write_group(root / first.row / first.column, well_attributes(fields))
                _write_group(root / first.row, {})
        acquisitions = {each.id: each.name for each in plate.acquisitions}
        _write_group(
            root,
            plate_attributes(plate.name, *_axes(plate), wells, fields=most, acquisitions=acquisitions),
        )


def _store(places: Places, store: str) -> Path:
    return places.output if store == "fused" else places.maps


def _axes(plate: Plate) -> tuple[list[str], list[str]]:
    """Return the names of all rows and columns; those of wells with images as they are written."""
    padded = any(len(well.column) > 1 and well.column.startswith("0") for well in plate.wells)
    rows = {index: row_letters(index) for index in range(plate.rows)}
    columns = {index: f"{index + 1:02d}" if padded else str(index + 1) for index in range(plate.columns)}
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
    # Strangers may give one row two names, or one name to two rows: each name is listed once.
    in_order = chain.from_iterable(
        names.get(index) or [name for name in (usual.get(index, ""),) if name not in used]
        for index in sorted({*usual, *names})
    )
    return list(dict.fromkeys(in_order))


def _corner(plate: Plate, position_um: tuple[float, float] | None) -> tuple[float, float] | None:
    """Return where the first pixel lies on the stage, y and x in µm; OME-Zarr already says so, others their centres."""
    imaging = plate.imaging
    steps = imaging.y.step_um, imaging.x.step_um
    if position_um is None or plate.layout == "ome-zarr":
        return position_um
    if imaging.plane is None or steps[0] is None or steps[1] is None:
        return None
    y, x = (
        at - step * (length - 1) / 2 for at, step, length in zip(position_um, steps, imaging.plane, strict=True) if step
    )
    return y, x


def merged(attributes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Describe the time points of a field together: display limits that show all, and where each came from."""
    found: dict[str, Any] = copy.deepcopy(dict(attributes[0]))
    for other in attributes[1:]:
        channels = found["ome"].get("omero", {}).get("channels", ())
        others = other["ome"].get("omero", {}).get("channels", ())
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


def _moved(attributes: dict[str, Any], position_um: tuple[float, float] | None) -> dict[str, Any]:
    """Add the position on the stage to every level of an image."""
    moved = copy.deepcopy(attributes)
    if position_um is None:
        return moved
    for image in moved["ome"].get("multiscales", ()):
        units = {axis["name"]: axis.get("unit") for axis in image["axes"]}
        for dataset in image["datasets"]:
            first, *rest = dataset["coordinateTransformations"]
            offset = rest[0]["translation"] if rest else [0.0] * len(image["axes"])
            for number, (name, at) in enumerate(zip("yx", position_um, strict=True), len(offset) - 2):
                offset[number] += _from_um(at, units[name])
            dataset["coordinateTransformations"] = [first, {"type": "translation", "translation": offset}]
    return moved


def _from_um(value: float, unit: str | None) -> float:
    """Return a length in the unit of an axis; one without a unit is taken for µm."""
    return value / UNITS_UM.get(unit or "micrometer", 1.0)


def _write_group(folder: Path, attributes: Mapping[str, Any]) -> None:
    content = _json({"attributes": dict(attributes), "zarr_format": 3, "node_type": "group"})
    path = folder / "zarr.json"
    if not path.is_file() or path.read_bytes() != content:
        write_whole(path, content)


def _json(content: Any) -> bytes:
    return json.dumps(content, indent=2).encode()
