"""The OME-XML of one TIFF: found even where tifffile sees none, mended where that is harmless, refused elsewhere.

tifffile takes a description for OME-XML if it ends like one. A stray byte behind the end, or a text that was cut off,
would make it a plain TIFF without a scale, in silence.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybridfusion_core.errors import StoredDataError
from hybridfusion_core.io.description import Description
from hybridfusion_core.io.tiff import ome_xml
from hybridfusion_core.io.tiff.checks import check_companions

_ROOT = re.compile(r"<(\w+:)?OME[\s>]")
_END = re.compile(r"</(\w+:)?OME\s*>")
_HEAD = 4096  # characters in which the first element stands, whatever is declared before it


@dataclass(frozen=True)
class OmeHeader:
    """What the OME-XML of a file says; empty for a file without any.

    Attributes:
        described: every image, in file order.
        names_pages: it says of each plane which page it is.
        companions: names of all files that hold planes of these images, as they are called on the disk.
        warnings: what the user should know about the text.
    """

    described: Sequence[Description] = ()
    names_pages: bool = False
    companions: frozenset[str] = frozenset()
    warnings: tuple[str, ...] = ()


def read_ome_header(file: Any, path: Path, axes: str | None) -> OmeHeader:
    """Read the OME-XML of a TIFF, and let tifffile read the same text.

    Args:
        file: tifffile.TiffFile, whose series were not looked at yet.
        path: of the file.
        axes: what the user says the axes are; then a text that cannot be parsed is left out, with a warning.

    Raises:
        UserInputError: the file is a companion of one that holds the metadata.
        StoredDataError: the text cannot be parsed and no axes are given, it declares entities, or a companion is
            missing.
    """
    stored = ome_text(file)
    if stored is None:
        return OmeHeader()
    text, behind = without_rest(stored)
    ome_xml.refuse_declarations(stored, path.name)
    try:
        root = ome_xml.parse(text, path.name)
    except StoredDataError as error:
        if axes is None:
            raise
        _replace_text(file, "")
        reason = str(error).partition(";")[0].removeprefix(f"{path.name}: ")
        return OmeHeader(warnings=(f"{reason[0].upper()}{reason[1:]}; it is left out, with its scale and channels.",))
    renamed = check_companions(root, path)
    samples = int(file.pages.first.samplesperpixel)
    mended = [
        ome_xml.with_file_names(root, renamed) if renamed else None,
        ome_xml.state_samples(root, samples),
        text if text != stored else None,
    ]
    changed = next((each for each in (mended[1], mended[0], mended[2]) if each is not None), None)
    if changed is not None:
        _replace_text(file, changed)
    warning = f"{len(behind)} characters behind the end of the OME-XML are left out."
    return OmeHeader(
        tuple(ome_xml.describe(root, samples)),
        ome_xml.names_pages(root),
        frozenset(ome_xml.file_names(root)),
        (warning,) if behind else (),
    )


def ome_text(file: Any) -> str | None:
    """Return the description of a TIFF if it begins or ends like OME-XML, as it is stored."""
    text = file.ome_metadata or file.pages.first.description
    if not isinstance(text, str):
        return None
    begins = text.lstrip("\ufeff \t\r\n").startswith("<") and _ROOT.search(text[:_HEAD])
    return text if file.is_ome or begins else None


def without_rest(text: str) -> tuple[str, str]:
    """Return the text up to the end of its last OME element, and what stands behind it but for white space."""
    text = text.lstrip("\ufeff")
    ends = [found.end() for found in _END.finditer(text)]
    return (text[: ends[-1]], text[ends[-1] :].strip()) if ends else (text, "")


def _replace_text(file: Any, text: str) -> None:
    page = file.pages.first
    page.description = text
    file.is_ome = page.is_ome  # tifffile keeps what it found before
