"""OME-Zarr plates, 0.4 and 0.5: the JSON of plate, wells and images; no array is opened.

zarr's own opening takes milliseconds for a group, and a plate of 1536 wells has ten thousand of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from natsort import natsorted

from hybridfusion_core.errors import HybridFusionError, StoredDataError
from hybridfusion_core.io.description import Description
from hybridfusion_core.io.disk.access import guarded
from hybridfusion_core.io.units import number
from hybridfusion_core.io.zarr.ngff_reading import describe, described_axes, is_plain
from hybridfusion_core.io.zarr.source import METADATA_FILES, ZarrSource, source_of
from hybridfusion_core.plates.plate import Acquisition, Defect, Field, Frame, Image, Imaging, Plate, Well
from hybridfusion_core.plates.well_names import stated_size, well_index
from hybridfusion_core.stack import Channel

_MOST_TIMES = 100_000
_MOST_IMAGES = 100_000  # of a collection
_DTYPES = {"u": "uint", "i": "int", "f": "float"}


@dataclass(frozen=True)
class _Found:
    """One image as its metadata describe it: lengths by axis letter, or what is wrong with it."""

    about: Description
    lengths: Mapping[str, int] | None = None
    dtype: str | None = None
    position_um: tuple[float, float] | None = None
    z_um: float | None = None
    problem: str = ""


def read_ome_zarr_plate(path: Path | str) -> Plate | None:
    """Describe an OME-Zarr plate.

    Args:
        path: of its folder, or its URL.

    Returns:
        The plate, or None if the zarr is something else.

    Raises:
        UserInputError: it may not be read.
        StoredDataError: the metadata of the plate are damaged; damage in wells and images is theirs alone.
    """
    source = source_of(path)
    with guarded(
        f"{source.name}: the metadata of the plate cannot be understood",
        "those of an OME-Zarr plate. They are damaged: copy or write the plate again.",
    ):
        plate = _attributes(source).get("plate")
        return _read(source, str(path), plate) if isinstance(plate, Mapping) else None


def read_ome_zarr_collection(path: Path) -> Plate | None:
    """Describe the images of a bioformats2raw collection as fields of one well.

    Args:
        path: of its folder.

    Returns:
        The plate, or None if the zarr is something else.

    Raises:
        UserInputError: it may not be read.
        StoredDataError: the metadata of the collection are damaged; damage in an image is its own.
    """
    source = source_of(path)
    with guarded(
        f"{source.name}: the metadata of the collection cannot be understood",
        "those that bioformats2raw writes. They are damaged: copy or write the collection again.",
    ):
        if "bioformats2raw.layout" not in _attributes(source):
            return None
        series = _attributes(source, "OME").get("series")
        names = [str(each) for each in series] if isinstance(series, list) else _numbered(source)
        found = {name: _image(source, name) for name in dict.fromkeys(names)}
        fields = tuple(
            Field(name, _frames(one, name), one.position_um, one.z_um) for name, one in natsorted(found.items())
        )
        return Plate(
            folder=str(path),
            layout="ome-zarr",
            name=source.name.removesuffix(".zarr").removesuffix(".ome"),
            wells=(Well("A", "01", 0, 0, fields),) if fields else (),
            imaging=_imaging([one for one in found.values() if one.lengths]),
            rows=1,
            columns=1,
            metadata=(str(path),),
            warnings=(
                "These are images without a plate; all are fields of one well, A01.",
                *_odd_channels(list(found.values())),
            ),
        )


def _numbered(source: ZarrSource) -> list[str]:
    """Return the images that stand in 0, 1, 2 and so on."""
    inside = map(str, range(_MOST_IMAGES))
    return list(takewhile(lambda name: bool(_attributes(source, name)), inside))


def _read(source: ZarrSource, path: str, plate: Mapping[str, Any]) -> Plate:
    names = {kind: [str(each["name"]) for each in plate.get(kind, ())] for kind in ("rows", "columns")}
    entries = {str(each["path"]): each for each in plate["wells"]}
    images = _listed_images(source, list(entries))
    described = [_well(source, entry, names, *images[inside]) for inside, entry in entries.items()]
    wells = sorted((well for well, _ in described), key=lambda well: (well.row_index, well.column_index))
    all_found = [found for _, of_well in described for found in of_well]
    at = {(well.row_index, well.column_index) for well in wells}
    rows, columns = stated_size(at, len(names["rows"]), len(names["columns"]))
    acquisitions = [each for each in plate.get("acquisitions") or () if isinstance(each.get("id"), int)]
    return Plate(
        folder=path,
        layout="ome-zarr",
        name=str(plate.get("name") or source.name.removesuffix(".zarr").removesuffix(".ome")),
        wells=tuple(wells),
        imaging=_imaging([found for found in all_found if found.lengths]),
        rows=rows,
        columns=columns,
        row_names=tuple(names["rows"]),
        column_names=tuple(names["columns"]),
        acquisitions=tuple(Acquisition(each["id"], str(each.get("name") or "")) for each in acquisitions),
        metadata=(path,),
        warnings=_odd_channels(all_found),
    )


def _listed_images(source: ZarrSource, wells: Sequence[str]) -> dict[str, tuple[list[Mapping[str, Any]], str]]:
    """Return what each well lists; the metadata of wells and images are asked for together, for a server's sake."""
    source.expect(f"{well}/{name}" for well in filter(source.holds, wells) for name in METADATA_FILES[:2])
    images = {well: _images(source, well) for well in wells}
    paths = [f"{well}/{each['path']}" for well, (listed, _) in images.items() for each in listed]
    # The first level is mostly called so; where it is not, its metadata are read when they are needed.
    source.expect(
        f"{image}/{name}"
        for image in filter(source.holds, paths)
        for name in (*METADATA_FILES[:2], "0/zarr.json", "0/.zarray")
    )
    return images


