"""How a batch writes its results: an OME-Zarr plate, or files with names of the user's choice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.io.zarr.ngff_writing import Ngff

Format = Literal["ome-zarr", "ome-tiff", "tiff"]
SUFFIXES = {"ome-tiff": ".ome.tif", "tiff": ".tif"}
_NAME = "{plate}_{well}_T{t:04}F{field:03}C{channel:02}"


@dataclass(frozen=True)
class OutputFormat:
    """How results are written.

    Attributes:
        format: "ome-zarr" is a plate; the others are a folder of files.
        ngff: version of the OME-Zarr.
        name: what files are called, see `NameTemplate`; "" for a plate.
    """

    format: Format = "ome-zarr"
    ngff: Ngff = "0.5"
    name: str = ""


PLATE = OutputFormat()


def make_output_format(kind: Format = "ome-zarr", ngff: Ngff | None = None, name: str | None = None) -> OutputFormat:
    """Check what was asked for together.

    Args:
        kind: format.
        ngff: version of the OME-Zarr, or None.
        name: what files are called, or None.

    Raises:
        UserInputError: an option belongs to another format.
    """
    if kind == "ome-zarr" and name is not None:
        raise UserInputError(
            f"--name is {name!r}, and an OME-Zarr plate names its images itself; expected it with files only. Add "
            "--format tiff or --format ome-tiff, or leave it out."
        )
    if kind != "ome-zarr" and ngff is not None:
        raise UserInputError(
            f"--ngff is {ngff}, and {kind} is no OME-Zarr; expected it with --format ome-zarr only. Leave it out."
        )
    suffix = SUFFIXES.get(kind)
    return OutputFormat(kind, ngff or "0.5", "" if suffix is None else _NAME + suffix if name is None else name)
