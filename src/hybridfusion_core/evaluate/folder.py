"""Find the stacks of a folder and what is known about each.

FOLDER/NAME.ome.tif, NAME.ome.zarr, NAME.nd2 and other microscopes' files (NAME_0, NAME_1, … if it holds several
images), NAME/ (a folder of slices), or a pair NAME_A.png and NAME_B.png
FOLDER/truth/NAME.tif       the true all-in-focus image (or .png, .jpg)
FOLDER/reference/NAME.tif   another program's image, where no truth is known
FOLDER/height/NAME.tif      true height in slices, float32; NaN where there is no surface
FOLDER/labels/NAME.tif      bodies, 0 for background, whose mean intensity is compared
RESULTS/METHOD/NAME.png     other programs' results (or .tif, .jpg)
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from natsort import natsorted
from numpy.typing import NDArray

from hybridfusion_core.errors import HybridFusionError, UserInputError
from hybridfusion_core.evaluate.cases import Case, Group, known_case, scored_planes
from hybridfusion_core.io.disk.access import existing
from hybridfusion_core.io.native.open import native_scenes
from hybridfusion_core.io.open import open_stack
from hybridfusion_core.io.suffixes import (
    NATIVE_SUFFIXES,
    PICTURE_SUFFIXES,
    STACK_FILES,
    TIFF_SUFFIXES,
    belongs_to_file,
    has_suffix,
    image_name,
)
from hybridfusion_core.stack import Stack

_BESIDE = ("truth", "reference", "height", "labels")
_PICTURES = (*PICTURE_SUFFIXES, *TIFF_SUFFIXES)
_LARGEST = 2**31  # bytes of one stack: all its slices and a dozen fusions of it are in memory together
_PAIRED = ("_A", "_B")
_Where = tuple[tuple[Path, ...], int | None]  # paths, and index of the image in a file with several


@dataclass(frozen=True)
class Found:
    """One stack on disk.

    Attributes:
        name: by which truth, height and results are found.
        paths: one, or the two pictures of a pair.
        series: index of the image in a file that holds several.
        truth: path of the truth, or of the reference.
        is_reference: `truth` is another program's work.
        height: path of the true height.
        labels: path of the bodies.
        others: paths of other programs' results, by method.
    """

    name: str
    paths: tuple[Path, ...]
    series: int | None
    truth: Path | None
    is_reference: bool
    height: Path | None
    labels: Path | None
    others: dict[str, Path]

    @property
    def kind(self) -> str:
        """What the figures are measured against; empty if there is nothing."""
        if self.truth is None:
            return ""
        return "reference" if self.is_reference else "truth"


def folder_groups(folder: Path, results: Path | None) -> tuple[list[Group], list[str]]:
    """Sort a folder's stacks by what is known about them and by whether they are pairs.

    Args:
        folder: holds stacks.
        results: holds one folder per method, or None.

    Returns:
        The groups, and what is wrong with stacks that cannot be opened.

    Raises:
        UserInputError: no such folder, nothing in it to score, or results that belong to no stack.
    """
    stacks = _stacks(folder, results)
    methods = _methods(results)
    found = [_describe(folder, name, *where, methods) for name, where in stacks.items()]
    for method, place in methods.items():
        if not any(method in each.others for each in found):
            raise UserInputError(
                f"{place} holds no result of any stack in {folder}; expected files named like the stacks, such as "
                f"{found[0].name}.png. Rename them."
            )
    sound, broken = _sound(found)
    if not sound:
        raise UserInputError(
            f"No stack in {folder} can be opened; expected focal stacks. Repair or replace them:", broken
        )
    titles = {
        "truth": f"{folder.name}, against the truth",
        "reference": f"{folder.name}, against a program's reference (not truth)",
        "": f"{folder.name}, no truth known",
    }
    groups = []
    for kind, title in titles.items():
        for pairs in (True, False):
            members = [each for each, slices in sound if each.kind == kind and (slices == 2) == pairs]
            if members:
                name = f"{title}: {'pairs' if pairs else 'stacks'}"
                groups.append(Group(name, tuple(partial(_case, each) for each in members), kind))
    return groups, broken


def has_known(folder: Path) -> bool:
    """Say whether something is known of the stacks of a folder, laid out as this module says."""
    return any((folder / each).is_dir() for each in _BESIDE)


def _stacks(folder: Path, results: Path | None) -> dict[str, _Where]:
    """Where every stack is, by its name, in natural order."""
    if not existing(folder, "a folder that holds focal stacks").is_dir():
        raise UserInputError(f"{folder} is no folder; expected one that holds focal stacks. Check the path.")
    apart = {folder / each for each in _BESIDE} | ({results} if results is not None else set())
    entries = natsorted(
        (each for each in folder.iterdir() if not each.name.startswith(".")), key=lambda each: each.name
    )
    entries = [each for each in entries if not any(_is_same_folder(each, other) for other in apart)]
    pictures = {image_name(each): each for each in entries if each.is_file() and has_suffix(each, _PICTURES)}
    found: dict[str, _Where] = {}
    here: dict[str, _Where]
    for entry in entries:
        name = image_name(entry)
        base, end = name[:-2], name[-2:]
        if end in _PAIRED and base and all(base + each in pictures for each in _PAIRED):
            here = {base: ((pictures[base + "_A"], pictures[base + "_B"]), None)}
        elif (entry.is_dir() and not belongs_to_file(entry.name)) or has_suffix(entry, STACK_FILES):
            here = _images_in(entry)
        else:
            continue
        for name, where in here.items():
            if found.setdefault(name, where) != where:
                raise UserInputError(
                    f"{folder} holds {found[name][0][0].name} and {where[0][0].name}; expected a name of its own for "
                    "each stack, by which its truth is found. Rename one of them."
                )
    if not found:
        raise UserInputError(
            f"{folder} holds no focal stack; expected OME-TIFF or OME-Zarr stacks, folders of slices, or pairs "
            "NAME_A.png and NAME_B.png. Name the folder that holds them."
        )
    return found


def _images_in(entry: Path) -> dict[str, _Where]:
    """Return the stacks in a file or folder by name: one, or each image of a microscope's file."""
    name = image_name(entry)
    count = 1
    if has_suffix(entry, NATIVE_SUFFIXES):
        with suppress(HybridFusionError):  # it is told when it is opened
            count = len(native_scenes(entry))
    return {name: ((entry,), None)} if count == 1 else {f"{name}_{index}": ((entry,), index) for index in range(count)}