def _well(
    source: ZarrSource,
    entry: Mapping[str, Any],
    names: Mapping[str, Sequence[str]],
    images: Sequence[Mapping[str, Any]],
    problem: str,
) -> tuple[Well, list[_Found]]:
    inside = str(entry["path"])
    row, column = (
        _at(names[kind], entry.get(index), part)
        for kind, index, part in zip(
            ("rows", "columns"), ("rowIndex", "columnIndex"), (*inside.split("/"), "?", "?")[:2], strict=True
        )
    )
    at = well_index(f"{row}{column}") or (_index(entry.get("rowIndex")), _index(entry.get("columnIndex")))
    if problem:
        frame = Frame("0", (), defects=(Defect("missing", problem),))
        return Well(row, column, *at, (Field("0", (frame,)),)), []
    fields, found = [], []
    for image in images:
        name = str(image["path"])
        one = _image(source, f"{inside}/{name}")
        found.append(one)
        acquisition = image.get("acquisition")
        fields.append(
            Field(
                name,
                _frames(one, f"{inside}/{name}"),
                one.position_um,
                one.z_um,
                acquisition if isinstance(acquisition, int) else None,
            )
        )
    return Well(row, column, *at, tuple(fields)), found


def _at(names: Sequence[str], index: Any, otherwise: str) -> str:
    return names[index] if isinstance(index, int) and 0 <= index < len(names) else otherwise


def _index(stored: Any) -> int:
    return stored if isinstance(stored, int) and 0 <= stored < 1000 else 0


def _images(source: ZarrSource, inside: str) -> tuple[list[Mapping[str, Any]], str]:
    """Return the images that a well lists, or what is wrong with it."""
    if not source.holds(inside):
        return [], _outside(inside)
    try:
        with guarded(f"The well {inside!r}: its metadata cannot be read", _CURE):
            listed = _attributes(source, inside)["well"]["images"]
            # The same path twice is one image.
            return list({str(each["path"]): each for each in listed}.values()), ""
    except HybridFusionError as error:
        return [], str(error)


def _image(source: ZarrSource, inside: str) -> _Found:
    if not source.holds(inside):
        return _Found(Description(), problem=_outside(inside))
    try:
        with guarded(f"The image {inside!r}: its metadata cannot be read", _CURE):
            return _described(source, inside)
    except HybridFusionError as error:
        return _Found(Description(), problem=str(error))


