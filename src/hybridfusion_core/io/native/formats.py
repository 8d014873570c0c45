"""The one table of native formats: what they are called, and which library reads them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import cast

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.io.native.scene import NativeReader
from hybridfusion_core.io.suffixes import NATIVE_SUFFIXES, has_suffix


@dataclass(frozen=True)
class NativeFormat:
    """One format.

    Attributes:
        title: for people.
        package: what is imported.
        library: what is installed.
        module: of this folder, which maps the library.
        reader: class in it.
        condition: what the library needs beside the extra, for people; or "".
    """

    title: str
    package: str
    library: str
    module: str
    reader: str
    condition: str = ""


_OIF = NativeFormat("Olympus FluoView", "oiffile", "oiffile", "olympus", "OifReader")
FORMATS: dict[str, NativeFormat] = {
    ".nd2": NativeFormat("Nikon ND2", "nd2", "nd2", "nd2", "Nd2Reader"),
    ".czi": NativeFormat("Zeiss CZI", "pylibCZIrw", "pylibCZIrw", "czi", "CziReader"),
    ".lif": NativeFormat("Leica LIF", "liffile", "liffile", "lif", "LifReader"),
    ".oib": _OIF,
    ".oif": _OIF,
    ".oir": NativeFormat("Olympus OIR", "oirfile", "oirfile", "olympus", "OirReader", " with Python 3.12 or newer"),
    ".vsi": NativeFormat("Olympus cellSens VSI", "bioio_vsi", "bioio-vsi", "vsi", "VsiReader"),
}


def format_of(path: Path) -> NativeFormat | None:
    """Return the format that a name says, or None."""
    return FORMATS[path.suffix.lower()] if has_suffix(path, NATIVE_SUFFIXES) else None


def check_installed(path: Path) -> NativeFormat:
    """Return the format of a native file whose library is there.

    Raises:
        UserInputError: it is not installed.
    """
    kind = format_of(path)
    if kind is None:
        raise ValueError(f"{path} is no native file")
    if find_spec(kind.package) is None:
        raise UserInputError(
            f"{path.name} is a {kind.title} file, and the library that reads it, {kind.library}, is not installed; "
            f'expected it. Install it with pip install "napari-hybridfusion[vendors]"{kind.condition}, or export the '
            "image as OME-TIFF."
        )
    return kind


def open_reader(path: Path) -> NativeReader:
    """Open a native file in this process; only `serve` does, in a process of its own."""
    kind = format_of(path)
    if kind is None:
        raise ValueError(f"{path} is no native file")
    module = import_module(f"hybridfusion_core.io.native.{kind.module}")
    return cast(NativeReader, getattr(module, kind.reader)(path))
