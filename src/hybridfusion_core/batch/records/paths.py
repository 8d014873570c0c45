"""Where everything of a batch stands: the plate, its maps, and the records beside them.

Names of wells and fields come from untrusted files; no path is made of them before they have passed `safe_name`.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.io.suffixes import (
    IMAGE_FILES,
    ZARR_SUFFIXES,
    has_suffix,
    image_name,
    result_paths,
)
from hybridfusion_core.plates.plate import PlateField

TRANSFORMS = "transforms"  # folder of the transforms of every field
_IMAGES = (*ZARR_SUFFIXES, *IMAGE_FILES)
_PLAIN = re.compile("[A-Za-z0-9]{1,32}")


class FieldKey(NamedTuple):
    """A field by the names of its groups, each of them letters and digits only."""

    row: str
    column: str
    field: str


@dataclass(frozen=True)
class BatchPaths:
    """Paths of one batch.

    Attributes:
        output: the plate, ending in ".zarr", or the folder of files.
        files: whether it is a folder of files.
        shard: which of several jobs this one is that share the output; "" for the only one.
    """

    output: Path
    files: bool = False
    shard: str = ""

    def __post_init__(self) -> None:
        if not self.files and (not has_suffix(self.output, ZARR_SUFFIXES) or self.output.name.lower() in ZARR_SUFFIXES):
            raise UserInputError(
                f"The output {self.output.name!r} has another suffix; expected a name that ends in .ome.zarr or .zarr, "
                "since a plate is written as OME-Zarr. Rename it, or write files with --format tiff or --format "
                "ome-tiff."
            )
        if self.files and (has_suffix(self.output, _IMAGES) or not self.output.name):
            raise UserInputError(
                f"The output {self.output.name!r} is called like an image; expected the name of a folder, which the "
                "files are written into. Rename it, or leave --format out to write an OME-Zarr plate."
            )

    @property
    def maps(self) -> Path:
        """The plate of maps; files have theirs beside them."""
        return self.output if self.files else result_paths(self.output)["maps"]

    def store(self, name: str) -> Path:
        """Return the plate of "fused" images or that of "maps"."""
        return self.maps if name == "maps" else self.output

    @property
    def folder(self) -> Path:
        """The folder of records, beside the plate."""
        return self.output.with_name(f"{image_name(self.output)}.hybridfusion")

    @property
    def run_record(self) -> Path:
        """What was asked for and how it was resolved."""
        return self.folder / "run.json"

    @property
    def asked(self) -> Path:
        """Which units were ever asked for."""
        return self.folder / f"asked{self._suffix}.json"

    @property
    def session(self) -> Path:
        """The session of the run that may write; tasks of any other run stop when they see it."""
        return self.folder / f"session{self._suffix}"

    @property
    def lock(self) -> Path:
        """Held by the run that may write."""
        return self.folder / f"run{self._suffix}.lock"

    @property
    def staging(self) -> Path:
        """Where results are built, on the disk that they stay on."""
        return self.folder / f"staging{self._suffix}"

    @property
    def _suffix(self) -> str:
        return self.shard and f"-{self.shard}"

    @property
    def failures(self) -> Path:
        """What `--only` takes."""
        return self.folder / "failures.csv"

    @property
    def flat_field(self) -> Path:
        """How evenly the plate is lit, if that was estimated: C Y X, mean 1."""
        return self.folder / "flat_field.npy"

    @property
    def dark(self) -> Path:
        """What the camera counts in the dark, likewise: C 1 1."""
        return self.folder / "dark.npy"

    def record(self, key: FieldKey, t: int) -> Path:
        """Return where it is written down how a unit ended."""
        return self.folder.joinpath("units", *key, f"{t}.json")

    def starts(self, key: FieldKey, t: int) -> Path:
        """Return where the starts of a unit are counted that have not ended."""
        return self.folder.joinpath("units", *key, f"{t}.starts")

    def thumbnail(self, key: FieldKey, t: int) -> Path:
        """Return where a small picture of a unit is kept for the report."""
        return self.folder.joinpath("units", *key, f"{t}.jpg")

    def transforms(self, key: FieldKey, t: int) -> Path:
        """Return where it is written how the slices of a unit were aligned."""
        return self.folder / TRANSFORMS / unit_transforms(key, t)

    def mosaic(self, key: FieldKey) -> Path:
        """Return where it is written down of which fields an image of a whole well was made."""
        return self.folder.joinpath("wells", *key[:2], f"{key.field}.json")

    def unit_lock(self, key: FieldKey, t: int) -> Path:
        """Return what is locked while a unit is worked on."""
        return self.folder.joinpath("units", *key, f"{t}.lock")

    def staged(self, key: FieldKey, t: int) -> Path:
        """Return where a unit's result is built: an image, or a folder of files."""
        return self.staging / f"{'-'.join(key)}-{t}{'' if self.files else '.ome.zarr'}"


def unit_transforms(key: FieldKey, t: int) -> Path:
    """Return where the transforms of a unit stand in a folder of transforms by field."""
    return Path(*key, f"{t}.json")


def field_key(row: str, column: str, field: str) -> FieldKey:
    """Return the names of a field's groups."""
    return FieldKey(safe_name(row), safe_name(column), safe_name(field))


def key_of(unit: PlateField) -> FieldKey:
    """Return the names of the groups of a unit's field."""
    return field_key(unit.row, unit.column, unit.field)


def safe_name(name: str) -> str:
    """Return letters and digits for any name: OME-Zarr allows no others, and no path can be made of them.

    Args:
        name: as written.

    Returns:
        The name itself if it is one already; else what is left of it and a checksum, so that no two meet.
    """
    if _PLAIN.fullmatch(name):
        return name
    kept = re.sub("[^A-Za-z0-9]", "", name)[:20]
    return kept + hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:12]
