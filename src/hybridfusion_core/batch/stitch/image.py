"""Write a mosaic as OME-Zarr images of the plate and of its maps, beside the fields: whole or not at all."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import LocalStore

from hybridfusion_core.batch.output.plate import merged
from hybridfusion_core.batch.output.staging import replaced
from hybridfusion_core.batch.output.zarr_metadata import write_group
from hybridfusion_core.batch.records.paths import BatchPaths, FieldKey
from hybridfusion_core.batch.stitch.blend import Kind, blended
from hybridfusion_core.batch.stitch.mosaic import Mosaic
from hybridfusion_core.batch.stitch.placement import Placement, by_overlaps, by_stage
from hybridfusion_core.errors import StoredDataError
from hybridfusion_core.io.pyramid import build, level_factors
from hybridfusion_core.io.zarr.arrays import RecordedArray, ZarrFormat, create_array, open_array
from hybridfusion_core.io.zarr.ngff_writing import Ngff

BLOCK = 1024  # px, of what is blended at a time
_SPARSEST = 100  # times the area of all fields: beyond, positions are wrong or fields no neighbours
_KINDS: dict[str, Kind] = {".": "mean", "labels/decision": "nearest"}


@dataclass(frozen=True)
class _Fields:
    """The images of all fields, as one store has them under one path."""

    arrays: tuple[zarr.Array[Any], ...]
    attributes: tuple[dict[str, Any], ...]

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        return tuple((array.shape[3], array.shape[4]) for array in self.arrays)


def write_mosaic(mosaic: Mosaic, paths: BatchPaths, ngff: Ngff) -> Generator[None, None, dict[str, Any]]:
    """Stitch the fields of a mosaic, yielding after each block.

    Args:
        mosaic: what to stitch, of one field at least.
        paths: of the batch.
        ngff: version of OME-Zarr.

    Returns:
        (on exhaustion) where its fields lie and how they were placed, plain JSON values.

    Raises:
        StoredDataError: fields lie too far apart, or differ from each other.
    """
    fused = _fields(mosaic, paths.output, ".", ngff)
    placement = _placed(mosaic, fused)
    about = _about(mosaic, placement)
    staged = paths.staging / "-".join(mosaic.key)
    shutil.rmtree(staged, ignore_errors=True)
    targets = {}
    for store, path in (("fused", "."), ("fused", "labels/decision"), ("maps", ".")):
        root = paths.store(store)
        if not root.joinpath(*mosaic.fields[0].key, path, "0").is_dir():
            continue
        fields = fused if (store, path) == ("fused", ".") else _fields(mosaic, root, path, ngff)
        folder = staged / store / path
        yield from _write(folder, fields, mosaic, placement, _KINDS[path], ngff)
        write_group(folder, _described(fields, placement, mosaic, about), ngff)
        targets[store] = root.joinpath(*mosaic.key)
    if (staged / "fused" / "labels").is_dir():
        labels = paths.output.joinpath(*mosaic.fields[0].key, "labels")
        write_group(staged / "fused" / "labels", _attributes(labels, ngff), ngff)
    for store in reversed(targets):  # the main one last
        replaced(staged / store, targets[store])
    shutil.rmtree(staged, ignore_errors=True)
    return about


def _fields(mosaic: Mosaic, root: Path, path: str, ngff: Ngff) -> _Fields:
    folders = [root.joinpath(*placed.key, path) for placed in mosaic.fields]
    arrays = tuple(open_array(folder, "0") for folder in folders)
    first = arrays[0]
    if any((each.shape[:3], each.dtype) != (first.shape[:3], first.dtype) for each in arrays):
        raise StoredDataError(
            f"The fields of {mosaic.well} differ in time points, channels or pixel type; expected the same in all of "
            "them to stitch them. Leave the others out with --fields, or fuse without --stitch."
        )
    return _Fields(arrays, tuple(_attributes(folder, ngff) for folder in folders))


def _attributes(folder: Path, ngff: Ngff) -> dict[str, Any]:
    if ngff == "0.4":
        return dict(json.loads((folder / ".zattrs").read_bytes()))
    return dict(json.loads((folder / "zarr.json").read_bytes())["attributes"])


def _placed(mosaic: Mosaic, fields: _Fields) -> Placement:
    corners = np.array([[placed.y, placed.x] for placed in mosaic.fields])
    if mosaic.how == "register":
        t = _first_time(mosaic, fields.arrays[0].shape[0])

        def read(number: int, region: tuple[slice, slice]) -> NDArray[Any]:
            pixels = np.asarray(fields.arrays[number][t, :, 0, *region], dtype=np.float32)
            spread = pixels.std(axis=(1, 2), keepdims=True)
            return np.asarray(np.divide(pixels, spread, out=np.zeros_like(pixels), where=spread > 0).mean(axis=0))

        found = by_overlaps(corners, fields.sizes, read)
    else:
        found = by_stage(corners, fields.sizes)
    area = sum(y * x for y, x in fields.sizes)
    if found.shape[0] * found.shape[1] > _SPARSEST * area:
        raise StoredDataError(
            f"The {len(mosaic.fields)} fields of {mosaic.well} lie {found.shape[0]} × {found.shape[1]} pixels apart; "
            "expected neighbours. Check their positions on the stage and the size of a pixel."
        )
    return found


def _first_time(mosaic: Mosaic, times: int) -> int:
    """Return the time point that most fields have: they are compared there, since the stage comes back every time."""
    return max(range(times), key=lambda t: (sum(t not in placed.missing for placed in mosaic.fields), -t))


def _write(
    folder: Path, fields: _Fields, mosaic: Mosaic, placement: Placement, kind: Kind, ngff: Ngff
) -> Iterator[None]:
    first = fields.arrays[0]
    t, c, z = first.shape[:3]
    shape = (t, c, z, *placement.shape)
    fill = np.nan if first.dtype.kind == "f" and np.isnan(first.fill_value) else 0
    version: ZarrFormat = 2 if ngff == "0.4" else 3
    zarr.create_group(LocalStore(folder), zarr_format=version)
    array = create_array(folder, "0", shape, first.dtype, block=BLOCK, fill=fill, zarr_format=version)
    target = RecordedArray(folder, "0", array)
    rows, columns = (array.shards or array.chunks)[3:]
    for at_t, at_c in itertools.product(range(t), range(c)):
        there = [
            (number, (int(corner[0]), int(corner[1])), size)
            for number, (corner, size) in enumerate(zip(placement.corners, fields.sizes, strict=True))
            if at_t not in mosaic.fields[number].missing
        ]

        def read(number: int, y: slice, x: slice, place: tuple[int, int] = (at_t, at_c)) -> NDArray[Any]:
            return np.asarray(fields.arrays[number][*place, 0, y, x])

        for top, left in itertools.product(range(0, shape[3], rows), range(0, shape[4], columns)):
            bottom, right = min(top + rows, shape[3]), min(left + columns, shape[4])
            block = blended(top, left, (bottom - top, right - left), first.dtype, there, read, kind, fill)
            target[at_t, at_c, 0, top:bottom, left:right] = block
            yield
    target.verify()
    build(folder, method="nearest" if kind == "nearest" else "mean", block=BLOCK)


def _about(mosaic: Mosaic, placement: Placement) -> dict[str, Any]:
    """Return what is known of a mosaic, plain JSON values."""
    return {
        "how": mosaic.how,
        "shape": list(placement.shape),
        "overlaps": placement.overlaps,
        "registered": placement.registered,
        "lacking": list(mosaic.lacking),
        "fields": [
            {"field": placed.name, "y": int(corner[0]), "x": int(corner[1]), "moved": moved}
            for placed, corner, moved in zip(mosaic.fields, placement.corners, placement.moved, strict=True)
        ],
    }


def _described(fields: _Fields, placement: Placement, mosaic: Mosaic, about: dict[str, Any]) -> dict[str, Any]:
    """Describe a mosaic as its fields are described: its own size and place, limits that show all of them."""
    attributes = merged(fields.attributes)
    image = attributes.get("ome", attributes)["multiscales"][0]
    scale, *rest = image["datasets"][0]["coordinateTransformations"]
    steps = scale["scale"]
    offset = rest[0]["translation"] if rest else [0.0] * len(steps)
    corner = [offset[axis - 2] - placement.corners[0][axis] * steps[axis - 2] for axis in (0, 1)]
    image["name"] = f"{mosaic.well} maps" if image["name"].endswith(" maps") else mosaic.well
    image["datasets"] = [
        {
            "path": str(level),
            "coordinateTransformations": [
                {"type": "scale", "scale": [*steps[:-2], steps[-2] * down, steps[-1] * across]},
                {
                    "type": "translation",
                    "translation": [
                        *offset[:-2],
                        corner[0] + (down - 1) / 2 * steps[-2],
                        corner[1] + (across - 1) / 2 * steps[-1],
                    ],
                },
            ],
        }
        for level, (down, across) in enumerate(level_factors(*placement.shape))
    ]
    kept = {name: value for name, value in attributes.get("hybridfusion", {}).items() if name != "missing_times"}
    attributes["hybridfusion"] = {**kept, "stitch": about}
    return attributes


def mosaic_folders(paths: BatchPaths, key: FieldKey) -> Sequence[Path]:
    """Return where the images of a mosaic stand, as far as they are there."""
    return [
        folder
        for folder in dict.fromkeys(each.joinpath(*key) for each in (paths.output, paths.maps))
        if folder.is_dir()
    ]
