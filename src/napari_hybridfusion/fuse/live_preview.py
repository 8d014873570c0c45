"""What a fusion would look like around the middle of the view: a classical guess at once, then the network's pixels."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
from napari.layers import Layer
from napari.utils.notifications import notification_manager
from numpy.typing import NDArray
from qtpy.QtCore import QTimer

from hybridfusion_core.errors import HybridFusionError
from hybridfusion_core.fusion.job import Job, resolve
from hybridfusion_core.fusion.loop import fuse_region, measure
from hybridfusion_core.fusion.methods import METHODS
from hybridfusion_core.fusion.result import describe
from hybridfusion_core.io.result_spec import ResultSpec
from hybridfusion_core.model.noise import FieldStatistics
from hybridfusion_core.progress import run_to_end
from hybridfusion_core.stack import Stack
from napari_hybridfusion.job.task import Choices, FieldError, prepare_job, prepare_source
from napari_hybridfusion.job.worker import Jobs, Listener
from napari_hybridfusion.layers.results import fused_layers
from napari_hybridfusion.layers.sources import Source

if TYPE_CHECKING:
    from napari.components import ViewerModel

SIDE = 512  # px; of what is previewed
_CENTRE = 96  # px; of what the network does first
# Pixels × slices that the network does until it looks whether anybody still waits: a second with OpenVINO on two cores.
_STEP = 12 * SIDE**2
_PAUSE = 30  # ms without a further change before anything is computed
# Pixels × slices that are measured as a whole, so that the preview has the very pixels of the result; of a larger field
# only what is previewed is measured.
_MEASURED = 64 * 2**20

Ends = tuple[int, int]  # first, and the one behind the last


@dataclass(frozen=True)
class Wanted:
    """What is to be previewed.

    Attributes:
        choices: what the form says, without what changes no fused pixel.
        t: time point.
        y, x: rows and columns.
    """

    choices: Choices
    t: int
    y: Ends
    x: Ends


@dataclass(frozen=True)
class Picture:
    """A preview as far as it has come.

    Attributes:
        source: of which it shows a part.
        spec: says what the pixels are.
        pixels: 1 C 1 Y X.
        method: what they were made by: "Tenengrad", or what was chosen.
        exact: whether the noise of the whole field was measured: then finished pixels are the result's.
        whole: whether all pixels were made by the chosen method.
    """

    source: Source
    spec: ResultSpec
    pixels: NDArray[Any]
    method: str
    exact: bool
    whole: bool


def region_of(centre: tuple[float, float], plane: tuple[int, int], lattice: int) -> tuple[Ends, Ends]:
    """Return the rows and columns that are previewed around a pixel.

    They move in steps of the lattice, since windows fall on its multiples.
    """
    found = []
    for middle, length in zip(centre, plane, strict=True):
        last = max(0, -(-(length - SIDE) // lattice))  # steps to the last start
        start = lattice * min(max(0, round((middle - SIDE / 2) / lattice)), last)
        found.append((start, min(start + SIDE, length)))
    return found[0], found[1]


def previewing(
    wanted: Wanted, source: Source, job: Job, remembered: dict[Any, list[FieldStatistics]]
) -> Generator[Picture, None, None]:
    """Preview a part of a stack, centre first.

    Args:
        wanted: which part.
        source: of what.
        job: how.
        remembered: statistics of the last field that was measured; changed.
    """
    stack = _at(source.stack, wanted.t)
    part = replace(source, frame=source.frame.part(T=(wanted.t, wanted.t + 1), Y=wanted.y, X=wanted.x))
    spec = describe(job, replace(stack, source=()), [])
    (y0, y1), (x0, x1) = wanted.y, wanted.x
    pixels = np.zeros((1, len(job.channels), 1, y1 - y0, x1 - x0), spec.dtype)

    def paint(by: Job, measured: list[FieldStatistics], y: slice, x: slice) -> None:
        for channel, fused in fuse_region(by, stack, measured, 0, y, x).items():
            place = (slice(y.start - y0, y.stop - y0), slice(x.start - x0, x.stop - x0))
            pixels[(0, job.channels.index(channel), 0, *place)] = fused

    def picture(method: str, *, exact: bool, whole: bool) -> Picture:
        return Picture(part, spec, pixels.copy(), method, exact, whole)

    chosen = job.request.method
    if not METHODS[chosen].decides:
        paint(job, [], slice(y0, y1), slice(x0, x1))
        yield picture(chosen, exact=True, whole=True)
        return
    here = _measured(job, _at(source.stack, wanted.t, wanted))
    classical = resolve(replace(job.request, method="tenengrad", model="auto"), source.stack)
    paint(classical, here, slice(y0, y1), slice(x0, x1))
    yield picture("Tenengrad", exact=False, whole=False)
    exact = stack.shape[3] * stack.shape[4] * len(job.slices) * len(job.channels) <= _MEASURED
    if exact:
        decided_by = (job.slices, job.request.camera, *(decider.guide for decider in job.deciders))
        key = (wanted.choices.layer, *wanted.choices.others, wanted.choices.axes, wanted.t, decided_by)
        if key not in remembered:
            found = _measured(job, stack)
            remembered.clear()
            remembered[key] = found
        here = remembered[key]
    pieces = _pieces(wanted, job.geometry.lattice, _STEP // (len(job.slices) * len(job.deciders) * (x1 - x0)))
    for number, (y, x) in enumerate(pieces):
        paint(job, here, y, x)
        yield picture(chosen, exact=exact, whole=number + 1 == len(pieces))


def _pieces(wanted: Wanted, lattice: int, rows: int) -> list[tuple[slice, slice]]:
    """Cut a region into its centre and then bands of so many rows, the middle one first; each begins on the lattice.

    The centre is done twice: strips around it would cost more, since each brings its own halo.
    """
    height = max(lattice, rows // lattice * lattice)
    across, (low, high) = slice(*wanted.x), wanted.y
    bands = [slice(start, min(start + height, high)) for start in range(low, high, height)]
    bands.sort(key=lambda band: abs(band.start + band.stop - low - high))
    centre = slice(*_middle(wanted.y, lattice)), slice(*_middle(wanted.x, lattice))
    return [centre, *((band, across) for band in bands)]


def _middle(ends: Ends, lattice: int) -> Ends:
    """Return where the centre of a region lies along an axis."""
    low, high = ends
    start = low + max(0, high - low - _CENTRE) // 2 // lattice * lattice
    return start, min(start + _CENTRE, high)


def _measured(job: Job, stack: Stack) -> list[FieldStatistics]:
    return run_to_end(measure(job, stack), None)[0]


def _at(stack: Stack, t: int, part: Wanted | None = None) -> Stack:
    """Return one time point of a stack, or a rectangle of it; nothing is read."""
    y, x = (slice(None), slice(None)) if part is None else (slice(*part.y), slice(*part.x))
    cut = {"T": slice(t, t + 1), "Y": y, "X": x}
    array = stack.array
    if not isinstance(array, (np.ndarray, da.Array)):
        array = da.from_array(array, name=False)  # type: ignore[no-untyped-call]
    return replace(stack, array=array[tuple(cut.get(letter, slice(None)) for letter in stack.axes)])


class LivePreview:
    """Follows view, time and options; works beside the window, and stops what nobody waits for any more.

    Args:
        viewer: whose view it follows, and where the preview is shown.
        choices: says what the form says.
        say: is told in words what is shown.
    """

    def __init__(self, viewer: ViewerModel, choices: Callable[[], Choices], say: Callable[[str], None]) -> None:
        self._viewer, self._choices, self._say = viewer, choices, say
        self.jobs = Jobs()
        self._on = self._held = False
        self._wanted: Wanted | None = None
        self._layers: list[Layer] = []
        self._shown_of: tuple[Layer, ...] = ()  # layers that it is a preview of
        self._watched: tuple[Layer, ...] = ()
        self._remembered: dict[Any, list[FieldStatistics]] = {}
        self._loaded: set[tuple[Any, ...]] = set()
        self._timer = QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(_PAUSE)
        self._timer.timeout.connect(self._look)
        self._events = (viewer.scene.camera.events.center, viewer.scene.camera.events.zoom, viewer.dims.events.point)
        for event in self._events:
            event.connect(self.refresh)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """What shows the preview."""
        return tuple(layer for layer in self._layers if layer in self._viewer.layers)

    @property
    def busy(self) -> bool:
        """Whether there is more to come."""
        return self._timer.isActive() or self.jobs.running

    def switch(self, *, on: bool) -> None:
        """Begin, or stop and take the preview out of the window."""
        self._on, self._wanted = on, None
        if on:
            self.refresh()
            return
        self._timer.stop()
        self.jobs.cancel()
        for layer in self.layers:
            self._viewer.layers.remove(layer)
        self._layers = []
        self._watch(())
        self._remembered.clear()
        self._say("")

    def hold(self, *, on: bool) -> None:
        """Compute nothing while something else needs the machine, and look again after that."""
        self._held = on
        if on:
            self._wanted = None
            self.jobs.cancel()
        else:
            self.refresh()

    def refresh(self, _event: object = None) -> None:
        """Something may have changed: look again in a moment."""
        if self._on:
            self._timer.start()

    def close(self) -> None:
        """Follow no longer; what is shown stays."""
        self._on = False
        self._timer.stop()
        self._watch(())
        self.jobs.close()
        for event in self._events:
            event.disconnect(self.refresh)

    def _look(self) -> None:
        """Preview what is wanted now, unless that is what is shown or being made."""
        if not self._on or self._held:
            return
        try:
            if (found := self._find()) is None:
                return
            choices, source = found
            seen = self._seen(choices, source) if _libraries(choices) in self._loaded else None
        except FieldError:
            return  # the form says it
        if seen is not None and seen[0] == self._wanted:
            return
        if self.jobs.running:
            self.jobs.cancel()  # its end comes back here
            return
        if seen is None:
            self._loaded.add(_libraries(choices))
            steps = _loading(choices, source)
        else:
            self._wanted, job = seen
            self._watch((choices.layer, *choices.others))
            steps = previewing(self._wanted, source, job, self._remembered)
        self.jobs.start(steps, Listener(self._show, lambda _: self._look(), self._look, self._fail))

    def _watch(self, layers: tuple[Layer, ...]) -> None:
        """Look again when these layers, and no others, get other pixels."""
        for layer in self._watched:
            layer.events.data.disconnect(self._forget)
        self._watched = layers
        for layer in layers:
            layer.events.data.connect(self._forget)

    def _forget(self, _event: object = None) -> None:
        """The pixels are others: what was measured and shown of those before says nothing about them."""
        self._wanted = None
        self._remembered.clear()
        self.refresh()

    def _find(self) -> tuple[Choices, Source] | None:
        """Return the chosen stack, and how to fuse it; None if the view shows no plane of it."""
        choices = replace(self._choices(), products=(), path=None, overwrite=False)
        dims = self._viewer.dims
        if choices.layer is None or choices.layer not in self._viewer.layers:
            return None
        source = prepare_source(choices)
        shown = dims.ndisplay == 2 and tuple(dims.displayed) == (dims.ndim - 2, dims.ndim - 1)
        return (choices, source) if shown and source.frame.axes.endswith("YX") else None

    def _seen(self, choices: Choices, source: Source) -> tuple[Wanted, Job]:
        """Return what the view shows of a stack."""
        job, frame, dims = prepare_job(choices, source), source.frame, self._viewer.dims
        assert choices.layer is not None  # noqa: S101 - narrows the type
        point = [*dims.point[:-2], *self._viewer.scene.camera.center[-2:]][-len(frame.axes) :]
        inside = dict(zip(frame.axes, choices.layer.world_to_data(point), strict=True))
        t = int(np.clip(round(inside.get("T", 0)), 0, source.stack.shape[0] - 1))
        y, x = region_of((inside["Y"], inside["X"]), source.stack.shape[3:], job.geometry.lattice)
        return Wanted(choices, t, y, x), job

    def _show(self, picture: Picture) -> None:
        if not self._on:
            return
        made = [Layer.create(*each) for each in fused_layers(picture.spec, [picture.pixels], picture.source, "preview")]
        shown = self.layers
        same = self._shown_of == picture.source.layers and len(shown) == len(made)
        if same and all(old.ndim == new.ndim for old, new in zip(shown, made, strict=True)):
            for old, new in zip(shown, made, strict=True):
                old.data, old.scale, old.translate = new.data, new.scale, new.translate
        else:
            selected = self._viewer.layers.selection.active
            for old in shown:
                self._viewer.layers.remove(old)
            for new in made:
                self._viewer.add_layer(new)
            self._layers, self._shown_of = made, picture.source.layers
            self._viewer.layers.selection.active = selected
        self._say(describe_picture(picture))

    def _fail(self, error: Exception) -> None:
        self._say(f"No preview: {error}")
        if not isinstance(error, HybridFusionError):
            notification_manager.receive_error(type(error), error, error.__traceback__)


def _libraries(choices: Choices) -> tuple[Any, ...]:
    """Return the choices that say which weights and libraries are needed."""
    options = dict(choices.options)
    return tuple(options.get(name) for name in ("method", "model", "device", "precision", "threads"))


def _loading(choices: Choices, source: Source) -> Generator[Picture, None, None]:
    """Load a network and what runs it beside the window, which would stand still; whatever is wrong shows later."""
    with suppress(HybridFusionError):
        prepare_job(choices, source)
    yield from ()


def describe_picture(picture: Picture) -> str:
    """Say in words what a preview is worth."""
    size = f"Preview of {picture.pixels.shape[4]} × {picture.pixels.shape[3]} px in the middle of the view"
    if not picture.whole:
        return f"{size}: {picture.method}, not finished yet."
    if not picture.exact:
        return f"{size}: {picture.method}, approximate, since the noise was measured here alone."
    return f"{size}: {picture.method}, the very pixels of the result."
