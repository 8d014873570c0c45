"""A montage that shows a fusion at a glance: sharpest slice, fused image, decision mask, height.

Only this file stretches contrast; the outputs themselves keep their values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.io.disk.atomic import Delivery

if TYPE_CHECKING:  # matplotlib takes a second to import, and most fusions draw nothing
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BACKGROUND, _INK, _FAINT = "#14171b", "#f2f3f5", "#9aa3ad"
_UNKNOWN = (0x3D, 0x43, 0x4B)  # nothing in focus
_FONT = "DejaVu Sans"  # comes with matplotlib
_HEIGHT_COLORS = "plasma"

# Inches
_AREA, _LONGEST, _NARROWEST = 20.0, 9.0, 2.6  # of a picture; of a picture's side; of a tile
_PAD, _GAP, _TITLE, _CAPTION, _LEGEND = 0.18, 0.22, 0.34, 0.27, 0.40


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
            ".png. Rename it."
        )
    return Delivery((path,), overwrite=overwrite)


def _draw(montage: Montage, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    maps = [part is not None for part in (montage.decision, montage.height)]
    layout = _Layout.of(montage.fused.shape[:2], 2 + sum(maps))
    figure = Figure(figsize=layout.size, dpi=layout.dpi, facecolor=_BACKGROUND)
    canvas = FigureCanvasAgg(figure)
    page = _Page(figure, layout)
    page.title(montage.title)
    low, high = _limits(montage.fused)
    slice_number = f"Sharpest slice ({montage.sharpest_slice} of {montage.slices})"
    page.picture(0, slice_number, _stretched(montage.sharpest, low, high))
    axes = page.picture(1, "Fused", _stretched(montage.fused, low, high))
    page.scale_bar(axes, montage)
    if montage.decision is not None:
        _draw_decision(page, 2, montage.decision, montage.slices)
    if montage.height is not None:
        _draw_height(page, 2 + (montage.decision is not None), montage.height, montage)
    with path.open("wb") as stream:
        canvas.print_figure(
            stream, format="png", facecolor=_BACKGROUND, dpi=layout.dpi, pil_kwargs={"compress_level": 3}
        )


def _draw_decision(page: _Page, index: int, decision: NDArray[Any], slices: int) -> None:
    from hybridfusion_core.io.palette import slice_colors  # noqa: PLC0415 - imports matplotlib

    # The colours that napari shows for the labels in the file.
    colors = np.array([(*_UNKNOWN, 255), *slice_colors(slices)[1:]], dtype=np.uint8)
    page.picture(index, "Decision (slice in focus)", colors[np.minimum(decision, slices)], smooth=False)
    legend = page.legend(index, unknown=bool((decision == 0).any()))
    legend.imshow(
        colors[None, 1:], extent=(0.5, slices + 0.5, 0, 1), aspect="auto", interpolation="nearest", origin="lower"
    )
    page.mark(legend, _slice_ticks(slices, page.width_of(legend)))


def _draw_height(page: _Page, index: int, height: NDArray[Any], montage: Montage) -> None:
    import matplotlib as mpl  # noqa: PLC0415

    known = np.isfinite(height)
    values = height[known].astype(float)
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    if high - low < 1e-6 * max(abs(low), abs(high), 1.0):
        low, high = low - 0.5, high + 0.5
    colors = np.empty((*height.shape, 4), dtype=np.uint8)
    colors[...] = (*_UNKNOWN, 255)
    colormap = mpl.colormaps[_HEIGHT_COLORS]
    colors[known] = colormap((values - low) / (high - low), bytes=True)
    axes = page.picture(index, f"Height ({montage.height_unit})", colors, smooth=False)
    page.scale_bar(axes, montage)
    legend = page.legend(index, unknown=not known.all(), bar=bool(values.size))
    if values.size:
        ramp = colormap(np.linspace(0, 1, 256), bytes=True)[None]
        legend.imshow(ramp, extent=(low, high, 0, 1), aspect="auto", interpolation="nearest", origin="lower")
        page.mark(legend, _round_ticks(low, high, page.width_of(legend)))


@dataclass(frozen=True)
class _Layout:
    """Where the tiles stand; lengths in inches, measured from the upper left corner."""

    picture: tuple[float, float]  # width, height
    columns: int
    rows: int
    dpi: int
    plain: int = 2  # tiles without a legend; they come first

    @classmethod
    def of(cls, shape: tuple[int, int], tiles: int) -> _Layout:
        """Choose the grid whose outline comes nearest to that of a screen."""
        aspect = shape[1] / shape[0]
        width = min(math.sqrt(_AREA * aspect), _LONGEST, _LONGEST * aspect)
        picture = (width, width / aspect)
        dpi = round(min(max(max(shape) / max(picture), 110), 200))  # a pixel of the image is one of the montage
        grids = [cls(picture, columns, -(-tiles // columns), dpi) for columns in range(1, tiles + 1)]
        full = [grid for grid in grids if grid.columns * grid.rows == tiles]
        return min(full, key=lambda grid: abs(math.log(grid.size[0] / grid.size[1] / 1.5)))

    @property
    def tile_width(self) -> float:
        """Width of a tile: that of the picture, or what a legend needs."""
        return max(self.picture[0], _NARROWEST)

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the whole."""
        width = self.columns * self.tile_width + (self.columns - 1) * _GAP + 2 * _PAD
        return width, self._top(self.rows) + _PAD

    def corner(self, index: int) -> tuple[float, float]:
        """Upper left corner of a tile."""
        row, column = divmod(index, self.columns)
        return _PAD + column * (self.tile_width + _GAP), self._top(row)

    def _top(self, row: int) -> float:
        legends = sum((above + 1) * self.columns > self.plain for above in range(row))
        return _PAD + _TITLE + row * (_CAPTION + self.picture[1] + 0.08) + legends * _LEGEND


