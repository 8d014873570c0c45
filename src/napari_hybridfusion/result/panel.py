"""What can be done with a result: ask it, correct it, look at it in three dimensions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from magicgui.widgets import CheckBox, Container, PushButton
from napari.layers import Layer
from qtpy.QtWidgets import QFileDialog, QMessageBox

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.io.suffixes import OUTPUT_KINDS, has_suffix, image_name, result_paths
from napari_hybridfusion.job.run import Fused, saving
from napari_hybridfusion.job.task import Task
from napari_hybridfusion.job.worker import Steps
from napari_hybridfusion.layers.results import result_layers
from napari_hybridfusion.parts.field_form import text_label
from napari_hybridfusion.result.about import AboutResult
from napari_hybridfusion.result.along_height import AlongHeight
from napari_hybridfusion.result.correct import corrected_path, correcting, edit_layer, leave_no_ground
from napari_hybridfusion.result.probe import attend
from napari_hybridfusion.result.shown import ShownResult, results_of, shows_result, together, window_of
from napari_hybridfusion.result.surface import height_surface

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_hybridfusion.result.focus_plot import FocusPlot
    from napari_hybridfusion.result.focus_posterior import FocusPosterior

# What holds a whole result, with its decision and its maps.
_KINDS = {f"{kind} (*{end})": end for end, kind in OUTPUT_KINDS.items() if len(result_paths(Path(f"x{end}"))) > 1}
_TILTED = (0.0, 0.0, 40.0)  # degrees; from straight above, a surface looks like the image
_NO_RESULT = "No result is selected. Click a layer of a fused image in the layer list."
_OPENED = (
    "This result was opened from a file and is already saved there. To correct it or to save it elsewhere, fuse its "
    "stack in this window."
)

Run = Callable[[Steps, Callable[[Any], object]], None]


class ResultPanel(Container):  # type: ignore[misc]
    """Appears with the first result, and speaks of the one whose layer is selected.

    Args:
        viewer: where results are shown.
        run: runs a job, and hands on what it returned.
    """

    def __init__(self, viewer: ViewerModel, run: Run) -> None:
        super().__init__(labels=False)
        self.margins = (0, 0, 0, 0)
        viewer = window_of(viewer)  # whose layers are the very ones that results know
        self._viewer, self._run = viewer, run
        self.results = results_of(viewer)
        self._surface: Layer | None = None
        self.about_window: AboutResult | None = None
        self._saved: set[str] = set()  # tokens of results that were written to a file
        self._before: list[tuple[Layer, bool]] = []  # what was visible before the surface was shown
        self._aside: list[Layer] = []  # hidden while the user paints
        self.probe = attend(viewer)
        self.plot: FocusPlot | None = None
        self.posterior: FocusPosterior | None = None
        self.paint = PushButton(
            text="Correct decision",
            tooltip="Add a layer to paint on: the label is the number of the slice that a place should come from.",
        )
        self.refuse = PushButton(
            text="Re-fuse", tooltip="Fuse again with what was painted; what is corrected is recorded with the result."
        )
        self.surface = PushButton(text="3-D", tooltip="Show the height as a surface with the fused image on it.")
        self.keep = PushButton(text="Save", tooltip="Write the result with its decision, its maps and how it was made.")
        self.about = PushButton(text="About this result", tooltip="How it was made, and a sentence for your Methods.")
        self.remove = PushButton(text="Remove result", tooltip="Take all its layers out of the window; files stay.")
        self.follow = CheckBox(
            text="Paint the slice that is shown",
            value=True,
            tooltip="The label follows the slider: it is the number of the slice that the slider shows, plus one.",
        )
        self.said = text_label("")
        rows = [[self.paint, self.refuse], [self.surface, self.keep], [self.about, self.remove]]
        for row in (Container(widgets=each, layout="horizontal", labels=False) for each in rows):
            row.margins = (0, 0, 0, 0)
            self.append(row)
        self.append(self.follow)
        self.along = AlongHeight(viewer, self.results, run, self._say)
        self.append(self.along)
        self.append(self.said)
        self.follow.visible = False
        self.paint.changed.connect(self.start_painting)
        self.refuse.changed.connect(self.start_correcting)
        self.surface.changed.connect(self.show_surface)
        self.keep.changed.connect(self.start_saving)
        self.about.changed.connect(self.show_about)
        self.remove.changed.connect(self.remove_result)
        self.follow.changed.connect(self._use_shown_slice)
        viewer.dims.events.current_step.connect(self._use_shown_slice)
        viewer.layers.events.removed.connect(self._on_removed)
        viewer.layers.selection.events.active.connect(self.follow_selection)

    def show_result(self, task: Task, fused: Fused, *, replace: bool = False) -> None:
        """Add a result to the window, and take out, if that is wanted, the last one of the same layers."""
        old = self.results.latest_of(task.source) if replace else None
        # Made before the old ones go, and added after: else napari would give them other names.
        layers = _made(fused, task.source)
        if old is not None:
            self._take_out(old.layers)
        self._add(layers, task.source, fused, task.path)

    def show_about(self) -> None:
        """Show how the selected result was made."""
        layer = self._viewer.layers.selection.active
        if layer is None or not shows_result(layer):
            self._say(_NO_RESULT)
            return
        provenance = layer.metadata["hybridfusion"].get("provenance") or {}
        if not provenance:
            self._say("Its files do not say how it was made; maybe another program has rewritten them.")
            return
        self._say("")
        self.about_window = AboutResult(self.native.window(), layer.name, provenance)
        self.about_window.show()

    def remove_result(self) -> None:
        """Take all layers of the selected result out of the window; of one that is in memory alone, ask before."""
        layer = self._viewer.layers.selection.active
        if layer is None or not shows_result(layer):
            self._say(_NO_RESULT)
            return
        active = self.results.active()
        if active is not None and active[0].path is None and active[0].token not in self._saved:
            question = "This result is in no file. Remove it from the window all the same?"
            answer = QMessageBox.question(self.native, "Remove result", question)
            if answer != QMessageBox.StandardButton.Yes:
                return
        self._say("")
        self._take_out(together(self._viewer, layer))

    def hold(self, *, on: bool) -> None:
        """Work out nothing while something else needs the machine."""
        self.enabled = not on
        if self.posterior is not None:
            self.posterior.hold(on=on)

    def start_painting(self) -> None:
        """Add a layer to correct the selected result's decision on."""
        if (active := self._active()) is None:
            return
        try:
            edit = edit_layer(self._viewer, *active)
        except UserInputError as error:
            self._say(str(error))
            return
        alike = [each for each in self._painted() if (each.decision, each.place) == (edit.decision, edit.place)]
        if alike:
            edit = alike[-1]
            edit.layer.visible = True
        else:
            self._viewer.add_layer(edit.layer)
            self.results.edits.append(edit)  # not before: those whose layer is not there are forgotten
        # The slices to choose from lie below.
        hidden = [each for each in together(self._viewer, active[1]) if each.visible]
        for each in hidden:
            each.visible = False
        self._aside += hidden
        self._viewer.layers.selection.active = edit.layer
        leave_no_ground(self._viewer)
        edit.layer.mode = "paint"
        self.follow.visible = True
        self._use_shown_slice()
        self._say_what_is_painted(edit)

    def start_correcting(self) -> None:
        """Fuse the result again whose decision was painted on."""
        edits = self._painted()
        if not edits:
            self._say("There is nothing painted yet. Press Correct decision, and paint.")
            return
        base = edits[0].result
        old = self.results.correction_of(base)
        path = None if base.path is None else corrected_path(base.path)
        self._say("")
        steps = correcting(edits, path, overwrite=old is not None)
        self._run(steps, lambda fused: self._show_corrected(base, old, fused))

    def show_surface(self) -> None:
        """Show the selected result's height in three dimensions, alone; or go back to what was shown before."""
        if self._surface is not None:
            self._leave_surface()
            return
        layer = self._viewer.layers.selection.active
        if layer is None or not shows_result(layer):
            self._say(_NO_RESULT)
            return
        try:
            surface = height_surface(self._viewer, layer)
        except UserInputError as error:
            self._say(str(error))
            return
        self._say("")
        self._before = [(each, bool(each.visible)) for each in self._viewer.layers]
        for each in self._viewer.layers:
            each.visible = False
        self._viewer.add_layer(surface)
        self._surface = surface
        self.surface.text = "Back to 2-D"
        self._viewer.dims.ndisplay = 3
        self._viewer.reset_view()
        self._viewer.scene.camera.angles = _TILTED

    def _leave_surface(self) -> None:
        if self._surface in self._viewer.layers:
            self._viewer.layers.remove(self._surface)
        self._surface = None
        self.surface.text = "3-D"
        self._viewer.dims.ndisplay = 2
        for layer, visible in self._before:
            if layer in self._viewer.layers:
                layer.visible = visible
        self._viewer.reset_view()

    def start_saving(self) -> None:
        """Ask where to, and write the selected result there."""
        if (active := self._active()) is None:
            return
        if active[0].path is not None:
            self._say(f"It is on disk already: {active[0].path}")
            return
        proposed = str(proposed_path(active[0]))
        name, kind = QFileDialog.getSaveFileName(self.native, "Save the result", proposed, ";;".join(_KINDS))
        if name and (path := self._agreed_path(Path(name), kind)) is not None:
            steps = saving(active[0].fused, path, overwrite=True)
            token = active[0].token

            def saved(_path: Path) -> None:
                self._saved.add(token)
                self._say(f"Saved: {path}")

            self._run(steps, saved)

    def _agreed_path(self, path: Path, kind: str) -> Path | None:
        """Return a path with the suffix of the chosen kind; None if what stands there is to stay.

        The dialog has asked about a file of the very name that was chosen; it knows nothing of folders and of suffixes
        that are added here.
        """
        asked = path.is_file()
        if not has_suffix(path, tuple(_KINDS.values())):
            path, asked = path.with_name(path.name + _KINDS.get(kind, ".ome.zarr")), False
        if path.exists() and not asked:
            question = f"{path.name} exists already. Replace it?"
            answer = QMessageBox.question(self.native, "Save the result", question)
            return path if answer == QMessageBox.StandardButton.Yes else None
        return path

    def follow_selection(self, _event: object = None) -> None:
        """Appear if the selected layer is of a result; the plot is of those alone whose stack is known."""
        layer, active = self._viewer.layers.selection.active, self.results.active()
        if layer is not None and shows_result(layer):
            self.visible = True
        if active is not None:
            self._draw(active[0], None)

    def close(self) -> None:
        """Follow no longer; the pointer reads results whatever docks are open."""
        self._viewer.dims.events.current_step.disconnect(self._use_shown_slice)
        self.along.close()
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        if self.posterior is not None:
            self.posterior.close()
        self._viewer.layers.selection.events.active.disconnect(self.follow_selection)

    def _add(self, layers: list[Layer], source: Any, fused: Fused, path: Any, base: ShownResult | None = None) -> None:
        token = uuid4().hex
        for layer in layers:
            layer.metadata["hybridfusion"]["result"] = token
            layer.name = layer.name if base is None else f"corrected {layer.name}"
            self._viewer.add_layer(layer)
        for layer in layers:
            # The decision's legend is the strip under the plot: a colorbar would not say where a slice ends.
            if layer.metadata["hybridfusion"]["product"] not in ("fused", "decision"):
                layer.colorbar.visible = True
                # The colorbar has no words: the name says what it is and in which unit.
                layer.name_overlay.position = layer.colorbar.position
                layer.name_overlay.visible = True
        self.results.add(ShownResult(tuple(layers), source, fused, path, base))
        # The pointer reads what lies under the selected layer.
        self._viewer.layers.selection.active = layers[0]
        self.follow_selection()

    def _show_corrected(self, base: ShownResult, old: ShownResult | None, fused: Fused) -> None:
        if old is not None:
            self._take_out(old.layers)
        self._come_back()
        for edit in self._painted():
            edit.layer.visible = False  # it would cover what has become of it
            edit.layer.mode = "pan_zoom"
        path = None if base.path is None else corrected_path(base.path)
        self._add(_made(fused, base.source), base.source, fused, path, base)

    def _take_out(self, layers: Iterable[Layer]) -> None:
        for layer in list(layers):
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)

    def _on_removed(self, _event: object = None) -> None:
        """Bring back what stepped aside for painting, and go when there is no result any more."""
        if self._aside and not self._edits():
            self._come_back()
        if not any(shows_result(each) for each in self._viewer.layers):
            self.visible = False

    def _come_back(self) -> None:
        for layer in self._aside:
            if layer in self._viewer.layers:
                layer.visible = True
        self._aside = []
        self.follow.visible = False

    def _use_shown_slice(self, _event: object = None) -> None:
        """Let the label that is painted be the slice that the slider shows."""
        selected = self._viewer.layers.selection.active
        edit = next((each for each in self._edits() if each.layer is selected), None)
        if edit is None or not self.follow.value:
            return
        if (number := edit.result.shown_slice(self._viewer)) is not None:
            edit.layer.selected_label = number
            self._say_what_is_painted(edit)

    def _say_what_is_painted(self, edit: Any) -> None:
        number = int(edit.layer.selected_label)
        self._say(
            f"Painting slice {number} (slider {number - 1}) of {edit.result.fused.spec.slices}; 0 is nothing in focus. "
            "The strip shows the slices' colours. Then press Re-fuse."
        )

    def _edits(self) -> list[Any]:
        self.results.edits = [each for each in self.results.edits if each.layer in self._viewer.layers]
        return self.results.edits

    def _painted(self) -> list[Any]:
        """Return what was painted on the result that is selected, or else on the one that was painted on last."""
        edits, active = self._edits(), self.results.active()
        bases: Iterable[ShownResult] = [] if active is None else [active[0].base or active[0]]
        selected = self._viewer.layers.selection.active
        bases = [*(each.result for each in edits if each.layer is selected), *bases]
        for base in [*bases, *(each.result for each in reversed(edits))]:
            if found := [each for each in edits if each.result is base]:
                return found
        return []

    def _active(self) -> tuple[ShownResult, Layer] | None:
        active = self.results.active()
        layer = self._viewer.layers.selection.active
        if active is None:
            self._say(_OPENED if layer is not None and shows_result(layer) else _NO_RESULT)
        else:
            self._say("")
        return active

    def _say(self, text: str) -> None:
        self.said.value = text
        self.said.visible = bool(text)

    def _draw(self, result: ShownResult, posterior: Any) -> None:
        if self.plot is None:
            from napari_hybridfusion.result.focus_plot import FocusPlot  # noqa: PLC0415 - matplotlib takes half a second
            from napari_hybridfusion.result.focus_posterior import FocusPosterior  # noqa: PLC0415 - with the plot

            self.plot = FocusPlot()
            self.plot.chosen = self.probe.show
            self.native.layout().insertWidget(0, self.plot)
            self.posterior = FocusPosterior(self._viewer, self.results, self._draw)
        fused = result.fused
        numbers = [index + 1 for index in fused.job.slices]
        self.plot.show_posterior(numbers, result.source.stack.shape[2], posterior)


def _made(fused: Fused, source: Any) -> list[Layer]:
    return [Layer.create(*each) for each in result_layers(fused.spec, fused.levels, source)]


def proposed_path(result: ShownResult) -> Path:
    """Return where a result would be looked for: beside its input, or in the home folder, as STACK_fused.ome.zarr."""
    sources = [Path(each) for each in result.source.stack.source if Path(each).is_absolute()]
    folder = sources[0].parent if sources else Path.home()
    name = image_name(sources[0]) if sources else re.sub(r"[^\w.-]+", "_", result.source.name).strip("_") or "stack"
    return folder / f"{name}_fused.ome.zarr"
