"""A small plate of synthetic organoids as OME-Zarr, for trying a batch on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import LocalStore

from hybridfusion_core.io.result_spec import ResultSpec
from hybridfusion_core.io.zarr.arrays import create_array
from hybridfusion_core.io.zarr.ngff_plates import plate_attributes, well_attributes
from hybridfusion_core.io.zarr.ngff_writing import image_attributes
from hybridfusion_core.scenes.samples.organoid import organoid_stack
from hybridfusion_core.stack import Stack

WELLS = (("B", "2"), ("B", "3"), ("C", "2"), ("C", "3"))
FIELDS = ("0", "1")
_SIZE, _SLICES = 128, 6
_ROWS, _COLUMNS = ("A", "B", "C"), ("1", "2", "3", "4")  # of a plate of twelve


def plate_stacks() -> list[Stack]:
    """Draw every field of the plate, wells in order and the fields of each together.

    Returns:
        C Z Y X each, uint16, with physical scale; every field is drawn from a seed of its own.
    """
    return [organoid_stack(_SIZE, _SLICES, seed=index) for index in range(len(WELLS) * len(FIELDS))]


def write_plate(folder: Path) -> None:
    """Write the plate as OME-Zarr 0.5.

    Args:
        folder: that does not exist yet.
    """
    stacks = plate_stacks()
    windows = _windows([np.asarray(stack.array) for stack in stacks])
    _group(folder, plate_attributes("organoids", _ROWS, _COLUMNS, WELLS, fields=len(FIELDS)))
    for row in dict.fromkeys(row for row, _ in WELLS):
        _group(folder / row, {})
    for index, (row, column) in enumerate(WELLS):
        well = folder / row / column
        _group(well, well_attributes(dict.fromkeys(FIELDS)))
        for at, name in enumerate(FIELDS):
            _write_field(well / name, stacks[index * len(FIELDS) + at], windows)


def _write_field(folder: Path, stack: Stack, windows: Sequence[tuple[float, float]]) -> None:
    _, c, z, y, x = stack.shape
    channels = tuple(replace(channel, window=window) for channel, window in zip(stack.channels, windows, strict=True))
    spec = ResultSpec(stack.name, (1, c, y, x), stack.dtype, channels, z=stack.z, y=stack.y, x=stack.x)
    _group(folder, image_attributes(spec, stack.name, channels, stack.dtype, "0.5"))
    array = create_array(folder, "0", (1, c, z, y, x), stack.dtype, block=_SIZE)
    array[0] = np.asarray(stack.array)


def _group(folder: Path, attributes: dict[str, object]) -> None:
    zarr.create_group(LocalStore(folder), attributes=attributes, zarr_format=3)


def _windows(fields: Sequence[NDArray[np.uint16]]) -> list[tuple[float, float]]:
    """Return display limits of each channel, the same for all fields, so that they can be compared."""
    return [
        (float(min(field[channel].min() for field in fields)), float(max(field[channel].max() for field in fields)))
        for channel in range(len(fields[0]))
    ]
