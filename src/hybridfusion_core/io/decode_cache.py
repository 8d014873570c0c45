"""Decode once what can only be decoded as a whole: PNG, JPEG, TIFF planes of one strip, large chunks.

Fusion reads a stack region by region and twice: to measure it, and to fuse it. Where every read would decode
whole planes again, the planes are kept as they come: in memory if they fit, else in a scratch array on disk.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import platform
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec
from zarr.storage import LocalStore

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.io.disk.atomic import explained
from hybridfusion_core.io.region import DecodeUnit, normalised
from hybridfusion_core.stack import ArrayLike, Stack

_CHUNK = 512  # pixels
_PREFIX = f".hybridfusion-{hashlib.sha256(platform.node().encode()).hexdigest()[:8]}"
_OURS = re.compile(re.escape(_PREFIX) + r"-(\d+)-(\d+)-.*\.(?:decoded|spool)")  # spool: of version 0.1
_CLOCK_SHIFT = 60  # s by which the start of a process may seem to move when the clock is set right


@contextmanager
def decoded_once(stack: Stack, block: int, *, room: int, folder: Path | None = None) -> Iterator[Stack]:
    """Give the stack in a form whose planes are decoded once, however it is read.

    Args:
        stack: any; one that can be read by region is given back as it is.
        block: side of the regions that will be read, pixels.
        room: bytes that the stack may take in memory.
        folder: where a scratch folder may stand for the time being, hidden; None takes the system's
            temporary folder. What killed runs left there is removed.

    Yields:
        A stack of the same pixels.

    Raises:
        UserInputError: what must be decoded as a whole is larger than the computer's memory, or the disk is full.
    """
    if folder is not None:
        remove_abandoned(folder)
    unit = stack.decode_unit
    if unit is None or not _is_coarse(unit, stack, block):
        yield stack
        return
    planes: DecodeUnit = (unit[0], 3 if stack.rgb else unit[1], unit[2], *stack.shape[3:])
    _refuse_if_too_large(planes, stack)
    if math.prod(stack.shape) * stack.dtype.itemsize <= room:
        # The system gives memory to what is written only.
        yield _on(DecodeCache(stack, planes, np.empty(stack.shape, stack.dtype)))
        return
    if folder is None:
        folder = Path(tempfile.gettempdir())
        remove_abandoned(folder)
    with explained(folder / "scratch", creating=True):
        scratch = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}-{maker(os.getpid())}-", suffix=".decoded", dir=folder))
    try:
        with explained(scratch):
            yield _on(DecodeCache(stack, planes, _scratch_array(scratch, stack)))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def remove_abandoned(folder: Path) -> None:
    """Remove scratch folders of processes of this computer that are no longer running."""
    with suppress(OSError):
        for path in folder.iterdir():
            made_by = _OURS.fullmatch(path.name)
            if made_by is not None and not _runs(int(made_by[1]), int(made_by[2])):
                shutil.rmtree(path, ignore_errors=True)


def maker(pid: int) -> str:
    """Return what tells a process from all others, also from those that get its number after it or a restart."""
    return f"{pid}-{psutil.Process(pid).create_time():.0f}"


def _runs(pid: int, started: int) -> bool:
    try:
        return bool(abs(psutil.Process(pid).create_time() - started) < _CLOCK_SHIFT)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def _is_coarse(unit: DecodeUnit, stack: Stack, block: int) -> bool:
    """Say whether a block's pixels come only together with many others, or a plane only as a whole."""
    return max(unit[3:]) > block or unit[3:] == stack.shape[3:]


def _refuse_if_too_large(planes: DecodeUnit, stack: Stack) -> None:
    needed, memory = math.prod(planes) * stack.dtype.itemsize, psutil.virtual_memory().total
    if needed > memory:
        raise UserInputError(
            f"{stack.name}: one plane of {planes[3]} × {planes[4]} pixels can only be decoded as a whole, which takes "
            f"{needed / 2**30:,.0f} GiB; this computer has {memory / 2**30:,.0f} GiB. Expected an image in tiles or "
            "chunks: convert it to OME-TIFF with tiles or to OME-Zarr."
        )


