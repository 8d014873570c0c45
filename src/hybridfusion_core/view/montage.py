"""A montage that shows a fusion at a glance: sharpest slice, fused image, decision mask, height."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.io.disk.atomic import Delivery
from hybridfusion_core.io.palette import NOTHING, SCALE, slice_pixels
from hybridfusion_core.view.pixels import grey, limits

if TYPE_CHECKING:  # matplotlib takes a second to import, and most fusions draw nothing
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BACKGROUND, _INK = "#14171b", "#f2f3f5"
_FONT = "DejaVu Sans"  # comes with matplotlib

# Inches
_AREA, _LONGEST, _NARROWEST = 20.0, 9.0, 2.6  # of a picture; of a picture's side; of a tile
_TITLE, _CAPTION, _BAR = 0.4, 0.3, 0.5  # above all; above each picture; under each map


@dataclass(frozen=True)
class Montage:
    """What a preview shows.

    Attributes:
        sharpest: one slice, Y X of any type, or Y X 3; float colours are in [0, 1] or counts.
        fused: the fused image, like `sharpest`, and shown with the same stretch.
        decision: Y X, uint16, slice number counted from 1; 0 where nothing is in focus. None: not shown.
        height: Y X, float, NaN where unknown. None: not shown.
        slices: Z.
        sharpest_slice: number of the slice that `sharpest` is, counted from 1.
        height_unit: of `height`.
        pixel_um: distance between the pixels of these arrays, or None if unknown.
        title: shown as it is.
    """

    sharpest: NDArray[Any]
    fused: NDArray[Any]
    decision: NDArray[Any] | None
    height: NDArray[Any] | None
    slices: int
    sharpest_slice: int
    height_unit: Literal["µm", "slices"]
    pixel_um: float | None
    title: str


def check_preview(path: Path, *, overwrite: bool) -> None:
    """Check early that a preview can be written.

    Raises:
        UserInputError: no PNG, missing folder, or an existing file that may not be replaced.
    """
    _delivery(path, overwrite=overwrite).discard()


def write_preview(path: Path, montage: Montage) -> None:
    """Draw a montage and write it as PNG; an existing file is replaced once the new one is complete.

    Raises:
        UserInputError: no PNG, or missing folder.
    """
    delivery = _delivery(path, overwrite=True)
    try:
        _draw(montage, delivery.part(path))
        delivery.publish()
    finally:
        delivery.discard()


def _delivery(path: Path, *, overwrite: bool) -> Delivery:
    if path.suffix.lower() != ".png" or path.is_dir():
        raise UserInputError(
            f"The preview {path.name!r} is {'a folder' if path.is_dir() else 'no PNG'}; expected a name that ends in "
            ".png."
        )
    return Delivery((path,), overwrite=overwrite)


def _draw(montage: Montage, path: Path) -> None:
    figure, places = _figure(montage)
    low, high = limits(montage.fused)
    sharpest = f"Sharpest slice ({montage.sharpest_slice} of {montage.slices})"
    for name, caption, shown in (("sharpest", sharpest, montage.sharpest), ("fused", "Fused", montage.fused)):
        _prepare(places[name], caption)
        places[name].imshow(grey(shown, low, high - low), cmap="gray", vmin=0, vmax=255)
    _scale_bar(places["fused"], montage)
    if montage.decision is not None:
        _draw_decision(figure, places["decision"], montage.decision, montage.slices)
    if montage.height is not None:
        _draw_height(figure, places["height"], montage.height, montage.height_unit)
        _scale_bar(places["height"], montage)
    with path.open("wb") as stream:
        figure.savefig(stream, format="png", dpi=figure.dpi, facecolor=_BACKGROUND, pil_kwargs={"compress_level": 3})


def _figure(montage: Montage) -> tuple[Figure, dict[str, Axes]]:
    """Lay out the pictures in the grid whose outline comes nearest to that of a screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    names = ["sharpest", "fused", *(name for name in ("decision", "height") if getattr(montage, name) is not None)]
    height, width = montage.fused.shape[:2]
    wide = min(math.sqrt(_AREA * width / height), _LONGEST, _LONGEST * width / height)
    high = wide * height / width
    dpi = round(min(max(max(height, width) / max(wide, high), 110), 200))  # one pixel of the image is about one here
    tile = (max(wide, _NARROWEST), max(high, _NARROWEST / 4) + _CAPTION)
    grids = [(columns, len(names) // columns) for columns in (1, 2, 3, 4) if len(names) % columns == 0]
    columns, rows = min(grids, key=lambda grid: abs(math.log(grid[0] * tile[0] / (grid[1] * tile[1]) / 1.5)))
    mosaic: list[Any] = [names[row * columns : (row + 1) * columns] for row in range(rows)]
    bars = sum(bool({"decision", "height"} & set(row)) for row in mosaic)
    size = (columns * tile[0], rows * tile[1] + bars * _BAR + _TITLE)
    figure = Figure(figsize=size, dpi=dpi, facecolor=_BACKGROUND, layout="compressed")
    FigureCanvasAgg(figure)
    title = _printable(montage.title, int(size[0] / 0.115))
    figure.suptitle(
        title, fontsize=13, fontfamily=_FONT, fontweight="bold", color=_INK, parse_math=False, usetex=False
    )  # a file name may hold two dollar signs
    return figure, figure.subplot_mosaic(mosaic)


def _prepare(axes: Axes, caption: str) -> None:
    axes.set_title(caption, fontsize=10, fontfamily=_FONT, color=_INK, loc="left")
    axes.set_axis_off()


def _draw_decision(figure: Figure, axes: Axes, decision: NDArray[Any], slices: int) -> None:
    from matplotlib.colors import ListedColormap, Normalize  # noqa: PLC0415

    colors = slice_pixels(slices)  # those that napari shows for the labels in the file
    _prepare(axes, "Slice in focus" + _but_for_nothing(decision == 0))
    axes.imshow(colors[np.minimum(decision, slices)], interpolation="nearest")
    _bar(figure, axes, ListedColormap(colors[1:] / 255), Normalize(0.5, slices + 0.5), whole=True)


def _draw_height(figure: Figure, axes: Axes, height: NDArray[Any], unit: str) -> None:
    import matplotlib as mpl  # noqa: PLC0415
    from matplotlib.colors import Normalize  # noqa: PLC0415

    known = np.isfinite(height)
    values = height[known].astype(float)
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    if high - low < 1e-6 * max(abs(low), abs(high), 1.0):
        low, high = low - 0.5, high + 0.5
    colors = np.empty((*height.shape, 3), dtype=np.uint8)
    colors[...] = NOTHING
    colors[known] = mpl.colormaps[SCALE]((values - low) / (high - low), bytes=True)[:, :3]
    _prepare(axes, f"Height in {unit}" + _but_for_nothing(~known))
    axes.imshow(colors, interpolation="nearest")
    if values.size:
        _bar(figure, axes, mpl.colormaps[SCALE], Normalize(low, high), whole=False)


def _but_for_nothing(nothing: NDArray[np.bool_]) -> str:
    return " (grey: none)" if nothing.any() else ""


def _bar(figure: Figure, axes: Axes, colormap: Any, norm: Any, *, whole: bool) -> None:
    """Draw a scale of colours under a map, marked with round numbers."""
    from matplotlib.cm import ScalarMappable  # noqa: PLC0415
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

    bar = figure.colorbar(
        ScalarMappable(norm, colormap),
        ax=axes,
        location="bottom",
        aspect=40,
        pad=0.02,
        ticks=MaxNLocator(8, integer=whole, min_n_ticks=1),
    )
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=2.5, width=0.6, color=_INK, labelcolor=_INK, labelsize=8, labelfontfamily=_FONT)


def _scale_bar(axes: Axes, montage: Montage) -> None:
    """Draw a round length in a corner of a picture, if pixels have a size and there is room."""
    from matplotlib.font_manager import FontProperties  # noqa: PLC0415
    from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar  # noqa: PLC0415

    height, width = montage.fused.shape[:2]
    if montage.pixel_um is None or max(height, width) > 8 * min(height, width):
        return
    length_um = _round_down(0.25 * width * montage.pixel_um)
    bar = AnchoredSizeBar(
        axes.transData,
        length_um / montage.pixel_um,
        f"{length_um:g} µm",
        "lower right",
        color="white",
        size_vertical=height / 80,
        fontproperties=FontProperties(family=_FONT, size=9),
    )
    bar.patch.set(facecolor="black", alpha=0.5, linewidth=0)
    axes.add_artist(bar)


def _round_down(length: float) -> float:
    """The largest of 1, 2, 5, 10, 20, … (and 0.5, 0.2, …) that is not above a length."""
    power = 10.0 ** math.floor(math.log10(length))
    return next(factor * power for factor in (5, 2, 1) if factor * power <= length * (1 + 1e-9))


def _printable(text: str, longest: int) -> str:
    """On one line, without what the font lacks, and shortened in the middle."""
    from matplotlib.font_manager import findfont, get_font  # noqa: PLC0415

    font = get_font(findfont(_FONT))
    line = "".join(each if font.get_char_index(ord(each)) else "?" for each in " ".join(text.split()))
    half = max(4, (longest - 1) // 2)
    return line if len(line) <= 2 * half + 1 else f"{line[:half]}…{line[-half:]}"
