"""Start an output: the right writer for each suffix, and everything checked that can be checked early."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.io.disk.atomic import AtomicOutput, explained
from hybridfusion_core.io.result_spec import ResultSpec
from hybridfusion_core.io.suffixes import OUTPUT_SUFFIXES, output_suffix, result_paths

if TYPE_CHECKING:
    from hybridfusion_core.io.zarr.ngff_writing import Ngff

# Module of `io` and class, imported when it writes: what one format needs takes a tenth of a second to import.
_WRITERS = {
    ".ome.zarr": ("zarr.writer", "OmeZarrOutput"),
    ".ome.tif": ("tiff.writer", "OmeTiffOutput"),
    ".tif": ("tiff.writer", "ImageJOutput"),
    ".png": ("tiff.writer", "PngOutput"),
}


def create_output(
    path: str | os.PathLike[str],
    spec: ResultSpec,
    *,
    block: int = 1024,
    overwrite: bool = False,
    ngff: Ngff = "0.5",
) -> AtomicOutput:
    """Start to write a result; nothing stands under the final name before `commit`.

    Args:
        path: ends in .ome.zarr, .ome.tif, .tif or .png.
        spec: everything but the pixels.
        block: side of the blocks that will be written, whose origins are multiples of it. Two blocks
            may be written at the same time if `block` is a multiple of 256 (512 from 1024 on).
        overwrite: replace an existing result, with all its files, once the new one is whole.
        ngff: version of an OME-Zarr: "0.5", or "0.4" for older readers.

    Returns:
        An output with one array per product of `spec`. A PNG keeps "fused" only: the other arrays take
        what is written and drop it.

    Raises:
        UserInputError: unknown suffix; a folder that is missing, full or forbidden; an existing output, or one that
            another process is writing; an image that the format cannot hold.
    """
    target = Path(path)
    suffix = output_suffix(target)
    if suffix is None or len(target.name) == len(suffix):
        raise UserInputError(
            f"The output {target.name!r} has no known suffix; expected a name that ends in one of "
            f"{', '.join(OUTPUT_SUFFIXES)}."
        )
    if ngff != "0.5" and suffix != ".ome.zarr":
        raise UserInputError(
            f"The output {target.name!r} is no OME-Zarr, and NGFF {ngff} was asked for; expected a name that ends in "
            ".ome.zarr. Rename it, or leave the version out."
        )
    module, name = _WRITERS[suffix]
    writer = getattr(import_module(f"hybridfusion_core.io.{module}"), name)
    own: dict[str, Any] = {"ngff": ngff} if suffix == ".ome.zarr" else {}
    with explained(target, creating=True):
        output: AtomicOutput = writer(target, spec, block=block, overwrite=overwrite, **own)
        return output


def refuse_input_as_output(path: Path, inputs: Sequence[str | Path], preview: Path | None = None) -> None:
    """Refuse to write over, into or around an input, and a preview over the result.

    Args:
        path: of the result; its decision and maps count as well.
        inputs: files and folders that are read.
        preview: of the picture, if there will be one.

    Raises:
        UserInputError: an output and an input, or the preview and the result, are the same or one holds the other.
    """
    results = list(result_paths(path).values())
    for output in results if preview is None else [*results, preview]:
        if any(_meet(output, Path(each)) for each in inputs):
            raise UserInputError(
                f"The output {str(output)!r} is the input, or inside it, or around it; expected another place, since "
                "inputs are never written to. Choose another output."
            )
    if preview is not None and any(_meet(preview, result) for result in results):
        raise UserInputError(
            f"The preview {str(preview)!r} would replace the result or a part of it; expected a file of its own. "
            "Choose another name for the preview."
        )


def _meet(one: Path, other: Path) -> bool:
    """Say whether two paths are the same or one lies inside the other, whatever links lead there."""
    first, second = Path(os.path.realpath(one)), Path(os.path.realpath(other))
    return first == second or first in second.parents or second in first.parents
