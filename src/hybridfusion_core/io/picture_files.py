"""Single image files (PNG, JPEG, one-plane TIFF): what they hold, and their pixels.

The header is read when a stack is opened, the pixels when they are needed.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from hybridfusion_core.errors import HybridFusionError, StoredDataError, UserInputError
from hybridfusion_core.io.description import Description
from hybridfusion_core.io.disk.access import guarded
from hybridfusion_core.io.suffixes import TIFF_SUFFIXES, has_suffix
from hybridfusion_core.io.tiff.checks import check_page
from hybridfusion_core.io.tiff.file import open_tiff
from hybridfusion_core.io.tiff.tags import is_rgb
from hybridfusion_core.stack import Axis

_MOST_COMPRESSED = 5000  # deflate reaches 1 : 1032, a JPEG of one colour about 1 : 1000
_MOST_THUMBNAILS = 8  # pages of a file with one plane
_ORIENTATION = 274  # tag of EXIF
_PNG_SAMPLES = {0: 1, 2: 3, 4: 2, 6: 4}


@dataclass(frozen=True)
class Picture:
    """One file: Y and X, samples shown per pixel (1 grey, 3 RGB), dtype, and whether alpha is left out.

    Attributes:
        orientation: how a viewer turns the picture, by EXIF (1 to 8; 1 is not at all).
        turned: how `read` turns it; `shape` is that of the turned picture.
    """

    path: Path
    shape: tuple[int, int]
    samples: int
    dtype: np.dtype[Any]
    alpha: bool
    orientation: int = 1
    turned: int = 1

    def read(self) -> NDArray[Any]:
        """Decode the file.

        Returns:
            C Y X with C = 1 or 3.

        Raises:
            StoredDataError: the pixels cannot be decoded, or are not what the header says.
        """
        with _guarded(self.path):
            pixels = _decode(self.path)
        pixels = _upright(pixels.reshape(*pixels.shape[:2], -1)[..., : self.samples], self.turned)
        if pixels.shape != (*self.shape, self.samples) or pixels.dtype != self.dtype:
            raise StoredDataError(
                f"{self.path.name} decodes to shape {pixels.shape} {pixels.dtype}, its header says "
                f"{(*self.shape, self.samples)} {self.dtype}; expected the same. The file is damaged: export it again."
            )
        return np.moveaxis(pixels, -1, 0)


def as_shown(pictures: Sequence[Picture]) -> tuple[list[Picture], tuple[str, ...]]:
    """Turn the slices of a stack as viewers do, all alike: a camera that looks down marks its frames by chance.

    Returns:
        The pictures, and a warning if they are turned or do not agree.
    """
    wanted = pictures[0].orientation
    if all(each.orientation == 1 for each in pictures):
        return list(pictures), ()
    agree = len({each.orientation for each in pictures}) == 1
    said = (
        f"The slices are turned as their EXIF orientation ({wanted}) says, as viewers show them."
        if agree
        else f"The slices have several EXIF orientations; all are turned as the first one says ({wanted}), since the "
        "pixels of one camera lie alike."
    )
    swap = wanted >= 5
    return [replace(each, turned=wanted, shape=each.shape[::-1] if swap else each.shape) for each in pictures], (said,)


def _upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn Y X C as EXIF says (tag 274): what row 0 and column 0 are in the scene."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    down = orientation in (3, 4, 7, 8)  # of rows, after the axes changed places
    across = orientation in (2, 3, 6, 7)
    return pixels[:: -1 if down else 1, :: -1 if across else 1]


def describe_slices(pictures: Sequence[Picture]) -> Description:
    """Describe a stack of single images by what the first and the last one say: scale, channel, warnings.

    TIFFs say the same as the pages of one file; PNG and JPEG say nothing.
    """
    described = [_described(each) for each in (pictures[0], pictures[-1])]
    first, last = described
    alpha = "The images have an alpha channel; it is left out."
    warnings = tuple(alpha if "alpha channel" in each else each for each in first.warnings)
    if pictures[0].alpha and alpha not in warnings:
        warnings = (alpha, *warnings)
    if (first.y, first.x, first.z) != (last.y, last.x, last.z):
        said = (
            f"{pictures[0].path.name} states pixels of {_size(first)}, {pictures[-1].path.name} of {_size(last)}: "
            "neither is used. Say it with --pixel-size (Python: pixel_size_um=)."
        )
        return replace(first, y=Axis(), x=Axis(), z=Axis(), warnings=(*warnings, said))
    return replace(first, warnings=warnings)


def _size(about: Description) -> str:
    return "unknown size" if about.y.unit is None else f"{about.y.step:.4g} × {about.x.step:.4g} {about.y.unit}"


def _described(picture: Picture) -> Description:
    if not has_suffix(picture.path, TIFF_SUFFIXES):
        return Description()
    try:
        # One plane needs no axes to be understood, and says all that a page of a stack says.
        with open_tiff(picture.path) as stack:
            return Description(
                z=stack.z, y=stack.y, x=stack.x, channels=stack.channels, na=stack.na, warnings=stack.warnings
            )
    except HybridFusionError:  # one part of a file in several parts; its pixels were looked at before
        return Description()


def inspect(path: Path) -> Picture:
    """Read the header of a file.

    Raises:
        UserInputError: a kind of image that holds no intensities, or several planes.
        StoredDataError: the file is empty, damaged, or something else.
    """
    with _guarded(path):
        return _inspect(path)


def _inspect(path: Path) -> Picture:
    with path.open("rb") as stream:
        start = stream.read(8)
        if start == b"\x89PNG\r\n\x1a\n":
            return _plausible(_png(path, stream))
        if start[:2] == b"\xff\xd8":
            return _plausible(_jpeg(path, stream))
    if start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _tiff(path)
    raise StoredDataError(
        f"{path.name} is no PNG, JPEG or TIFF (it starts with {start!r}); expected an image. "
        "It is damaged or has the wrong name: export it again."
    )


def _plausible(picture: Picture) -> Picture:
    """Refuse a header that promises more pixels than the file can hold."""
    stored = picture.path.stat().st_size
    promised = picture.shape[0] * picture.shape[1] * picture.samples * picture.dtype.itemsize
    if promised > _MOST_COMPRESSED * stored:
        raise StoredDataError(
            f"{picture.path.name} has {stored} bytes, which cannot hold the {picture.shape[0]} × {picture.shape[1]} "
            "pixels of its header; expected as many pixels as are stored. The file is damaged: export it again."
        )
    return picture


def _png(path: Path, stream: BinaryIO) -> Picture:
    stream.seek(16)
    width, height, depth, kind = struct.unpack(">IIBB", stream.read(10))
    if kind == 3 or depth < 8 or kind not in _PNG_SAMPLES:
        found = "a palette" if kind == 3 else f"{depth} bit per sample"
        raise UserInputError(
            f"{path.name} has {found}; expected a grey or RGB PNG of 8 or 16 bit. "
            "Such files hold no intensities: save it as grey or RGB."
        )
    samples = _PNG_SAMPLES[kind]
    return Picture(path, (height, width), samples - (samples in (2, 4)), np.dtype(f"u{depth // 8}"), samples in (2, 4))


def _jpeg(path: Path, stream: BinaryIO) -> Picture:
    stream.seek(2)
    orientation = 1
    while True:
        marker, length = struct.unpack(">HH", stream.read(4))
        # Start of frame: baseline to lossless; C4, C8 and CC are tables.
        if 0xFFC0 <= marker <= 0xFFCF and marker not in (0xFFC4, 0xFFC8, 0xFFCC):
            depth, height, width, samples = struct.unpack(">BHHB", stream.read(6))
            if depth != 8 or samples not in (1, 3):
                raise UserInputError(
                    f"{path.name} has {samples} samples of {depth} bit; expected a grey or RGB JPEG of 8 bit. "
                    "Save it as RGB, or better as PNG or TIFF."
                )
            return Picture(path, (height, width), samples, np.dtype(np.uint8), False, orientation)
        if marker == 0xFFE1 and orientation == 1:
            orientation = _exif_orientation(stream.read(length - 2))
        else:
            stream.seek(length - 2, 1)


def _exif_orientation(segment: bytes) -> int:
    """Return how a viewer turns a JPEG, by its APP1 segment; 1 if that says nothing or is damaged."""
    if not segment.startswith(b"Exif\0\0"):
        return 1
    exif = Image.Exif()
    try:
        exif.load(segment)
        stated = exif.get(_ORIENTATION, 1)
    except Exception:  # whatever damaged tags make of a parser: the pixels are sound
        return 1
    return stated if isinstance(stated, int) and 1 <= stated <= 8 else 1


def _tiff(path: Path) -> Picture:
    with tifffile.TiffFile(path) as file:
        planes = _planes(file)
        if planes != 1:
            raise UserInputError(
                f"{path.name} has {planes} pages; expected one plane per file. Open this file alone if it is the stack."
            )
        page = file.pages.first
        samples = int(page.samplesperpixel)
        if samples >= 3 and not is_rgb(page):
            raise UserInputError(
                f"{path.name} has {samples} values in a pixel that are no red, green and blue (photometric "
                f"{int(page.photometric)}); expected a grey or RGB image. Save it as grey or RGB."
            )
        if samples > 4 or page.bitspersample < 8:
            raise UserInputError(
                f"{path.name} has {samples} samples of {page.bitspersample} bit; expected a grey or RGB image of at "
                "least 8 bit. Save it as grey or RGB."
            )
        # tifffile reads what is cut off as zeros, and says so in its log alone.
        check_page(page, path.name)
        dtype = np.dtype(page.dtype).newbyteorder("=")
        shape = (int(page.imagelength), int(page.imagewidth))
        alpha = samples in (2, 4)
        return Picture(path, shape, samples - alpha, dtype, alpha)


def _planes(file: Any) -> int:
    """Return how many pages are no thumbnails; the first one always counts."""
    count = len(file.pages)
    if not 1 < count <= _MOST_THUMBNAILS:
        return count
    return 1 + sum(not page.is_reduced for page in list(file.pages)[1:])


def _decode(path: Path) -> NDArray[Any]:
    with path.open("rb") as stream:
        start = stream.read(4)
    if start == b"\x89PNG":
        return np.asarray(imagecodecs.png_decode(path.read_bytes()))
    if start[:2] == b"\xff\xd8":
        return np.asarray(imagecodecs.jpeg8_decode(path.read_bytes()))
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        pixels = page.asarray()
        planar = int(page.planarconfig) == 2 and page.samplesperpixel > 1
        pixels = np.moveaxis(pixels, 0, -1) if planar else pixels
        return np.asarray(pixels, dtype=pixels.dtype.newbyteorder("="))


def _guarded(path: Path) -> AbstractContextManager[None]:
    return guarded(
        f"{path.name}: cannot be read as an image",
        "an intact PNG, JPEG or TIFF. It is damaged or cut short: copy or export it again.",
    )
