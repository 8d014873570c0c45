"""What a focal stack is: pixels that can be read by region, and what they mean.

A stack knows nothing of files: `store` makes one from a file, `Stack.from_array` from an array.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.errors import UserInputError

SUPPORTED_DTYPES = ("uint8", "uint16", "int16", "int32", "uint32", "float16", "float32", "float64")

# All lengths of OME-NGFF by their UDUNITS-2 names, in µm.
_PREFIXES = {
    "yocto": -24,
    "zepto": -21,
    "atto": -18,
    "femto": -15,
    "pico": -12,
    "nano": -9,
    "micro": -6,
    "milli": -3,
    "centi": -2,
    "deci": -1,
    "": 0,
    "hecto": 2,
    "kilo": 3,
    "mega": 6,
    "giga": 9,
    "tera": 12,
    "peta": 15,
    "exa": 18,
    "zetta": 21,
    "yotta": 24,
}
UNITS_UM = {
    **{f"{prefix}meter": float(f"1e{power + 6}") for prefix, power in _PREFIXES.items()},
    "angstrom": 1e-4,
    "inch": 25_400.0,
    "foot": 304_800.0,
    "yard": 914_400.0,
    "mile": 1_609_344_000.0,
    "parsec": 3.0856775814913673e22,
}


class ArrayLike(Protocol):
    """Anything that NumPy, zarr and dask arrays have in common."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of every axis."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Pixel type."""

    def __getitem__(self, key: Any, /) -> Any: ...


@dataclass(frozen=True)
class Channel:
    """One channel: its name, display colour and how it was lit.

    Attributes:
        name: as in the file, or "0", "1", ….
        color: display colour as "RRGGBB", or None.
        transmitted: True for brightfield, phase and DIC; False for fluorescence; None if unknown.
        window: (low, high) display limits in the image's own values, or None.
        modality: "confocal", "widefield", "multiphoton" or "transmitted" as the file states it, or None.
    """

    name: str
    color: str | None = None
    transmitted: bool | None = None
    window: tuple[float, float] | None = None
    modality: str | None = None


@dataclass(frozen=True)
class Axis:
    """Step between neighbours along one axis; unit is an OME-NGFF name, or None if unknown."""

    step: float = 1.0
    unit: str | None = None

    @property
    def step_um(self) -> float | None:
        """Step in µm, or None if the unit is unknown or not a length."""
        factor = UNITS_UM.get(self.unit or "")
        return None if factor is None else self.step * factor


@dataclass(frozen=True)
class Stack:
    """A focal stack, read lazily.

    Attributes:
        array: pixels that numpy-style indexing reads by region.
        axes: one letter of "TCZYX" per axis of `array`, each at most once; Y and X must be there.
            Axes that are missing have length 1.
        name: what to call the image.
        channels: one `Channel` per index of C.
        t, z, y, x: physical steps.
        z_positions_um: Z positions, any spacing and direction, when the file states each one.
        rgb: the three channels are red, green and blue of one colour image.
        na: numerical aperture of the objective as the file states it, or None.
        objective: what the file calls the objective, or None.
        source: the paths it came from, as the user typed them, and then the companions of a multi-file image; none
            for arrays.
        warnings: what the user should know about this file; shown once by CLI and widget.
        decode_unit: lengths T C Z Y X of what the file can only decode as a whole; None if any region can be
            read for little more than its own pixels.
        treatment: what was done to the pixels since they were stored, as plain JSON values for provenance.
        closers: called on `close`.
    """

    array: ArrayLike
    axes: str
    name: str = "stack"
    channels: tuple[Channel, ...] = ()
    t: Axis = Axis()
    z: Axis = Axis()
    y: Axis = Axis()
    x: Axis = Axis()
    z_positions_um: tuple[float, ...] | None = None
    rgb: bool = False
    na: float | None = None
    objective: str | None = None
    source: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    decode_unit: tuple[int, int, int, int, int] | None = None
    treatment: Mapping[str, Any] | None = None
    closers: tuple[Callable[[], None], ...] = field(default=(), repr=False, compare=False)

    def __post_init__(self) -> None:
        check_axes(self.axes, len(self.array.shape))
        if self.dtype.name not in SUPPORTED_DTYPES:
            raise UserInputError(
                f"{self.name}: pixels are {self.dtype.name}; expected one of {', '.join(SUPPORTED_DTYPES)}. "
                f"{_other_type(self.dtype)}"
            )
        if min(self.shape) < 1:
            raise UserInputError(
                f"{self.name}: the shape T C Z Y X is {self.shape}; expected at least one element along every axis. "
                "There are no pixels: export the image again."
            )
        if not self.channels:
            named = tuple(Channel(str(index)) for index in range(self.shape[1]))
            object.__setattr__(self, "channels", named)
        if len(self.channels) != self.shape[1]:
            raise UserInputError(
                f"{self.name}: {len(self.channels)} channels are described, the pixels have {self.shape[1]}; expected "
                "the same number. Check the axes."
            )

    @classmethod
    def from_array(
        cls, array: Any, axes: str | None = None, z_step_um: float | None = None, name: str = "array"
    ) -> Self:
        """Wrap a NumPy or dask array.

        Args:
            array: any array that numpy-style indexing reads.
            axes: one letter of "TCZYX" per axis; default "ZYX" for three axes.
            z_step_um: distance between slices in µm.
            name: what to call the image.

        Raises:
            UserInputError: the axes are missing or do not fit the array.
        """
        if axes is None:
            if len(array.shape) != 3:
                raise UserInputError(
                    f"The array has shape {tuple(array.shape)} and no axes were given; only three axes are taken "
                    'as ZYX. Say what they are, for example axes="TCZYX".'
                )
            axes = "ZYX"
        z = Axis() if z_step_um is None else Axis(z_step_um, "micrometer")
        return cls(array=array, axes=axes, name=name, z=z)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Pixel type."""
        return np.dtype(self.array.dtype)

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """Lengths of T, C, Z, Y and X."""
        lengths = dict(zip(self.axes, self.array.shape, strict=True))
        t, c, z, y, x = (int(lengths.get(letter, 1)) for letter in "TCZYX")
        return t, c, z, y, x

    @property
    def z_um(self) -> NDArray[np.float64] | None:
        """Position of every slice in µm, in slice order, or None if the file does not say."""
        if self.z_positions_um is not None:
            return np.asarray(self.z_positions_um, dtype=np.float64)
        step = self.z.step_um
        return None if step is None else step * np.arange(self.shape[2], dtype=np.float64)

    def read(self, t: int, c: int, z: Sequence[int], y: slice, x: slice) -> NDArray[Any]:
        """Read a region of one channel at one time point.

        Args:
            t: time index.
            c: channel index.
            z: slice indices in the order wanted.
            y: rows, within the plane, step 1.
            x: columns, within the plane, step 1.

        Returns:
            Z Y X, the stack's own dtype.
        """
        wanted: dict[str, int | slice] = {"T": t, "C": c, "Y": y, "X": x}
        if "Z" not in self.axes:
            # Z = 1: the same plane for each slice that is asked for.
            plane = self._index(wanted)
            return np.repeat(plane[np.newaxis], len(z), axis=0)
        planes = [self._index({**wanted, "Z": run}) for run in _runs(z)]
        return planes[0] if len(planes) == 1 else np.concatenate(planes)

    def _index(self, wanted: dict[str, int | slice]) -> NDArray[Any]:
        region = np.asarray(self.array[tuple(wanted[letter] for letter in self.axes)])
        left = [letter for letter in self.axes if isinstance(wanted[letter], slice)]
        order = [left.index(letter) for letter in "ZYX" if letter in left]
        return region.transpose(order)

    def with_z_step(self, z_step_um: float | None) -> Self:
        """Return the stack with another distance between slices; None changes nothing."""
        if z_step_um is None:
            return self
        return replace(self, z=Axis(z_step_um, "micrometer"), z_positions_um=None)

    def close(self) -> None:
        """Close the files behind the stack; reading afterwards is an error of the caller."""
        for closer in self.closers:
            closer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _other_type(dtype: np.dtype[Any]) -> str:
    """Say what can be done about pixels of a type that is not supported."""
    if dtype.kind in "iu":
        wanted = "int16" if dtype.itemsize < 2 else "int32"  # 64 bits: no count of a camera needs them
        return (
            f"Convert the image to {wanted}, which keeps every value within {np.iinfo(wanted).min:,} to "
            f"{np.iinfo(wanted).max:,}; in Python: array.astype('{wanted}')."
        )
    return "Convert the image first (a mask or a complex image is no focal stack)."


def check_axes(axes: str, ndim: int) -> None:
    """Check that axes name each dimension once.

    Raises:
        UserInputError: unknown, repeated or missing letters.
    """
    unknown = set(axes) - set("TCZYX")
    if unknown or len(set(axes)) != len(axes) or len(axes) != ndim or not {"Y", "X"} <= set(axes):
        raise UserInputError(
            f"Axes {axes!r} do not fit an image of {ndim} dimensions; expected {ndim} different letters of TCZYX, "
            "Y and X among them. Say what each axis is, for example --axes ZCYX (Python: axes=)."
        )


def _runs(indices: Sequence[int]) -> list[slice]:
    """Group indices into the fewest contiguous ascending slices, order kept."""
    runs: list[slice] = []
    for index in indices:
        if runs and runs[-1].stop == index:
            runs[-1] = slice(runs[-1].start, index + 1)
        else:
            runs.append(slice(index, index + 1))
    return runs
