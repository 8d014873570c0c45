"""What a fused image is on its way to disk: its description and the arrays that hold it.

Every writer takes a `ResultSpec` and offers an `Output`; the fusion writes blocks into an `Output`
and never knows the file format.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from hybridfusion_core.stack import Axis, Channel

_UNKNOWN = Axis()


def array_of(product: str) -> str:
    """Return the array that holds a product: every product but the fused image and the decision is a map."""
    return product if product in {"fused", "decision"} else "maps"


@dataclass(frozen=True)
class MapChannel:
    """One float32 map.

    Attributes:
        quantity: what its values are: "height_um", "height_slices", "confidence", …
        window: display limits.
        product: what was asked for: "height" for both heights; the quantity if that is left out.
        of: name of the channel whose decision it explains; None if one decision serves all.
    """

    quantity: str
    window: tuple[float, float]
    product: str = ""
    of: str | None = None

    def __post_init__(self) -> None:
        if not self.product:
            object.__setattr__(self, "product", product_of(self.quantity))

    @property
    def name(self) -> str:
        """What the channel is called in a file."""
        return self.quantity if self.of is None else f"{self.quantity} ({self.of})"


def quantity_of(name: str) -> str:
    """Return the quantity of a map that a file calls `name`; see `MapChannel.name`."""
    return name.split(" (", maxsplit=1)[0]


def product_of(name: str) -> str:
    """Return the product that a map belongs to which a file calls `name`."""
    quantity = quantity_of(name)
    return next((quantity.removesuffix(unit) for unit in ("_um", "_slices") if quantity.endswith(unit)), quantity)


@dataclass(frozen=True)
class ResultSpec:
    """Everything but the pixels.

    Attributes:
        name: what to call the image.
        shape: T, C, Y, X of the fused image.
        dtype: of the fused image.
        channels: of the fused image, one per C.
        rgb: the three channels are red, green and blue of one colour image.
        start: row and column of the first pixel in the plane that was fused: where a result is cropped.
        t, z, y, x: physical steps; z is the distance between the slices that were fused.
        slices: how many slices were fused.
        depth: planes along Z of the result itself: 1, or those of slabs, of two surfaces or of a thin stack.
        z_positions_um: of these planes; None if there is one, or their positions are unknown.
        decision_channels: names, one per C of the decision mask; one name when one decision serves all.
            Empty when the decision was not asked for.
        maps: one per C of the maps image; empty when no map was asked for.
        provenance: plain JSON values: input, slices of the stack, model, resolved settings, runtime.
    """

    name: str
    shape: tuple[int, int, int, int]
    dtype: np.dtype[Any]
    channels: tuple[Channel, ...]
    rgb: bool = False
    start: tuple[int, int] = (0, 0)
    t: Axis = _UNKNOWN
    z: Axis = _UNKNOWN
    y: Axis = _UNKNOWN
    x: Axis = _UNKNOWN
    slices: int = 1
    depth: int = 1
    z_positions_um: tuple[float, ...] | None = None
    decision_channels: tuple[str, ...] = ()
    maps: tuple[MapChannel, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def array_shapes(self) -> dict[str, tuple[tuple[int, int, int, int, int], np.dtype[Any]]]:
        """Shape T C Z Y X and dtype of every array that belongs to this result, by its name."""
        t, c, y, x = self.shape
        shapes = {"fused": ((t, c, self.depth, y, x), np.dtype(self.dtype))}
        if self.decision_channels:
            shapes["decision"] = ((t, len(self.decision_channels), self.depth, y, x), np.dtype(np.uint16))
        if self.maps:
            shapes["maps"] = ((t, len(self.maps), self.depth, y, x), np.dtype(np.float32))
        return shapes


class Output(Protocol):
    """A result being written; nothing stands under its final name before `commit`.

    Leaving the context without `commit` removes everything that was written.
    """

    arrays: Mapping[str, Any]  # T C Z Y X each, "fused", "decision", "maps"; assign regions to them

    def record(self, provenance: Mapping[str, Any]) -> None:
        """Replace what `commit` will write of how the result was made: more may be known than at the start."""

    def commit(self) -> None:
        """Finish, verify and move everything to its final name.

        Raises:
            StoredDataError: what was read back is not what was written.
        """

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