def _described(source: ZarrSource, name: str) -> _Found:
    attributes = _attributes(source, name)
    entry = attributes["multiscales"][0]
    level = str(entry["datasets"][0]["path"])
    if not source.holds(f"{name}/{level}") or not is_plain(level):
        raise StoredDataError(_outside(f"{name}/{level}"))
    shape, dtype = _array(source, f"{name}/{level}")
    axes = described_axes(entry, len(shape), name)
    lengths = {letter: length for letter, length in zip(axes, shape, strict=True) if letter in "TCZYX"}
    if min(shape) < 1 or lengths.get("T", 1) > _MOST_TIMES:
        raise StoredDataError(
            f"The image {name!r} has shape {tuple(shape)}; expected at least one pixel and at most {_MOST_TIMES} time "
            "points. The metadata are damaged: copy or write the image again."
        )
    about = describe(entry, attributes, name)
    at = _position(entry, about)
    y, x = at.get("y"), at.get("x")
    return _Found(about, lengths, dtype, None if y is None or x is None else (y, x), at.get("z"))


def _array(source: ZarrSource, inside: str) -> tuple[list[int], str]:
    stored = _json(source, f"{inside}/zarr.json")
    if stored is not None:
        return [int(length) for length in stored["shape"]], str(stored["data_type"])
    stored = _json(source, f"{inside}/.zarray")
    if stored is None:
        raise FileNotFoundError(f"no array in {inside!r}")
    code = str(stored["dtype"])
    return [int(length) for length in stored["shape"]], f"{_DTYPES.get(code[1], code[1])}{8 * int(code[2:])}"


def _position(entry: Mapping[str, Any], about: Description) -> dict[str, float]:
    """Return the translation along Z, Y and X in µm, as far as it is stated and the unit is a length."""
    names = [str(each.get("name")).lower() for each in entry.get("axes", ()) if isinstance(each, Mapping)]
    moves = [
        each.get("translation")
        for where in (entry["datasets"][0], entry)
        for each in where.get("coordinateTransformations") or ()
        if each.get("type") == "translation"
    ]
    scale = {"z": about.z, "y": about.y, "x": about.x}
    return {
        letter: sum(float(number(move[names.index(letter)]) or 0.0) for move in moves) * axis.step_um / axis.step
        for letter, axis in scale.items()
        if moves and letter in names and axis.step_um is not None
    }


def _frames(found: _Found, inside: str) -> tuple[Frame, ...]:
    if found.lengths is None:
        return (Frame("0", (), image=Image(inside), defects=(Defect("missing", found.problem),)),)
    slices = (found.lengths.get("Z", 1),) * found.lengths.get("C", 1)
    return tuple(Frame(str(t), slices, image=Image(inside, None, t)) for t in range(found.lengths.get("T", 1)))


def _imaging(found: Sequence[_Found]) -> Imaging:
    if not found:
        return Imaging(())
    first = found[0]
    lengths, about = first.lengths or {}, first.about
    count = lengths.get("C", 1)
    channels = about.channels if len(about.channels) == count else tuple(Channel(str(c)) for c in range(count))
    return Imaging(channels, (lengths["Y"], lengths["X"]), first.dtype, t=about.t, z=about.z, y=about.y, x=about.x)


def _odd_channels(found: Sequence[_Found]) -> tuple[str, ...]:
    sound = [each for each in found if each.lengths]
    named = [tuple(channel.name for channel in each.about.channels) for each in sound]
    odd = sum(each != named[0] for each in named)
    return (f"{odd} images have other channels than the first one, {', '.join(named[0])}.",) if odd else ()


def _attributes(source: ZarrSource, inside: str = "") -> Mapping[str, Any]:
    """Return what the metadata of a group say by OME-NGFF, or nothing."""
    before = f"{inside}/" if inside else ""
    stored = _json(source, f"{before}zarr.json")
    found = stored.get("attributes") if isinstance(stored, Mapping) else _json(source, f"{before}.zattrs")
    inner = found.get("ome") if isinstance(found, Mapping) else None
    result = inner if isinstance(inner, Mapping) else found
    return result if isinstance(result, Mapping) else {}


def _json(source: ZarrSource, inside: str) -> Any:
    content = source.read(inside)
    return None if content is None else json.loads(content)


def _outside(inside: str) -> str:
    return (
        f"The path {inside!r} in the metadata leads out of the store; expected one inside it. The store is damaged or "
        "hostile: do not open it, or write the plate again."
    )


_CURE = "a whole OME-Zarr group. It is missing, damaged or was copied in part: copy or write the plate again."
