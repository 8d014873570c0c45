"""The dock widget "Fuse plate": it hands what the form says to the same functions as `hybridfusion batch`."""

from __future__ import annotations

from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any
from weakref import ref

from magicgui.widgets import Container, ProgressBar, PushButton
from napari.layers import Layer
from napari.utils.notifications import show_error
from qtpy.QtCore import Qt, QTimer, QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QLabel

from hybridfusion_core.batch.records.paths import BatchPaths
from hybridfusion_core.batch.result import Event, Result
from hybridfusion_core.errors import printable
from hybridfusion_core.plates.plate import PlateField
from hybridfusion_core.progress import Progress
from napari_hybridfusion.job.task import FieldError
from napari_hybridfusion.job.worker import Jobs, Listener
from napari_hybridfusion.parts.activity import Activity
from napari_hybridfusion.parts.field_form import scroll_area, text_label
from napari_hybridfusion.parts.throughput import Pace
from napari_hybridfusion.plate.form import PlateForm
from napari_hybridfusion.plate.job import Look, PlateChoices, Seen, fusing_plate, looking
from napari_hybridfusion.plate.map import PlateMap, legend_text
from napari_hybridfusion.plate.opening import opening

if TYPE_CHECKING:
    import napari.viewer

_PARTS = 1000  # of the progress bar
_PAUSE = 300  # ms without a change, before the plate is looked at
_SHOWN = 8  # failures and warnings, in the text
_TABLE = (
    "wells",
    "fields per well",
    "times per field",
    "to fuse",
    "channels",
    "slices",
    "plane",
    "z step",
    "output",
    "time",
)