class _Page:
    """Draws parts at their places in inches."""

    def __init__(self, figure: Figure, layout: _Layout) -> None:
        self._figure = figure
        self._layout = layout

    def title(self, text: str) -> None:
        self._text(_PAD, _PAD + 0.16, _printable(text, int(self._layout.size[0] / 0.115)), size=13, weight="bold")

    def picture(self, index: int, caption: str, pixels: NDArray[Any], *, smooth: bool = True) -> Axes:
        """Show pixels, uint8, Y X or Y X 3 or Y X 4, in a tile."""
        left, top = self._layout.corner(index)
        self._text(left, top + _CAPTION / 2, caption, size=10)
        width, height = self._layout.picture
        axes = self._axes(left, top + _CAPTION, width, height)
        interpolation = "auto" if smooth else "nearest"
        axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, aspect="auto", interpolation=interpolation)
        return axes

    def legend(self, index: int, *, unknown: bool, bar: bool = True) -> Axes:
        """Make room for a bar under a tile, beside a patch for "nothing in focus" if there is any."""
        left, top = self._layout.corner(index)
        top += _CAPTION + self._layout.picture[1] + 0.07
        width = self._layout.tile_width
        if unknown:
            patch = left + (width - 1.17 if bar else 0)
            self._axes(patch, top, 0.13, 0.13).imshow([[_UNKNOWN]], aspect="auto")
            self._text(patch + 0.19, top + 0.065, "nothing in focus", size=7.5, color=_FAINT)
            width -= 1.37
        return self._axes(left, top, max(width, 0.1), 0.13 if bar else 0.001)

    def width_of(self, axes: Axes) -> float:
        """Width in inches."""
        return float(axes.get_position().width * self._layout.size[0])

    def mark(self, axes: Axes, ticks: list[float]) -> None:
        """Put numbers under a bar."""
        axes.set_xticks(ticks, [f"{tick:g}".replace("-", "−") for tick in ticks])
        axes.tick_params(axis="x", length=2.5, width=0.6, pad=1.5, color=_FAINT, labelcolor=_INK, labelsize=8)
        for label in axes.get_xticklabels():
            label.set_fontfamily(_FONT)

    def scale_bar(self, axes: Axes, montage: Montage) -> None:
        """Draw a round length in a corner of a picture, if pixels have a size and there is room."""
        from matplotlib.patches import Rectangle  # noqa: PLC0415
        from matplotlib.patheffects import withStroke  # noqa: PLC0415

        width, height = self._layout.picture
        if montage.pixel_um is None or min(width, height) < 0.6:
            return
        pixels = montage.fused.shape[1]
        length_um = _round_down(0.25 * pixels * montage.pixel_um)
        length = length_um / montage.pixel_um / pixels  # of the picture's width
        right, bottom, thick = 1 - 0.12 / width, 0.12 / height, 0.045 / height
        dark = withStroke(linewidth=2, foreground="#000000b0")
        bar = Rectangle(
            (right - length, bottom), length, thick, transform=axes.transAxes, color="white", path_effects=[dark]
        )
        axes.add_patch(bar)
        axes.text(
            right - length / 2,
            bottom + thick + 0.04 / height,
            f"{length_um:g} µm",
            transform=axes.transAxes,
            horizontalalignment="center",
            verticalalignment="bottom",
            color="white",
            fontsize=9,
            fontfamily=_FONT,
            path_effects=[dark],
        )

    def _axes(self, left: float, top: float, width: float, height: float) -> Axes:
        across, down = self._layout.size
        axes = self._figure.add_axes((left / across, 1 - (top + height) / down, width / across, height / down))
        axes.set_facecolor("none")
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_visible(False)
        return axes

    def _text(
        self, left: float, middle: float, text: str, *, size: float, color: str = _INK, weight: str = "normal"
    ) -> None:
        across, down = self._layout.size
        self._figure.text(
            left / across,
            1 - middle / down,
            text,
            fontsize=size,
            fontfamily=_FONT,
            fontweight=weight,
            color=color,
            verticalalignment="center",
            parse_math=False,  # a file name may hold two dollar signs
            usetex=False,
        )


def _limits(image: NDArray[Any]) -> tuple[float, float]:
    """Values to show as black and as white."""
    finite = image[np.isfinite(image)]
    if not finite.size:
        return 0.0, 1.0
    low, high = (float(limit) for limit in np.percentile(finite.astype(np.float64), (0.3, 99.8)))
    return (low, high) if high > low else (low - 1, high + 1)


def _stretched(image: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Y X or Y X 3 of any type -> the same from 0 to 255; NaN becomes black."""
    scaled = (image.astype(np.float64) - low) * (255 / (high - low))
    return np.nan_to_num(scaled, nan=0.0).clip(0, 255).round().astype(np.uint8)


def _slice_ticks(slices: int, width: float) -> list[float]:
    """The slice numbers that fit under a bar of a width in inches, the first and the last among them."""
    room = max(2, int(width / (0.09 + 0.07 * len(str(slices)))))
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100, 200, 500, slices) if slices / step <= room)
    ticks = [number for number in range(step, slices + 1, step) if slices - number >= 0.7 * step]
    first = [1] if not ticks or ticks[0] - 1 >= 0.7 * step else []
    return [float(number) for number in (*first, *ticks, *([slices] if slices > 1 else []))]


def _round_ticks(low: float, high: float, width: float) -> list[float]:
    """Round numbers from low to high, as many as fit under a bar of a width in inches."""
    step = _round_down((high - low) / max(1, min(8, int(width / 0.5))) * 2)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step + 0.0 for number in range(first, last + 1)]


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
