"""Single image files (PNG, JPEG, one-plane TIFF): what they hold, and their pixels.

The header is read when a stack is opened, the pixels when they are needed.
"""

from __future__ import annotations

import struct
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from hybridfusion_core.errors import StoredDataError, UserInputError
from hybridfusion_core.io.disk.access import guarded
from hybridfusion_core.io.tiff.checks import check_page

_MOST_COMPRESSED = 5000  # deflate reaches 1 : 1032, a JPEG of one colour about 1 : 1000
_PNG_SAMPLES = {0: 1, 2: 3, 4: 2, 6: 4}


@dataclass(frozen=True)
class Picture:
    """One file: Y and X, samples shown per pixel (1 grey, 3 RGB), dtype, and whether alpha is left out."""

    path: Path
    shape: tuple[int, int]
    samples: int
    dtype: np.dtype[Any]
    alpha: bool

    def read(self) -> NDArray[Any]:
        """Decode the file.

        Returns:
            C Y X with C = 1 or 3.

        Raises:
            StoredDataError: the pixels cannot be decoded, or are not what the header says.
        """
        with _guarded(self.path):
            pixels = _decode(self.path)
        pixels = pixels.reshape(*pixels.shape[:2], -1)[..., : self.samples]
        if pixels.shape != (*self.shape, self.samples) or pixels.dtype != self.dtype:
            raise StoredDataError(
                f"{self.path.name} decodes to shape {pixels.shape} {pixels.dtype}, its header says "
                f"{(*self.shape, self.samples)} {self.dtype}; expected the same. The file is damaged: export it again."
            )
        return np.moveaxis(pixels, -1, 0)


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
            return Picture(path, (height, width), samples, np.dtype(np.uint8), alpha=False)
        stream.seek(length - 2, 1)


def _tiff(path: Path) -> Picture:
    with tifffile.TiffFile(path) as file:
        if len(file.pages) != 1:
            raise UserInputError(
                f"{path.name} has {len(file.pages)} pages; expected one plane per file. Open this file alone if it "
                "is the stack."
            )
        page = file.pages.first
        samples = int(page.samplesperpixel)
        if int(page.photometric) == 3 or samples > 4 or page.bitspersample < 8:
            raise UserInputError(
                f"{path.name} has a palette, {samples} samples, or less than 8 bit; expected a grey or RGB image. "
                "Save it as grey or RGB."
            )
        # tifffile reads what is cut off as zeros, and says so in its log alone.
        check_page(page, path.name)
        dtype = np.dtype(page.dtype).newbyteorder("=")
        shape = (int(page.imagelength), int(page.imagewidth))
        alpha = samples in (2, 4)
        return Picture(path, shape, samples - alpha, dtype, alpha)


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