def _scratch_array(folder: Path, stack: Stack) -> Any:
    y, x = stack.shape[3:]
    return zarr.create_array(
        store=LocalStore(folder),
        shape=stack.shape,
        chunks=(1, 1, 1, min(_CHUNK, y), min(_CHUNK, x)),
        dtype=stack.dtype,
        # Measured: 350 MB/s written and 870 MB/s read on one thread, faster than no compression at all.
        compressors=BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle"),
        fill_value=0,
        zarr_format=3,
    )


def _on(cache: DecodeCache) -> Stack:
    stack, unit = cache.stack, cache.unit
    # Whoever opened the stack closes it.
    return replace(stack, array=cache, axes="TCZYX", decode_unit=unit, closers=())


class DecodeCache:
    """An array T C Z Y X that decodes each unit of a stack when it is first asked for, and keeps it.

    Args:
        stack: what to decode.
        unit: what to decode at a time, T C Z Y X; whole planes.
        scratch: array of the stack's shape and dtype, to keep it in.
    """

    def __init__(self, stack: Stack, unit: DecodeUnit, scratch: ArrayLike) -> None:
        self.stack = stack
        self.unit: DecodeUnit = unit
        self.shape = stack.shape
        self.dtype = stack.dtype
        self._scratch: Any = scratch
        self._kept: set[tuple[int, int, int]] = set()
        self._latest: tuple[tuple[int, int, int], Any] | None = None
        self._lock = threading.Lock()

    @property
    def ndim(self) -> int:
        """Number of axes: five."""
        return len(self.shape)

    def __getitem__(self, key: Any, /) -> NDArray[Any]:
        items = normalised(key, self.shape)
        ranges = [range(i.start, i.stop) if isinstance(i, slice) else range(i, i + 1) for i in items]
        units = [sorted({at // size for at in each}) for each, size in zip(ranges[:3], self.unit[:3], strict=True)]
        with self._lock:
            wanted = [(t, c, z) for t, c, z in itertools.product(*units)]
            for index in wanted:
                if index not in self._kept:
                    self._decode(index)
            if self._latest is not None and wanted == [self._latest[0]]:
                return np.array(self._latest[1][self._within(items, wanted[0])])
            # Whoever asks for other planes than the last one has left it behind.
            self._latest = None
        return np.asarray(self._scratch[items])

    def _decode(self, index: tuple[int, int, int]) -> None:
        places = tuple(
            slice(at * size, min((at + 1) * size, length))
            for at, size, length in zip(index, self.unit, self.shape, strict=False)
        )
        self._latest = None  # before the next one takes its room
        pixels = self._read(places)
        self._scratch[places] = pixels
        self._kept.add(index)
        if not isinstance(self._scratch, np.ndarray):
            self._latest = (index, pixels)

    def _read(self, places: tuple[slice, ...]) -> NDArray[Any]:
        """Read whole planes in one go, T C Z Y X."""
        wanted = dict(zip("TCZ", places, strict=True))
        axes = self.stack.axes
        pixels = np.asarray(self.stack.array[tuple(wanted.get(letter, slice(None)) for letter in axes)])
        order = [axes.index(letter) for letter in "TCZYX" if letter in axes]
        shape = tuple(place.stop - place.start for place in places) + self.shape[3:]
        return pixels.transpose(order).reshape(shape)

    def _within(self, items: tuple[int | slice, ...], index: tuple[int, int, int]) -> tuple[int | slice, ...]:
        """Turn an index of the whole array into one of a unit."""
        starts = (*(at * size for at, size in zip(index, self.unit, strict=False)), 0, 0)
        return tuple(
            slice(item.start - start, item.stop - start, item.step) if isinstance(item, slice) else item - start
            for item, start in zip(items, starts, strict=True)
        )
