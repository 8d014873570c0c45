"""Correct a decision by hand: a layer to paint the right slice on, and what the result becomes by it."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels, Layer
from napari.utils import DirectLabelColormap
from numpy.typing import NDArray

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.fusion.corrections import UNTOUCHED, Correction, correct, corrected_spec
from hybridfusion_core.io.create import create_output
from hybridfusion_core.io.palette import slice_colors
from hybridfusion_core.progress import Progress
from napari_hybridfusion.job.run import Fused, stored
from napari_hybridfusion.layers.results import plane_views
from napari_hybridfusion.result.shown import Place, ShownResult, decision_of

if TYPE_CHECKING:
    from napari.components import ViewerModel

_SIDE = 4096  # px; of larger planes only what is in view can be painted: a layer that is edited stands in memory
_BRUSH = 20  # px
_UNKNOWN = (1.0, 0.0, 1.0, 1.0)  # numbers of no slice
_SUFFIX = ".corrected.ome.zarr"


@dataclass(frozen=True)
class Edit:
    """A layer that the user paints on.

    Attributes:
        result: whose decision it is; one that nobody corrected.
        layer: the numbers of the slices, counted from 1.
        decision: index along C.
        place: t, y, x of its first pixel.
    """

    result: ShownResult
    layer: Labels
    decision: int
    place: Place

    def correction(self) -> Correction:
        """Return what differs from what was decided."""
        axes = self.result.source.frame.axes
        numbers = np.asarray(self.layer.data).squeeze(
            tuple(index for index, axis in enumerate(axes) if axis not in "YX")
        )
        numbers = (numbers if axes.index("Y") < axes.index("X") else numbers.T).astype(np.int32)
        decided = _decided(self.result, self.decision, self.place, numbers.shape)
        t, y, x = self.place
        return Correction(t, self.decision, y, x, np.where(numbers == decided, UNTOUCHED, numbers))


def edit_layer(viewer: ViewerModel, result: ShownResult, layer: Layer) -> Edit:
    """Make a layer to paint on, over the decision that a layer of a result belongs to, at the time that is shown.

    Raises:
        UserInputError: the result has no decision.
    """
    base = result.base or result
    if not base.fused.spec.decision_channels:
        raise UserInputError("This result has no decision to correct. Tick decision, and fuse the stack again.")
    decision = decision_of(layer)
    frames, _, *plane = base.fused.spec.shape
    t, *middle = result.pixel(layer, [*viewer.dims.point[:-2], *viewer.scene.camera.center[-2:]])
    t = min(max(0, t), frames - 1)
    rows, columns = (_window(*each) for each in zip(middle, plane, strict=True))
    ends = {"T": (t, t + 1), "Y": rows, "X": columns}
    if len(base.fused.spec.decision_channels) > 1:
        ends["C"] = (decision, decision + 1)
    frame = result.source.frame.part(**ends)
    place = (t, rows[0], columns[0])
    # A correction is painted on, not begun anew.
    numbers = _decided(result, decision, place, (rows[1] - rows[0], columns[1] - columns[0]))
    (view,) = plane_views([numbers[np.newaxis, np.newaxis, np.newaxis]], frame, None if "C" in frame.axes else 0)
    slices = base.fused.spec.slices
    colors: dict[int | None, Any] = {None: np.array(_UNKNOWN)}
    colors.update((number, np.array(color) / 255) for number, color in enumerate(slice_colors(slices)))
    labels = Labels(
        view.astype(np.uint16),
        **frame.place(view.shape),
        name=f"{base.source.stack.name} decision, to paint on",
        colormap=DirectLabelColormap(color_dict=colors),
        opacity=0.5,
        metadata={"hybridfusion": {"product": "painted"}},
    )
    labels.brush_size = _BRUSH
    return Edit(base, labels, decision, place)


def leave_no_ground(viewer: ViewerModel) -> None:
    """Draw the circle of the brush without a ground behind it.

    napari 0.9 leaves that ground in the scene when painting ends. Drawn again once the layers are gone, it makes a
    software renderer (Mesa) end the program.
    """
    circle = getattr(viewer.canvas.overlays, "_brush_circle", None)
    if circle is not None:
        circle.box = False


def correcting(edits: Sequence[Edit], path: Path | None, *, overwrite: bool) -> Generator[Progress, None, Fused]:
    """Fuse a result again with what was painted.

    Args:
        edits: of one result.
        path: where the corrected result goes; None keeps it in memory.
        overwrite: replace what stands there.

    Returns:
        (on exhaustion) the corrected result.

    Raises:
        UserInputError: nothing was painted, or a slice that does not exist.
    """
    base = edits[0].result
    corrections = [each.correction() for each in edits]
    if all((each.painted == UNTOUCHED).all() for each in corrections):
        raise UserInputError(
            "Nothing was painted: the decision is what it was. Show the slice that a place should come from, and paint "
            "on the decision."
        )
    job, stack, spec = base.fused.job, base.source.stack, base.fused.spec
    whole = {name: levels[0] for name, levels in base.fused.levels.items()}
    new = corrected_spec(job, spec, corrections)
    if path is None:
        arrays: dict[str, NDArray[Any]] = {name: np.zeros(*about) for name, about in new.array_shapes().items()}
        yield from correct(job, stack, spec, whole, corrections, arrays)
        return Fused(new, {name: [array] for name, array in arrays.items()}, job)
    with create_output(path, new, block=job.plan.block, overwrite=overwrite) as output:
        yield from correct(job, stack, spec, whole, corrections, output.arrays)
        output.commit()
    return Fused(new, stored(path, new), job)


def corrected_path(path: Path) -> Path:
    """Return where the correction of a result on disk goes: beside it."""
    return path.with_name(path.name[: -len(".ome.zarr")] + _SUFFIX)


def _decided(result: ShownResult, decision: int, place: Place, shape: tuple[int, ...]) -> NDArray[np.int32]:
    t, y, x = place
    decisions = result.fused.levels["decision"][0]
    return np.asarray(decisions[t, decision, 0, y : y + shape[0], x : x + shape[1]]).astype(np.int32)


def _window(middle: int, length: int) -> tuple[int, int]:
    start = min(max(0, middle - _SIDE // 2), max(0, length - _SIDE))
    return start, min(start + _SIDE, length)
