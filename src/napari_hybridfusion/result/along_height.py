"""The channels of a result's stack along its height: two sliders, and a picture that follows them."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np
from magicgui.widgets import CheckBox, ComboBox, Container, FloatSlider, PushButton
from napari.layers import Layer
from numpy.typing import NDArray

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.fusion.projections import to_dtype
from hybridfusion_core.fusion.result import FuseResult
from hybridfusion_core.fusion.slab import Slab, along_heights
from hybridfusion_core.io.result_spec import ResultSpec
from hybridfusion_core.progress import Progress
from hybridfusion_core.surface.heights import Heights, open_heights
from hybridfusion_core.surface.projection import describe, into_array, resolved
from hybridfusion_core.surface.request import make_project_request
from napari_hybridfusion.job.worker import Steps
from napari_hybridfusion.layers.results import fused_layers, plane_views
from napari_hybridfusion.result.shown import ShownResult, ShownResults

if TYPE_CHECKING:
    from napari.components import ViewerModel

_SIDE = 512  # px of the picture that follows the sliders
_MOST = 1 << 28  # bytes of a stack that is read in the window's own thread
_HOWS = ("max", "mean", "sum", "median")
_TITLE = "along the height"

Run = Callable[[Steps, Callable[[Any], object]], None]


class AlongHeight(Container):  # type: ignore[misc]
    """Shows the selected result's stack at, above or below its height.

    Args:
        viewer: where results are shown.
        results: of that window.
        run: runs a job, and hands on what it returned.
        say: shows a sentence.
    """

    def __init__(self, viewer: ViewerModel, results: ShownResults, run: Run, say: Callable[[str], None]) -> None:
        super().__init__(labels=True)
        self.margins = (0, 0, 0, 0)
        self._viewer, self._results, self._run, self._say = viewer, results, run, say
        self._shown: _Preview | None = None
        self.live = CheckBox(
            text="Along the height",
            tooltip="Show the channels at, above or below the height, coarsely, while the sliders move.",
        )
        self.offset = FloatSlider(label="Offset", min=-1, max=1, tooltip="From the height to the middle of the slab.")
        self.thickness = FloatSlider(label="Thickness", min=0, max=1, tooltip="Of the slab; 0 is the sheet itself.")
        self.how = ComboBox(label="As", choices=_HOWS, tooltip="What becomes of the values through the slab.")
        self.make = PushButton(text="Project", tooltip="Add it in full resolution.")
        self.extend((self.live, self.offset, self.thickness, self.how, self.make))
        self._unfold(False)
        self.live.changed.connect(self.switch)
        for each in (self.offset, self.thickness, self.how):
            each.changed.connect(self._follow)
        self.make.changed.connect(self.start)
        viewer.dims.events.current_step.connect(self._follow)

    def switch(self, on: bool) -> None:
        """Begin to follow the sliders, or take the picture away again."""
        self._leave()
        self._unfold(False)
        if not on:
            return
        active = self._results.active()
        try:
            if active is None:
                raise UserInputError("No result that was made in this window is selected. Fuse a stack, and click it.")
            self._shown = _Preview(self._viewer, active[0])
        except UserInputError as error:
            self._say(str(error))
            self.live.value = False
            return
        self._say("")
        depth, unit = self._shown.depth, self._shown.unit
        self.offset.min, self.offset.max, self.thickness.max = -depth, depth, depth
        self.offset.label, self.thickness.label = f"Offset ({unit})", f"Thickness ({unit})"
        self._unfold(True)
        self._follow()

    def start(self) -> None:
        """Project in full resolution beside the window, and show that."""
        if self._shown is None:
            return
        result, slab = self._shown.result, self._slab()
        self._run(_projecting(result, slab), lambda made: self._add(result, *made))

    def close(self) -> None:
        """Follow no longer."""
        self._viewer.dims.events.current_step.disconnect(self._follow)
        self._leave()

    def _add(self, result: ShownResult, spec: ResultSpec, array: NDArray[Any]) -> None:
        self.live.value = False
        for each in fused_layers(spec, [array], result.source, _TITLE):
            each[1]["metadata"] = {}  # it explains nothing, and is no result to correct
            self._viewer.add_layer(Layer.create(*each))

    def _slab(self) -> Slab:
        return Slab(float(self.offset.value), float(self.thickness.value), self.how.value)

    def _follow(self, _event: object = None) -> None:
        if self._shown is not None:
            self._shown.draw(self._slab())

    def _leave(self) -> None:
        if self._shown is not None:
            self._shown.remove()
        self._shown = None

    def _unfold(self, on: bool) -> None:
        for each in (self.offset, self.thickness, self.how, self.make):
            each.visible = on


class _Preview:
    """A coarse picture of the time point that is shown, as layers over the result."""

    def __init__(self, viewer: ViewerModel, result: ShownResult) -> None:
        stack = result.source.stack
        self.result, self._viewer = result, viewer
        with _heights(result) as self._heights:
            self.unit = "µm" if self._heights.unit == "um" else "slices"
        z_um = stack.z_um if self._heights.unit == "um" else None
        self._z, self._step = z_um, self._heights.step(stack)
        self.depth = float(np.ptp(z_um)) if z_um is not None else float(stack.shape[2] - 1)
        whole = math.prod(stack.shape[1:]) * stack.dtype.itemsize
        if whole > _MOST:
            raise UserInputError(
                f"One time point of the stack holds {whole / 2**20:.0f} MiB; expected at most {_MOST >> 20} to be "
                "followed by hand. Use `hybridfusion project`."
            )
        self._every = max(math.ceil(max(stack.shape[3:]) / _SIDE), 1)
        self._frame: tuple[int, list[NDArray[Any]], list[NDArray[Any]]] | None = None
        request = make_project_request()
        self._spec = describe(resolved(request, stack, self._heights), stack)
        blank = np.zeros(self._spec.array_shapes()["fused"][0], stack.dtype)
        self.layers = []
        for each in fused_layers(self._spec, [blank], result.source, f"{_TITLE} (preview)"):
            each[1]["metadata"] = {}
            self.layers.append(viewer.add_layer(Layer.create(*each)))

    def draw(self, slab: Slab) -> None:
        """Show a slab."""
        counts, heights = self._at(self._time())
        stack, fused = self.result.source.stack, []
        for planes, height in zip(counts, heights, strict=True):
            found = along_heights(slab, planes.__getitem__, height, self._z, len(planes), self._step)[0]
            plane = to_dtype(np.clip(np.nan_to_num(found), None, _most(stack.dtype)), stack.dtype)
            fused.append(plane.repeat(self._every, 0).repeat(self._every, 1)[: stack.shape[3], : stack.shape[4]])
        whole = np.broadcast_to(np.stack(fused)[None, :, None], self._spec.array_shapes()["fused"][0])
        frame = self.result.source.frame
        together = "C" in frame.axes or self._spec.rgb
        for index, layer in enumerate(self.layers):
            if layer in self._viewer.layers:
                channel = None if together else index
                layer.data = plane_views([whole], frame, channel, colours=self._spec.rgb)[0]

    def remove(self) -> None:
        """Take the layers out of the window."""
        for layer in self.layers:
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)

    def _time(self) -> int:
        frame = self.result.source.frame
        if "T" not in frame.axes:
            return 0
        axis = frame.axes.index("T")
        behind = len(frame.axes) - axis
        at = (self._viewer.dims.point[self._viewer.dims.ndim - behind] - frame.translate[axis]) / frame.scale[axis]
        return int(np.clip(round(at), 0, self.result.source.stack.shape[0] - 1))

    def _at(self, t: int) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
        """Counts Z Y X and heights Y X of every channel at a time point, thinned out; kept until another is shown."""
        if self._frame is None or self._frame[0] != t:
            stack, every = self.result.source.stack, self._every
            y, x = slice(0, stack.shape[3]), slice(0, stack.shape[4])
            counts = [
                np.stack([stack.read(t, channel, [z], y, x)[0, ::every, ::every] for z in range(stack.shape[2])])
                for channel in range(stack.shape[1])
            ]
            with _heights(self.result) as heights:
                maps = [heights.read(t, channel, y, x)[::every, ::every] for channel in range(stack.shape[1])]
            self._frame = (t, counts, maps)
        return self._frame[1:]


def _heights(result: ShownResult) -> AbstractContextManager[Heights]:
    fused = result.fused
    arrays = {name: levels[0] for name, levels in fused.levels.items()}
    made = FuseResult(arrays, fused.spec, fused.job.slices, None, False)
    sheet = 1 if fused.spec.depth == 2 else None
    return open_heights(made, result.source.stack, other_stack=True, sheet=sheet)


def _projecting(result: ShownResult, slab: Slab) -> Generator[Progress, None, tuple[ResultSpec, NDArray[Any]]]:
    """Project in full resolution, into memory."""
    stack = result.source.stack
    request = make_project_request(offset_um=slab.offset_um, thickness_um=slab.thickness_um, how=slab.how)
    with _heights(result) as heights:
        made = resolved(request, stack, heights)
        spec = describe(made, stack)
        array = np.zeros(*spec.array_shapes()["fused"])
        yield from into_array(made, stack, array)
    return spec, array


def _most(dtype: np.dtype[Any]) -> float:
    return float(np.iinfo(dtype).max) if dtype.kind in "iu" else np.inf
