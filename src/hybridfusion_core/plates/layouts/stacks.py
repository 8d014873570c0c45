"""A microscope's own file, whose images are fields, and folders of stacks: each file or subfolder of slices is a field.

A field is called after its file or subfolder, and after its image where a file holds several. Wells are what the
metadata state, else what names tell without leaving a choice; there need be none.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import tifffile
from natsort import natsorted

from hybridfusion_core.errors import HybridFusionError, UserInputError
from hybridfusion_core.io.description import Description
from hybridfusion_core.io.disk.access import guarded
from hybridfusion_core.io.native.open import native_scenes
from hybridfusion_core.io.native.scene import Scene
from hybridfusion_core.io.open import open_stack
from hybridfusion_core.io.suffixes import NATIVE_SUFFIXES, TIFF_SUFFIXES, ZARR_SUFFIXES, has_suffix, image_name
from hybridfusion_core.io.tiff.full_series import full_series
from hybridfusion_core.io.zarr.chunk_files import Absent
from hybridfusion_core.plates.layouts.name_parts import Place, places_of
from hybridfusion_core.plates.layouts.whole_images import FieldImage, plate_of
from hybridfusion_core.plates.listing import Listing
from hybridfusion_core.plates.plate import Plate
from hybridfusion_core.plates.well_names import well_index
from hybridfusion_core.stack import Stack

_POSITION = re.compile(r"P\d+")  # how ZEN calls positions; a plate of 384 wells has a row P, too
_CHOICE = (
    "Say which part is the well with --pattern: write the name of a file, such as '{example}', with {{well}} in place "
    "of the well, {{field}} in place of the field, and * for what does not matter."
)


def read_stack_file(path: Path) -> Plate:
    """Describe a microscope's file: each of its images is a field.

    Raises:
        UserInputError: its library is not installed.
        StoredDataError: the file is damaged.
    """
    listing = Listing(path.parent, frozenset({path.name}), frozenset(), (), {})
    scenes = native_scenes(path)
    found = [_of_scene(path.name, index, scene, scenes) for index, scene in enumerate(scenes)]
    placed, warnings = _with_places(found)
    return replace(plate_of(listing, placed, "stacks", warnings), name=image_name(path), file=path.name)


def read_stacks(listing: Listing, axes: str | None = None, absent: Absent = "refuse") -> Plate | None:
    """Describe a folder of stacks; every file costs the reading of its header.

    Args:
        listing: of the folder.
        axes: what the axes of files are that do not say it.
        absent: what to do about slices of which an OME-Zarr has no chunk.

    Returns:
        The plate, or None if there is no stack in it.
    """
    folders: dict[str, list[str]] = defaultdict(list)
    for path in (*listing.images, *listing.refused):
        folders[str(PurePosixPath(path).parent)].append(path)
    found: list[FieldImage] = []
    left_out: list[str] = []
    for folder in natsorted(folders):
        images, rest = _of_folder(listing, folder, natsorted(folders[folder]), axes)
        found += images
        left_out += rest
    found += [_opened(listing, path, None, absent) for path in _stores(listing.root)]
    if all(one.problem for one in found):
        _refuse_unopened(listing, found)
        return None
    placed, warnings = _with_places(natsorted(found, key=lambda one: (one.path, one.series or 0)))
    return plate_of(listing, placed, "stacks", (*_not_stacks(left_out), *warnings))


def _refuse_unopened(listing: Listing, found: Sequence[FieldImage]) -> None:
    """Say why no stack could be opened, where the user can do something about it."""
    why = [one.problem for one in found if has_suffix(Path(one.path), NATIVE_SUFFIXES) or "--axes" in one.problem]
    if why:
        raise UserInputError(
            f"None of {len(found)} stacks in {listing.root.name} can be opened; expected one at least. The first:",
            why[:1],
        )


def _of_folder(
    listing: Listing, folder: str, paths: Sequence[str], axes: str | None
) -> tuple[list[FieldImage], list[str]]:
    """Return the fields of one folder, and the images in it that belong to none."""
    stacks = [path for path in paths if path in listing.refused or _is_stack(listing.root / path)]
    if stacks:
        chosen = set(stacks)
        return [one for path in stacks for one in _of_file(listing, path, axes)], [p for p in paths if p not in chosen]
    if folder == ".":  # slices of one stack, or pictures of anything: no field has a name
        return [], list(paths)
    return [_opened(listing, folder, None)], []


def _is_stack(path: Path) -> bool:
    """Say whether a file may hold more than one plane; what cannot be read is said to, so that it is told."""
    if has_suffix(path, NATIVE_SUFFIXES):
        return True
    if not has_suffix(path, TIFF_SUFFIXES):
        return False
    try:
        with guarded(f"{path.name}: its header cannot be read", "an intact TIFF."), tifffile.TiffFile(path) as file:
            return len(file.pages) > 1 or int(full_series(file)[0].size) > int(file.pages.first.size)
    except HybridFusionError:
        return True


def _stores(root: Path) -> Iterator[str]:
    """Yield OME-Zarr images in a folder and in the folders in it."""
    for pattern in ("*", "*/*"):
        for path in natsorted(root.glob(pattern), key=str):
            if has_suffix(path, ZARR_SUFFIXES) and path.is_dir() and not path.is_symlink():
                yield path.relative_to(root).as_posix()


def _of_file(listing: Listing, path: str, axes: str | None) -> Iterator[FieldImage]:
    if path in listing.refused:
        reason = f"{path!r} {listing.refused[path]}; expected a file inside the folder. Copy it there."
        yield FieldImage(path, None, Description(), problem=reason)
    elif has_suffix(Path(path), NATIVE_SUFFIXES):
        try:
            scenes = native_scenes(listing.root / path)
        except HybridFusionError as error:
            yield FieldImage(path, None, Description(), problem=str(error))
            return
        yield from (_of_scene(path, index, scene, scenes) for index, scene in enumerate(scenes))
    else:
        yield _opened(listing, path, axes)


def _of_scene(path: str, index: int, scene: Scene, scenes: Sequence[Scene]) -> FieldImage:
    about = replace(scene.about, sizes=tuple(zip("TCZYX", scene.shape, strict=True)))
    return FieldImage(
        path,
        index if len(scenes) > 1 else None,
        about,
        at=None if scene.well is None else well_index(scene.well),
        position_um=scene.position_um,
        problem=scene.problem and f"{path}, {scene.about.name or index!r}: {scene.problem}.",
        dtype=scene.dtype,
    )


def _opened(listing: Listing, path: str, axes: str | None, absent: Absent = "refuse") -> FieldImage:
    try:
        with open_stack(listing.root / path, axes=axes, absent=absent) as stack:
            return FieldImage(path, None, _about(stack), dtype=stack.dtype.name, axes=axes)
    except HybridFusionError as error:
        return FieldImage(path, None, Description(), problem=str(error))


def _about(stack: Stack) -> Description:
    sizes = tuple(zip("TCZYX", stack.shape, strict=True))
    return Description(stack.name, stack.t, stack.z, stack.y, stack.x, stack.channels, sizes=sizes)


def _with_places(found: Sequence[FieldImage]) -> tuple[list[FieldImage], tuple[str, ...]]:
    """Give every image a well and a field: as metadata say, as names tell, or all of them fields of one well."""
    sound = [one for one in found if not one.problem]
    if sound and all(one.at is not None for one in sound):
        return _named(found), ()
    warnings: tuple[str, ...] = ("No file says which well it shows; all are fields of one well, A01.",)
    for placed, names in (
        (_by_image, [one.about.name for one in found]),
        (_by_file, [_bare(one.path) for one in found]),
    ):
        try:
            told = places_of(sorted(set(names)), _CHOICE.format(example=PurePosixPath(found[0].path).name))
        except UserInputError as error:
            # No well is needed: files that are called by their whole names are told apart.
            warnings = (f"All are fields of one well, A01, called after their files. {error}",)
            continue
        if told is not None and (result := placed(found, dict(zip(sorted(set(names)), told.places, strict=True)))):
            return result, told.warnings
    return _named([replace(one, at=None) for one in found]), warnings


def _by_image(found: Sequence[FieldImage], places: dict[str, Place]) -> list[FieldImage]:
    """Place images by their own names, where these tell all of them apart."""
    names = [one.about.name for one in found]
    if len(set(names)) < len(names) or all(_POSITION.fullmatch(name) for name in names):
        return []
    return [replace(one, at=places[name][0], field=places[name][1]) for one, name in zip(found, names, strict=True)]


def _by_file(found: Sequence[FieldImage], places: dict[str, Place]) -> list[FieldImage]:
    """Place images by the names of their files; those of one file are told apart by their numbers in it."""
    files = Counter(at for at, _ in places.values())
    placed = []
    for one in found:
        at, field = places[_bare(one.path)]
        number = None if one.series is None else str(one.series + 1)
        parts = [field] if number is None else ([number] if files[at] == 1 else [field, number])
        placed.append(replace(one, at=at, field="-".join(parts)))
    return placed


def _named(found: Iterable[FieldImage]) -> list[FieldImage]:
    """Call fields after their files, and after their images where a file holds several."""
    ones = list(found)
    files = {one.path for one in ones}
    own = Counter((one.path, one.about.name) for one in ones)
    named = []
    for one in ones:
        image = one.about.name if one.about.name and own[one.path, one.about.name] == 1 else str(one.series)
        parts = [_bare(one.path)] if one.series is None else ([image] if len(files) == 1 else [_bare(one.path), image])
        named.append(replace(one, field=":".join(parts)))
    return named


def _bare(path: str) -> str:
    """Return a path without its suffix; folders stay, for files in two of them may have one name."""
    return str(PurePosixPath(path).with_name(image_name(Path(path))))


def _not_stacks(paths: Sequence[str]) -> Iterator[str]:
    if paths:
        shown = ", ".join(paths[:3]) + (", …" if len(paths) > 3 else "")
        yield f"{len(paths)} images are single slices beside stacks or in no folder of their own, left out: {shown}."
