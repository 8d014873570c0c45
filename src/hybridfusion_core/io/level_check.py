"""Read every pixel of every level of an image, and see whether each level is the one below made smaller."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.io.pyramid import Method, halve, level_factors


@dataclass(frozen=True)
class Level:
    """One level of an image.

    Attributes:
        array: pixels, read by region.
        axes: one letter per axis of the array, Y and X among them; all others are gone through one by one.
        step: so much is read at once along Y and X.
        whole: whether all that it should hold is there; otherwise its pixels are compared with nothing.
        name_of: what holds the pixels from a position on, for messages.
    """

    array: Any
    axes: str
    step: tuple[int, int]
    whole: bool
    name_of: Callable[[tuple[int, ...]], str]

    @property
    def plane(self) -> tuple[int, int]:
        """Y and X."""
        return self.array.shape[self.axes.index("Y")], self.array.shape[self.axes.index("X")]

    @property
    def others(self) -> tuple[int, ...]:
        """Lengths of all other axes."""
        return tuple(n for n, axis in zip(self.array.shape, self.axes, strict=True) if axis not in "YX")

    def key(self, index: tuple[int, ...], y: slice, x: slice) -> tuple[int | slice, ...]:
        """Return where a part of a plane lies in the array."""
        rest = iter(index)
        return tuple({"Y": y, "X": x}[axis] if axis in "YX" else next(rest) for axis in self.axes)


def check_levels(levels: Sequence[Level], method: Method, name: str) -> Iterator[str]:
    """Yield what is wrong with the pixels of an image, one sentence each.

    Args:
        levels: full resolution first.
        method: how each was made from the one below.
        name: of the image.
    """
    expected = len(level_factors(*levels[0].plane))
    if len(levels) != expected:
        yield f"{name} has {len(levels)} levels; expected {expected}"
    yield from _check_level(levels[0], None, method, f"{name}, level 0")
    for number, (below, level) in enumerate(itertools.pairwise(levels), 1):
        wanted = tuple((length + 1) // 2 for length in below.plane)
        if (level.plane, level.others, level.array.dtype) != (wanted, below.others, below.array.dtype):
            yield (
                f"{name}, level {number} is {level.array.dtype} of shape {level.array.shape}; expected half of level "
                f"{number - 1} along Y and X, {wanted}"
            )
            below = None  # type: ignore[assignment]  # noqa: PLW2901
        comparable = below is not None and below.whole and level.whole
        yield from _check_level(level, below if comparable else None, method, f"{name}, level {number}")


def _check_level(level: Level, below: Level | None, method: Method, name: str) -> Iterator[str]:
    """Yield what cannot be read, and where a level is not the one below made smaller."""
    unreadable = set()
    for index in itertools.product(*(range(length) for length in level.others)):
        for y, x in itertools.product(*map(_spans, level.plane, level.step)):
            pixels = _read(level, index, y, x)
            if not isinstance(pixels, np.ndarray):
                if pixels not in unreadable:
                    yield f"{name}: {pixels}"
                unreadable.add(pixels)
                continue
            source = (
                None if below is None else _read(below, index, _doubled(y, below.plane[0]), _doubled(x, below.plane[1]))
            )
            # What cannot be read below was said there.
            if isinstance(source, np.ndarray) and not _equal(halve(source, method), pixels):
                yield f"{name} is not the level below made smaller, at y={y.start}:{y.stop} x={x.start}:{x.stop}"
                return


def _read(level: Level, index: tuple[int, ...], y: slice, x: slice) -> NDArray[Any] | str:
    """Return a part of a plane, or what is wrong with it."""
    key = level.key(index, y, x)
    try:
        return np.asarray(level.array[key])
    except MemoryError:
        raise
    except Exception as error:  # whatever a codec makes of damaged bytes
        starts = tuple(item.start if isinstance(item, slice) else item for item in key)
        return f"{level.name_of(starts)} cannot be read ({type(error).__name__}: {str(error).strip()})"


def _spans(length: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]


def _doubled(span: slice, length: int) -> slice:
    return slice(2 * span.start, min(2 * span.stop, length))


def _equal(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return bool(np.array_equal(one, other, equal_nan=one.dtype.kind == "f"))


def first_line(error: BaseException) -> str:
    """Return the first two lines of what an error says, as one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2]) or type(error).__name__
