"""The dock widget "Fuse plate": it hands what the form says to the same functions as `hybridfusion batch`."""

from __future__ import annotations

from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any

from magicgui.widgets import ComboBox, Container, PushButton
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
from napari_hybridfusion.job.task import in_this_window
from napari_hybridfusion.job.worker import Jobs, Listener
from napari_hybridfusion.parts.dock import PARTS, Dock
from napari_hybridfusion.parts.field_form import text_label
from napari_hybridfusion.parts.throughput import Pace
from napari_hybridfusion.plate.form import PlateForm
from napari_hybridfusion.plate.job import Look, PlateChoices, Seen, fusing_plate, looking
from napari_hybridfusion.plate.map import PlateMap, legend_text
from napari_hybridfusion.plate.opening import Opened, opening
from napari_hybridfusion.result.probe import attend

if TYPE_CHECKING:
    import napari.viewer

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


class PlateWidget(Dock):
    """Shows a plate, fuses it, and opens its wells."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        cancelling = "cancelling: the fields that have begun come to their end …"
        super().__init__(napari_viewer, "Fuse plate", PlateForm(), cancelling, "A plate")
        self.looks, self.openings = Jobs(), Jobs()
        self.seen: Seen | None = None
        self._look_again = False
        self._next: tuple[str, bool, str | None] | None = None
        self._opened: list[Layer] = []
        self._shown: Opened | None = None
        self._sample: str | None = None
        self._pace = Pace()
        self._make_parts()
        self._lay_out()
        self._timer = QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(_PAUSE)
        self._timer.timeout.connect(self.start_looking)
        self.form.changed.connect(self._on_form)
        self.look.changed.connect(self.start_looking)
        self.fuse.changed.connect(self.start)
        self.report.changed.connect(self.open_report)
        self.map.clicked.connect(self.open_well)
        self.field.changed.connect(self._open_field)
        self.viewer.layers.events.inserted.connect(self._on_layers)
        self.legend.setVisible(False)
        self.report.visible = self.field.visible = False
        self._say("")
        self._show_running(False)
        self._offer_sample()

    def _make_parts(self) -> None:
        self.look = PushButton(
            text="Look again", tooltip="Look at the plate again: what is there, what is fused, and what is left."
        )
        self.fuse = PushButton(
            text="Fuse", tooltip="Fuse what is missing. Fields that are fused already stay as they are."
        )
        self.cancel.tooltip = "Stop after the current tiles. Fuse goes on where it was stopped."
        self.report = PushButton(text="Open report", tooltip="Open the report of the plate in the browser.")
        self.about = QLabel()
        self.about.setTextFormat(Qt.TextFormat.RichText)
        self.about.setWordWrap(True)
        self.said = text_label("")
        self.map = PlateMap()
        self._fields: list[tuple[str, str]] = []
        self.field = ComboBox(choices=lambda _: self._fields, tooltip="All fields of the well; choose one to open it.")
        self.legend = QLabel(legend_text())
        self.legend.setTextFormat(Qt.TextFormat.RichText)
        self.legend.setToolTip(
            "A click on a well opens its first field: fused, or else its stack.\n"
            "Ctrl-click keeps what was opened before."
        )
        self.legend.setWordWrap(True)

    def _lay_out(self) -> None:
        buttons = Container(widgets=[self.look, self.fuse, self.cancel], layout="horizontal", labels=False)
        buttons.margins = (0, 0, 0, 0)
        inside = Container(labels=False)
        inside.extend([self.form, buttons, self.bar, self.state, self.field, self.said, self.report])
        layout = inside.native.layout()
        for widget in (self.legend, self.map):
            layout.insertWidget(layout.indexOf(self.field.native), widget)
        layout.addWidget(self.about)
        self._show_inside(inside)

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
        self.form.remember()
        self._pace = Pace(rate_text=_fields_per_time)
        self._begin()
        self.jobs.call(
            fusing_plate(self.form.choices()),
            Listener(self._show_progress, self._show_result, partial(self._end, "cancelled"), self._fail),
        )

    def open_well(self, name: str, keep: bool = False, field: str | None = None) -> None:
        """Open a field of a well.

        Args:
            name: of the well.
            keep: what other wells were opened before.
            field: its name; None takes the first one that is fused, or else the first one.
        """
        if self.seen is None:
            return
        if self.openings.running:
            self._next = name, keep, field
            return
        self._next = None
        done = partial(self._show_well, name, keep)
        self.openings.start(
            opening(self.seen, name, field),
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
        parts = PARTS * step.done // max(step.total, 1)
        failed = (f", {step.wells[0]} of {step.wells[1]} wells" if step.wells[1] else "") + (
            f", {step.failed} failed" if step.failed else ""
        )
        self._fill(step.stage, parts, self._pace.describe(Progress(step.stage, step.done, step.total)) + failed)

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
            self._offer_fields()
            self._open_what_is_fused_now()
        if result.full:
            show_error(result.full)

    def _say_failures(self, seen: Seen) -> None:
        failures = seen.states.failures()
        self._say("\n".join([f"{len(failures)} failed:", *_some(_named(failures))]) if failures else "")

    def _show_well(self, name: str, keep: bool, found: Opened) -> None:
        if not keep:
            for layer in self._opened:
                if layer in self.viewer.layers:
                    self.viewer.layers.remove(layer)
            self._opened = []
        layers = [Layer.create(*each) for each in found.layers]
        for layer in layers:
            layer.translate = self._place(name, layer)
            self.viewer.add_layer(layer)
        if layers:
            self.viewer.layers.selection.active = layers[0]
            attend(self.viewer)
        if not self._opened:
            self.viewer.reset_view()
        self._opened += layers
        self._shown = found
        self.map.opened = name
        self.map.update()
        self._offer_fields()
        self._open_next()

    def _offer_fields(self) -> None:
        """Offer all fields of the well that was opened last."""
        unit = None if self._shown is None else self._shown.unit
        known = {} if unit is None or self.seen is None else self.seen.states.fields(unit.well)
        self._fields = [(printable(f"{unit.well}, field {name}, {said}"), name) for name, said in known.items() if unit]
        with self.field.changed.blocked():
            self.field.reset_choices()
            if unit is not None and unit.field in known:
                self.field.value = unit.field
        self.field.visible = bool(known)

    def _open_field(self, name: str) -> None:
        if self._shown is not None and self._shown.unit is not None:
            self.open_well(self._shown.unit.well, False, name)

    def _open_what_is_fused_now(self) -> None:
        """Show the fused field in place of its stack, where that alone is open."""
        shown = self._shown
        if self.seen is None or shown is None or shown.unit is None or shown.fused:
            return
        alone = all(layer in self._opened for layer in self.viewer.layers)
        if alone and self.seen.states.first_fused(shown.unit.well, shown.unit.field) is not None:
            self.open_well(shown.unit.well, False, shown.unit.field)

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
        if self._next is not None:
            self.open_well(*self._next)

    def _end(self, state: str) -> None:
        if self.seen is not None:
            self.seen.states.end()
            self.map.update()
        super()._end(state)

    def _show_running(self, running: bool) -> None:
        super()._show_running(running)
        self.fuse.enabled = self.look.enabled = not running

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
        super()._on_parent(parent)
        if parent is None:
            for jobs in (self.looks, self.openings):
                jobs.cancel()

    def _on_destroyed(self) -> None:
        super()._on_destroyed()
        self._timer.stop()
        for jobs in (self.looks, self.openings):
            jobs.close()
        self.viewer.layers.events.inserted.disconnect(self._on_layers)


def _has_report(paths: BatchPaths | None) -> bool:
    return paths is not None and (paths.folder / "report.html").is_file()


def _described(look: Look, *, sample: bool) -> str:
    """Return rich text: a table, then warnings. All of it may hold text from untrusted files."""
    starting = {"time": ", once the processes have started"}
    rows = ((name, look.table[name] + starting.get(name, "")) for name in _TABLE)
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
    return [printable(f"{unit.name}: {in_this_window(reason)}".replace("\n  ", " ")) for unit, reason in pairs]


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
