"""Every stack that a fine-tuning may learn from: files, folders of stacks and whole plates, listed and looked at.

Headers are read, no pixels. What must not be split between training and held-out stacks has one group: the fields of
a well, the time points of a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from hybridfusion_core.errors import HybridFusionError, UserInputError, printable
from hybridfusion_core.io.disk.access import existing
from hybridfusion_core.io.open import open_stack
from hybridfusion_core.io.suffixes import NATIVE_SUFFIXES, STACK_FILES, ZARR_SUFFIXES, has_suffix
from hybridfusion_core.io.zarr.image import is_zarr
from hybridfusion_core.plates.field_stack import open_field
from hybridfusion_core.plates.open import open_plate
from hybridfusion_core.plates.plate import PlateField
from hybridfusion_core.stack import Stack
from hybridfusion_core.train.finetune.request import FinetuneRequest
from hybridfusion_core.train.patches import field_groups

_MOST = 300  # fields of one plate or folder; more say little that is new
_ALIKE = 1.05  # pixel sizes within it are the same


@dataclass(frozen=True)
class Source:
    """A stack that can be opened, and what its header says.

    Attributes:
        name: what to call it in messages.
        files: names of the paths that it came from.
        group: what is trained on, or held out, as a whole.
        open: opens it.
        shape: T C Z Y X.
        channels: each group of channels that makes one guide: one channel, or the colours of an image.
        transmitted: of those channels: lit from below; None if the file does not say.
        pixel_um: side of a pixel, or None.
        z_step_um: mean distance between slices, or None.
        na: numerical aperture of the objective, or None.
    """

    name: str
    files: tuple[str, ...]
    group: str
    open: Callable[[], Stack]
    shape: tuple[int, int, int, int, int]
    channels: tuple[tuple[int, ...], ...]
    transmitted: bool | None
    pixel_um: float | None
    z_step_um: float | None
    na: float | None


@dataclass(frozen=True)
class Sources:
    """What was found.

    Attributes:
        stacks: all of the same light.
        transmitted: they are transmitted light.
        warnings: what was left out, and why.
    """

    stacks: tuple[Source, ...]
    transmitted: bool
    warnings: tuple[str, ...]


def find_sources(request: FinetuneRequest) -> Sources:
    """List the stacks of a request and refuse what cannot be learnt from as far as headers tell.

    Raises:
        UserInputError: nothing to learn from, a single stack, one slice each, or mixed pixel sizes.
        StoredDataError: a file that was named is damaged.
    """
    warnings: list[str] = []
    listed = [each for path in request.inputs for each in _listed(Path(path), request, warnings)]
    found = [each for each in (_looked_at(*one, request, warnings) for one in listed) if each is not None]
    deep = [each for each in found if each.shape[2] >= 2]
    _check_depth(found, deep, warnings)
    transmitted = request.preset == "transmitted" or (
        request.preset == "auto" and all(each.transmitted for each in deep)
    )
    chosen = [each for each in deep if each.channels and bool(each.transmitted) <= transmitted]
    if transmitted:
        chosen = [each for each in chosen if each.transmitted is not False]
    _check_light(deep, chosen, transmitted)
    _check_pixels(chosen)
    if len({each.group for each in chosen}) < 2:
        raise UserInputError(
            f"Only {printable(chosen[0].group)!r} is there to learn from; expected two stacks or wells at least, since "
            "one of them is held out to see what changes. Add another stack of the same microscope."
        )
    return Sources(tuple(chosen), transmitted, tuple(warnings))


T = TypeVar("T")


def one_source(path: Path, request: FinetuneRequest) -> Source:
    """Look at a single stack beside those that are trained on.

    Raises:
        UserInputError: it is no stack, or has one slice.
    """
    scale: dict[str, Any] = {"z_step_um": request.z_step_um, "pixel_size_um": request.pixel_size_um}
    found = _looked_at(path.name, str(path), partial(open_stack, path, axes=request.axes, **scale), True, request, [])
    assert found is not None  # noqa: S101 - what is named is opened, or refused
    _check_depth([found], [each for each in (found,) if each.shape[2] > 1], [])
    if not found.channels:
        raise UserInputError(
            f"{found.name} has no channel of this light; expected one. Give --preset, or another stack."
        )
    return found


_Opener = tuple[str, str, Callable[[], Stack], bool]  # name, group, open, was named by the user


def _listed(path: Path, request: FinetuneRequest, warnings: list[str]) -> Iterator[_Opener]:
    """Yield what can be opened behind one path: a stack, each stack of a folder, or each field of a plate."""
    existing(path, "a stack, a folder of stacks, or a plate")
    scale: dict[str, Any] = {"z_step_um": request.z_step_um, "pixel_size_um": request.pixel_size_um}
    if path.is_file() and not has_suffix(path, NATIVE_SUFFIXES):
        yield path.name, str(path), partial(open_stack, path, axes=request.axes, **scale), True
        return
    try:
        # A microscope's own file may hold many positions: each of them is a field.
        plate = open_plate(path, pattern=None if path.is_file() else request.pattern)
    except HybridFusionError:
        if request.pattern is not None or path.is_file():
            raise
        yield from _stacks_of(path, request, scale)
        return
    units = list(plate.fields())
    sound = _evenly([unit for unit in units if not unit.frame.defects], _MOST)
    if len(sound) < len(units):
        defects = [defect.message for unit in units for defect in unit.frame.defects]
        why = f"The first problem: {defects[0]}" if defects else "More would say little that is new."
        warnings.append(f"{printable(path.name)}: {len(sound)} of {len(units)} focal stacks are used. {why}")
    several = len({unit.well for unit in units}) > 1
    for unit in sound:
        group = unit.well if several else unit.field
        yield _name(unit), f"{path}: {group}", partial(_of_plate, unit, **scale), False


def _name(unit: PlateField) -> str:
    """Say which field it is; where a file is a field, by its file."""
    image = unit.frame.image
    if image is None or image.path.endswith(unit.field):
        return unit.name
    return f"{image.path}{f' time {image.t}' if image.t else ''}"


def _stacks_of(path: Path, request: FinetuneRequest, scale: dict[str, Any]) -> Iterator[_Opener]:
    """Yield the stacks in a folder that is no plate; a folder of slices is one stack, as an OME-Zarr image is."""
    inside = [] if is_zarr(path) else sorted(each for each in path.iterdir() if not each.name.startswith("."))
    stacks = [each for each in inside if has_suffix(each, (*STACK_FILES, *ZARR_SUFFIXES))]
    if not any(_is_deep(each, request) for each in stacks):
        yield path.name, str(path), partial(open_stack, path, axes=request.axes, **scale), True
        return
    for each in _evenly(stacks, _MOST):
        yield each.name, str(each), partial(open_stack, each, axes=request.axes, **scale), False


def _is_deep(path: Path, request: FinetuneRequest) -> bool:
    try:
        with open_stack(path, axes=request.axes) as stack:
            return stack.shape[2] > 1
    except HybridFusionError:
        return False


def _of_plate(unit: PlateField, z_step_um: float | None, pixel_size_um: float | None) -> Stack:
    return open_field(unit, z_step_um=z_step_um, pixel_size_um=pixel_size_um)


def _looked_at(
    name: str, group: str, opener: Callable[[], Stack], named: bool, request: FinetuneRequest, warnings: list[str]
) -> Source | None:
    try:
        with opener() as stack:
            positions = stack.z_um
            depth = None if positions is None else abs(float(positions[-1] - positions[0]))
            lit = [channel.transmitted for channel in stack.channels]
            wanted = all(lit) if request.preset == "auto" else request.preset == "transmitted"
            return Source(
                name=printable(name),
                files=tuple(Path(each).name for each in stack.source),
                group=group,
                open=opener,
                shape=stack.shape,
                channels=tuple(_channels(stack, wanted)),
                transmitted=True if all(lit) else (False if any(each is False for each in lit) else None),
                pixel_um=stack.x.step_um,
                z_step_um=depth / (stack.shape[2] - 1) if depth and stack.shape[2] > 1 else None,
                na=stack.na,
            )
    except HybridFusionError as error:
        if named:
            raise
        warnings.append(f"{printable(name)} is left out: {error}")
        return None


def _channels(stack: Stack, transmitted: bool) -> list[tuple[int, ...]]:
    if not transmitted:
        return field_groups(stack)
    if stack.rgb:
        return [(0, 1, 2)]
    return [(index,) for index, channel in enumerate(stack.channels) if channel.transmitted is not False]


def _evenly(items: Sequence[T], most: int) -> list[T]:
    return list(items) if len(items) <= most else [items[index * len(items) // most] for index in range(most)]


def _check_depth(found: Sequence[Source], deep: Sequence[Source], warnings: list[str]) -> None:
    if not found:
        raise UserInputError(
            "No stack could be opened; expected z-stacks. Look at one with `hybridfusion info`"
            f"{': ' + warnings[0] if warnings else '.'}"
        )
    if not deep:
        first = found[0]
        sizes = ", ".join(f"{letter} {length}" for letter, length in zip("TCZYX", first.shape, strict=True))
        raise UserInputError(
            f"{first.name} has one slice, as all {len(found)} have ({sizes}); expected two slices or more. If an axis "
            "was misread, say what the axes are with --axes, such as ZCYX."
        )
    if len(deep) < len(found):
        warnings.append(f"{len(found) - len(deep)} of {len(found)} stacks have one slice and are left out.")


def _check_light(deep: Sequence[Source], chosen: Sequence[Source], transmitted: bool) -> None:
    if chosen:
        return
    found, expected, other = (
        ("fluorescence", "transmitted light", "organoid")
        if transmitted
        else ("transmitted light", "fluorescence or photographs", "transmitted")
    )
    raise UserInputError(
        f"{deep[0].name} is {found}, as all stacks are; expected {expected} for this preset. Give --preset {other}."
    )


def _check_pixels(stacks: Sequence[Source]) -> None:
    known = sorted((each for each in stacks if each.pixel_um), key=lambda each: each.pixel_um or 0)
    if known and (known[-1].pixel_um or 0) > _ALIKE * (known[0].pixel_um or 0):
        raise UserInputError(
            f"Pixel sizes are mixed: {known[0].name} has {known[0].pixel_um:g} µm and {known[-1].name} "
            f"{known[-1].pixel_um:g} µm; expected stacks of one magnification. Fine-tune a model for each, or correct "
            "the files with --pixel-size if they are wrong."
        )
