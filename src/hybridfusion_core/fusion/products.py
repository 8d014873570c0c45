"""What a fusion can give: one row each, and nothing else in this project lists them.

A new product is its function in `Evidence` (or any other) and its row here; the command line, the forms, the tile,
corrections, results and the probe read the table. It imports neither torch nor NumPy, so that `--help` answers at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from hybridfusion_core.io.palette import SCALE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hybridfusion_core.fusion.evidence import Evidence
    from hybridfusion_core.model.arrays import Array

Kind = Literal["image", "labels", "map"]


@dataclass(frozen=True)
class Painted:
    """What a correction by hand says of a rectangle; Y X each.

    Attributes:
        pixels: bool, where something was painted.
        share: in [0, 1], of the painted slice in the fused image; less than 1 in the soft border, 0 where nothing is in
            focus.
        height: position of the painted slice in the unit of the height map; NaN where nothing is in focus.
    """

    pixels: NDArray[Any]
    share: NDArray[Any]
    height: NDArray[Any]


@dataclass(frozen=True)
class Product:
    """Something that a fusion can give.

    Attributes:
        title: what layers and forms call it.
        tip: one sentence for tooltips and help.
        kind: the fused image, labels, or a float32 map.
        default: made unless others are asked for.
        along_z: a position along Z, in µm or slices; a file calls it `NAME_um` or `NAME_slices`.
        window: display limits; None takes the positions of the slices.
        colormap: of a map; matplotlib and napari both know it.
        status: how the pointer reads a value, a format with one field; `along_z` adds the unit.
        compute: decision and maps from a tile's evidence: B Y X.
        after_correction: changes a map's values, Y X, in place where a decision was painted over; None makes them NaN
            there, because nothing of it is true of what a person decided.
    """

    title: str
    tip: str
    kind: Kind = "map"
    default: bool = False
    along_z: bool = False
    window: tuple[float, float] | None = (0.0, 1.0)
    colormap: str = SCALE
    status: str = "{:.2f}"
    compute: Callable[[Evidence], Array] | None = None
    after_correction: Callable[[NDArray[Any], Painted], None] | None = None

    def corrected(self, values: NDArray[Any], painted: Painted) -> None:
        """Change a map's values, Y X, in place where a decision was painted over."""
        if self.after_correction is None:
            values[painted.pixels] = float("nan")
        else:
            self.after_correction(values, painted)

    def suffix(self, *, known_z: bool) -> str:
        """What a file adds to the product's name, so that a height says its unit."""
        return ("_um" if known_z else "_slices") if self.along_z else ""

    def unit(self, *, known_z: bool) -> str:
        """Unit of the values, "" if they have none.

        Args:
            known_z: the positions of the slices are known in µm.
        """
        return ("µm" if known_z else "slices") if self.along_z else ""


def _painted_height(values: NDArray[Any], painted: Painted) -> None:
    values[painted.pixels] = painted.height[painted.pixels]


def _painted_gain(values: NDArray[Any], painted: Painted) -> None:
    values[...] = painted.share + (1 - painted.share) * values  # at most: the two may share their noise


def _painted_focus(values: NDArray[Any], painted: Painted) -> None:
    values[painted.pixels] = painted.share[painted.pixels]  # a person said so: 1, or 0 for nothing


PRODUCTS: dict[str, Product] = {
    "fused": Product("fused", "The sharp image, in the counts of the stack.", kind="image", default=True),
    "decision": Product(
        "decision",
        "The slice that each pixel mostly comes from.",
        kind="labels",
        default=True,
        status="slice {:.0f}",
        compute=lambda evidence: evidence.decision(),
    ),
    "height": Product(
        "height",
        "Where along Z the sharp surface lies.",
        default=True,
        along_z=True,
        window=None,
        status="height {:.2f}",
        compute=lambda evidence: evidence.height(),
        after_correction=_painted_height,
    ),
    "confidence": Product(
        "confidence",
        "How sure the method is, to within one slice; from 0 to 1.",
        default=True,
        status="confidence {:.2f}",
        compute=lambda evidence: evidence.confidence(),
    ),
    "noise_gain": Product(
        "noise gain",
        "Noise of the fused image over that of one slice.",
        status="noise gain {:.2f}",
        compute=lambda evidence: evidence.noise_gain(),
        after_correction=_painted_gain,
    ),
    "in_focus": Product(
        "in focus",
        "How probable it is that anything is in focus; where it is not, the decision is 0.",
        status="in focus {:.2f}",
        compute=lambda evidence: evidence.in_focus,
        after_correction=_painted_focus,
    ),
}


def default_products() -> tuple[str, ...]:
    """Names of the products that are made unless others are asked for."""
    return tuple(name for name, product in PRODUCTS.items() if product.default)
