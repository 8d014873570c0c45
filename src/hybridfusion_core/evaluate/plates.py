"""The fields of a plate to score: against what the microscope projected of them, where it did."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.errors import HybridFusionError, StoredDataError, UserInputError
from hybridfusion_core.evaluate.cases import Case, Group, known_case
from hybridfusion_core.io.open import open_stack
from hybridfusion_core.plates.field_stack import defects_of, find_channels, open_field
from hybridfusion_core.plates.open import open_exported_plate
from hybridfusion_core.plates.plate import Plate, PlateField
from hybridfusion_core.plates.references import vendor_projections

MOST_FIELDS = 24  # of one plate, spread over it


@dataclass(frozen=True)
class _Known:
    """A field, the channels that are scored, by index, and the projections of each; none if there are none of any."""

    field: PlateField
    channels: tuple[int, ...]
    projections: tuple[Path, ...]


def plate_groups(folder: Path) -> tuple[list[Group], list[str]] | None:
    """Sort fields of a plate by whether its microscope wrote projections of them.

    Args:
        folder: of a plate as a microscope exports it, or an OME-Zarr plate.

    Returns:
        The groups, and what is wrong with fields that are left out; None if the folder is no such plate.

    Raises:
        UserInputError: no field of the plate can be scored.
        StoredDataError: the metadata of the plate are damaged.
    """
    plate = open_exported_plate(folder)
    if plate is None:
        return None
    fields = list(plate.fields())
    chosen = (
        fields
        if len(fields) <= MOST_FIELDS
        else [fields[index] for index in np.linspace(0, len(fields) - 1, MOST_FIELDS).round().astype(int)]
    )
    found, broken = [], []
    for field in chosen:
        known = _known(plate, field)
        problems = defects_of(field, known.channels)
        if problems:
            broken.append(f"{field.name}: {problems[0].message}")
        elif known.channels:
            found.append(known)
    if not found:
        raise UserInputError(
            f"No field of the plate {plate.name!r} has two slices or more and all its planes; expected one. Name "
            "another plate.",
            broken,
        )
    titles = {True: "against the microscope's own projections (not truth)", False: "no truth known"}
    groups = []
    for referenced, title in titles.items():
        members = [each for each in found if bool(each.projections) == referenced]
        if members:
            cases = tuple(partial(_case, each) for each in members)
            groups.append(Group(f"{plate.name}, {title}: fields", cases, "reference" if referenced else ""))
    return groups, broken


def _known(plate: Plate, field: PlateField) -> _Known:
    """Score the channels of which there are projections; if there are none, all that have slices."""
    every = find_channels(field, None)
    slices = dict(enumerate(field.frame.slices))
    deep = tuple(each for each in every if slices.get(each, 0) > 1)
    files = vendor_projections(plate, field)
    projected = tuple(each for each in deep if each in files)
    return _Known(field, projected or deep, tuple(files[each] for each in projected))


def _case(known: _Known) -> Case:
    field = known.field
    names = [channel.name for channel in field.imaging.channels]
    # A name that several channels have, or that looks like an index, is none to go by.
    sure = [names[each] if names.count(names[each]) == 1 else str(each) for each in known.channels]
    with open_field(field, channels=sure) as stack:
        truth = None
        if known.projections:
            truth = np.concatenate([_read(path, stack.shape[3:]) for path in known.projections])
        case = known_case(stack, truth=truth, height=None, labels=None, others={})
    return replace(case, name=field.name)


def _read(path: Path, plane: tuple[int, int]) -> NDArray[np.generic]:
    """Read a projection, C Y X with C = 1."""
    try:
        with open_stack(path, axes="YX") as image:
            if image.shape == (1, 1, 1, *plane):
                return image.read(0, 0, [0], slice(0, plane[0]), slice(0, plane[1]))
            found = " × ".join(map(str, image.shape))
    except HybridFusionError as error:
        raise type(error)(f"{path.name}: {error}") from error
    raise StoredDataError(
        f"{path.name} is T C Z Y X = {found}; expected a grey plane of {plane[0]} × {plane[1]} px, as the slices have "
        "it. Move it away to score without it."
    )