class PlateWidget(Container):  # type: ignore[misc]
    """Shows a plate, fuses it, and opens its wells."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__(labels=False)
        self.viewer = napari_viewer
        self.jobs, self.looks, self.openings = Jobs(), Jobs(), Jobs()
        self.seen: Seen | None = None
        self._look_again = False
        self._next_well: tuple[str, bool] | None = None
        self._opened: list[Layer] = []
        self._sample: str | None = None
        self._pace = Pace()
        self._activity = Activity("Fuse plate", _PARTS)
        self._make_parts()
        self._lay_out()
        self._timer = QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(_PAUSE)
        self._timer.timeout.connect(self.start_looking)
        self.form.changed.connect(self._on_form)
        self.look.changed.connect(self.start_looking)
        self.fuse.changed.connect(self.start)
        self.cancel.changed.connect(self.jobs.cancel)
        self.report.changed.connect(self.open_report)
        self.map.clicked.connect(self.open_well)
        self.viewer.layers.events.inserted.connect(self._on_layers)
        # To close the dock takes the widget out of it; Qt destroys it with the window, or when nobody refers to it.
        self.native_parent_changed.connect(self._on_parent)
        itself = ref(self)
        self.native.destroyed.connect(lambda: None if (widget := itself()) is None else widget._on_destroyed())
        self.legend.setVisible(False)
        self.report.visible = False
        self._say("")
        self._show_running(False)
        self._offer_sample()

    def _make_parts(self) -> None:
        self.form = PlateForm()
        self.look = PushButton(
            text="Look", tooltip="Look at the plate again: what is there, what is fused, and what is left."
        )
        self.fuse = PushButton(
            text="Fuse", tooltip="Fuse what is missing. Fields that are fused already stay as they are."
        )
        self.cancel = PushButton(
            text="Cancel", enabled=False, tooltip="Stop after the current tiles. Fuse goes on where it was stopped."
        )
        self.report = PushButton(text="Open report", tooltip="Open the report of the plate in the browser.")
        self.bar = ProgressBar(value=0, max=_PARTS)
        self.state = text_label("")
        self.about = QLabel()
        self.about.setTextFormat(Qt.TextFormat.RichText)
        self.about.setWordWrap(True)
        self.said = text_label("")
        self.map = PlateMap()
        self.legend = QLabel(legend_text())
        self.legend.setTextFormat(Qt.TextFormat.RichText)
        self.legend.setToolTip(
            "A click on a well opens its first field: fused, or else its stack.\n"
            "Ctrl-click keeps what was opened before."
        )
        self.legend.setWordWrap(True)

    def _lay_out(self) -> None:
        buttons = Container(widgets=[self.look, self.fuse, self.cancel], layout="horizontal", labels=False)
        self._inside = Container(labels=False)
        self._inside.extend([self.form, buttons, self.bar, self.state, self.said, self.report])
        layout = self._inside.native.layout()
        for widget in (self.legend, self.map):
            layout.insertWidget(layout.indexOf(self.said.native), widget)
        layout.addWidget(self.about)
        layout.addStretch()
        self.native.layout().addWidget(scroll_area(self._inside.native))

    def start_looking(self) -> None:
        """Find out what the chosen folder holds, beside the window."""
        self._timer.stop()
        if self.jobs.running:
            return
        if self.looks.running:
            self._look_again = True
            self.looks.cancel()
            return
        choices = self.form.choices()
        self.form.say(None)
        if choices.folder is None:
            self._show_seen(None)
            return
        self.state.value = "looking"
        show_look = partial(self._show_look, choices)
        listener = Listener(self._show_first_look, show_look, self._end_look, self._fail_to_look)
        self.looks.start(looking(choices), listener)

    def start(self) -> None:
        """Fuse the plate; what is wrong is said beside its field."""
        if self.jobs.running:
            return
        self._timer.stop()
        self._look_again = False
        self.looks.cancel()
        self.form.say(None)
        self._say("")
        self._pace = Pace(rate_text=_fields_per_time)
        self._activity.open()
        self._show_running(True)
        self.state.value = "starting"
        self.jobs.call(
            fusing_plate(self.form.choices()),
            Listener(self._show_progress, self._show_result, partial(self._end, "cancelled"), self._fail),
        )

    def open_well(self, name: str, keep: bool = False) -> None:
        """Open the first field of a well.

        Args:
            name: of the well.
            keep: what other wells were opened before.
        """
        if self.seen is None:
            return
        if self.openings.running:
            self._next_well = name, keep
            return
        self._next_well = None
        done = partial(self._show_well, name, keep)
        self.openings.start(
            opening(self.seen, name),
            Listener(lambda _: None, done, lambda: None, self._fail_to_open),
        )

    def open_report(self) -> None:
        """Open the report in the browser."""
        if self.seen is not None and self.seen.paths is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self.seen.paths.folder / "report.html")))

    def _show_seen(self, seen: Seen | None) -> None:
        self.seen = seen
        self.map.show_states(None if seen is None else seen.states)
        self.legend.setVisible(seen is not None)
        if seen is None:
            self.about.setVisible(False)
            self.report.visible = False
            return
        self.form.offer_channels([printable(each.name) for each in seen.plate.imaging.channels])
        self.report.visible = _has_report(seen.paths)

    def _show_first_look(self, seen: Seen) -> None:
        if not self.jobs.running:
            self._show_seen(seen)

    def _show_look(self, choices: PlateChoices, look: Look) -> None:
        if self.jobs.running:
            return
        self._show_seen(look.seen)
        if look.seen.problem is not None and choices.output is not None:
            self.form.say(look.seen.problem)
        self.about.setText(_described(look, sample=look.seen.plate.folder == self._sample))
        self.about.setVisible(True)
        self._say_failures(look.seen)
        self._end_look()

    def _end_look(self) -> None:
        if not self.jobs.running:
            self.state.value = ""
            if self._look_again:
                self._look_again = False
                self.start_looking()

    def _fail_to_look(self, error: Exception) -> None:
        if self.jobs.running:
            return
        again = self._look_again
        self._end_look()
        if again:
            return
        self._show_seen(None)
        self.form.explain(error)

    def _show_progress(self, step: Seen | Event) -> None:
        if isinstance(step, Seen):
            self._show_seen(step)
            return
        if step.stage == "fusing" and self.seen is not None:
            self.seen.states.take(step.unit, step.outcome)
            self.map.update()
        parts = _PARTS * step.done // max(step.total, 1)
        self.bar.value = parts
        failed = (f", {step.wells[0]} of {step.wells[1]} wells" if step.wells[1] else "") + (
            f", {step.failed} failed" if step.failed else ""
        )
        self.state.value = self._pace.describe(Progress(step.stage, step.done, step.total)) + failed
        if self._activity.show(step.stage, parts):
            self.jobs.cancel()

    def _show_result(self, result: Result) -> None:
        left = result.total - result.fused - result.kept - len(result.failures)
        parts = [f"{result.fused} of {result.total} fused"]
        parts += [
            f"{count} {what}" for count, what in ((result.kept, "were fused before"), (left, "are left")) if count
        ]
        self._end(("cancelled: " if result.interrupted else "") + ", ".join(parts))
        if self.seen is not None:
            self.report.visible = _has_report(self.seen.paths)
            self._say_failures(self.seen)
        if result.full:
            show_error(result.full)

    def _say_failures(self, seen: Seen) -> None:
        failures = seen.states.failures()
        self._say("\n".join([f"{len(failures)} failed:", *_some(_named(failures))]) if failures else "")

    def _fail(self, error: Exception) -> None:
        self._end("" if isinstance(error, FieldError) else f"failed: {error}")
        self.form.explain(error)

    def _show_well(self, name: str, keep: bool, found: list[Any]) -> None:
        if not keep:
            for layer in self._opened:
                if layer in self.viewer.layers:
                    self.viewer.layers.remove(layer)
            self._opened = []
        layers = [Layer.create(*each) for each in found]
        for layer in layers:
            layer.translate = self._place(name, layer)
            self.viewer.add_layer(layer)
        if layers:
            self.viewer.layers.selection.active = layers[0]
        if not self._opened:
            self.viewer.reset_view()
        self._opened += layers
        self.map.opened = name
        self.map.update()
        self._open_next()

    def _place(self, well: str, layer: Layer) -> Any:
        """Return where a layer lies: over that of the same well, if the sample shows it."""
        for each in self.viewer.layers:
            about = each.metadata.get("hybridfusion", {})
            if self.seen is not None and (about.get("plate"), about.get("well")) == (self.seen.plate.folder, well):
                return (*layer.translate[:-2], *each.translate[-2:])
        return layer.translate

    def _fail_to_open(self, error: Exception) -> None:
        self.form.explain(error)
        self._open_next()

    def _open_next(self) -> None:
        if self._next_well is not None:
            self.open_well(*self._next_well)

    def _end(self, state: str) -> None:
        if self.seen is not None:
            self.seen.states.end()
            self.map.update()
        self.bar.value = 0
        self.state.value = state
        self._show_running(False)
        self._activity.close()

    def _show_running(self, running: bool) -> None:
        self.fuse.enabled = self.look.enabled = self.form.enabled = not running
        self.cancel.enabled = self.bar.visible = running

    def _say(self, text: str) -> None:
        self.said.value = text
        self.said.visible = bool(text)

    def _on_form(self) -> None:
        if not self.jobs.running:
            self._timer.start()

    def _on_layers(self, _event: object = None) -> None:
        self._offer_sample()

    def _offer_sample(self) -> None:
        """Propose the plate that an open layer says it comes from, if no other was chosen."""
        plates = (each.metadata.get("hybridfusion", {}).get("plate") for each in self.viewer.layers)
        if self.form.choices().folder is None and (found := next(filter(None, plates), None)) is not None:
            self._sample = found
            self.form.folder.value = found

    def _on_parent(self, parent: object) -> None:
        if parent is None:
            for jobs in (self.jobs, self.looks, self.openings):
                jobs.cancel()

    def _on_destroyed(self) -> None:
        self._timer.stop()
        for jobs in (self.jobs, self.looks, self.openings):
            jobs.close()
        self._activity.close()
        self.viewer.layers.events.inserted.disconnect(self._on_layers)


def _has_report(paths: BatchPaths | None) -> bool:
    return paths is not None and (paths.folder / "report.html").is_file()


def _described(look: Look, *, sample: bool) -> str:
    """Return rich text: a table, then what there is to heed. All of it may hold what strangers wrote."""
    rows = ((name, look.table[name]) for name in _TABLE)
    cells = "".join(f"<tr><td>{escape(name)}&nbsp;&nbsp;</td><td>{escape(value)}</td></tr>" for name, value in rows)
    lines = _some([f"Warning: {printable(each)}" for each in look.warnings])
    if sample:
        lines.append("This sample, and what is written beside it, is deleted when the program ends.")
    if look.failing:
        lines += [f"{len(look.failing)} cannot be fused:", *_some(_named(look.failing))]
    return f"<b>{escape(look.table['plate'])}</b><table>{cells}</table>" + "".join(
        f"<p>{escape(each)}</p>" for each in lines
    )


def _named(units: Any) -> list[str]:
    pairs: list[tuple[PlateField, str]] = list(units)
    return [printable(f"{unit.name}: {reason}") for unit, reason in pairs]


def _some(lines: list[str]) -> list[str]:
    return [*lines[:_SHOWN], f"… and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else lines


def _fields_per_time(rate: float) -> str:
    return (
        f"{rate:.1f} fields/s"
        if rate >= 1
        else f"{60 * rate:.1f} fields/min"
        if rate >= 1 / 60
        else f"{3600 * rate:.1f} fields/h"
    )