def _is_same_folder(one: Path, other: Path) -> bool:
    return one.is_dir() and other.is_dir() and one.samefile(other)


def _methods(results: Path | None) -> dict[str, Path]:
    if results is None:
        return {}
    if not results.is_dir():
        raise UserInputError(f"{results} is no folder; expected RESULTS/METHOD/NAME.png. Check the path.")
    folders = natsorted((each for each in results.iterdir() if each.is_dir()), key=lambda each: each.name)
    if not folders:
        raise UserInputError(
            f"{results} holds no folder; expected one per method, RESULTS/METHOD/NAME.png. Move the results there."
        )
    return {f"results: {each.name}": each for each in folders if not each.name.startswith(".")}


def _describe(folder: Path, name: str, paths: tuple[Path, ...], series: int | None, methods: dict[str, Path]) -> Found:
    truth, reference = _beside(folder / "truth", name), _beside(folder / "reference", name)
    others = {method: path for method, place in methods.items() if (path := _beside(place, name)) is not None}
    return Found(
        name,
        paths,
        series,
        truth or reference,
        truth is None,
        _beside(folder / "height", name),
        _beside(folder / "labels", name),
        others,
    )


def _beside(folder: Path, name: str) -> Path | None:
    return next((path for suffix in _PICTURES if (path := folder / f"{name}{suffix}").is_file()), None)


def _sound(found: Sequence[Found]) -> tuple[list[tuple[Found, int]], list[str]]:
    """Open every stack once, without its pixels: the sound ones with their Z, and what is wrong with the others."""
    sound, broken = [], []
    for each in found:
        try:
            with _open(each) as stack:
                sound.append((each, stack.shape[2]))
        except HybridFusionError as error:
            broken.append(f"{each.name}: {error}")
    return sound, broken


def _open(found: Found) -> Stack:
    stack = open_stack(found.paths if len(found.paths) > 1 else found.paths[0], series=found.series)
    _, channels, slices, rows, columns = stack.shape
    size = channels * slices * rows * columns * stack.dtype.itemsize
    if slices >= 2 and size <= _LARGEST:
        return stack
    stack.close()
    if slices < 2:
        raise UserInputError(
            f"{found.paths[0].name} has one slice; expected a stack of two or more. Move it out of the folder, or into "
            "truth/ or reference/ if that is what it is."
        )
    raise UserInputError(
        f"{found.paths[0].name} holds {size / 2**30:.1f} GiB; expected at most {_LARGEST / 2**30:.0f} GiB, because it "
        "is fused in many ways in memory. Cut a region out of it."
    )


def _case(found: Found) -> Case:
    """Read one stack with everything that is known about it; errors name the stack."""
    try:
        with _open(found) as stack:
            plane = stack.shape[3:]
            scored = 1 if stack.rgb else stack.shape[1]
            truth = _read(found.truth, plane, scored)
            height = _read(found.height, plane, 1)
            labels = _read(found.labels, plane, 1)
            others = {method: _read(path, plane, scored) for method, path in found.others.items()}
            case = known_case(
                stack,
                truth=truth,
                height=None if height is None else height[0],
                labels=None if labels is None else labels[0],
                others={method: image for method, image in others.items() if image is not None},
            )
    except HybridFusionError as error:
        raise type(error)(f"{found.name}: {error}") from error
    return replace(case, name=found.name)


def _read(path: Path | None, plane: Sequence[int], channels: int) -> NDArray[Any] | None:
    """Read an image as it is scored, C Y X.

    Raises:
        UserInputError: it is no plane of that size.
    """
    if path is None:
        return None
    with open_stack(path) as image:
        t, count, slices, rows, columns = image.shape
        if (t, slices, rows, columns) == (1, 1, *plane):
            whole = slice(0, rows), slice(0, columns)
            planes = np.concatenate([image.read(0, channel, [0], *whole) for channel in range(count)])  # C Y X
            planes = scored_planes(planes, image.rgb)
            if len(planes) == channels:
                return planes
    raise UserInputError(
        f"{path.parent.name}/{path.name} is T C Z Y X = {image.shape}; expected one plane of {plane[0]} × {plane[1]} "
        f"px with {channels} channel(s), or in colour for a colour stack. Give the image in the stack's own size."
    )
