"""The form of the fine-tuning widget: stacks and what they show, where to start, how long, and what to call it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from magicgui.widgets import CheckBox, ComboBox, FileEdit, FloatSpinBox, LineEdit, SpinBox
from napari.layers import Image

from napari_hybridfusion.fuse.form import is_result
from napari_hybridfusion.parts.field_form import FieldForm, text_label
from napari_hybridfusion.parts.how_boxes import device_box, length_box
from napari_hybridfusion.parts.model_box import card_text, model_box
from napari_hybridfusion.parts.path_list import PathList
from napari_hybridfusion.parts.triton import load_triton_apart

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_hybridfusion.finetune.job import FinetuneChoices

_PRESETS = [
    ("auto: as the files say", "auto"),
    ("fluorescence", "organoid"),
    ("transmitted light: brightfield, phase", "transmitted"),
    ("photographs, reflected light", "natural"),
]
_RINGS: list[tuple[str, bool | None]] = [("not stated", None), ("yes", True), ("no", False)]
_AUTO = "The shipped model for this light."
_SUFFIXES = re.compile(r"(\.ome)?\.(zarr|tiff?)$", re.IGNORECASE)


class FinetuneForm(FieldForm):
    """Everything that can be chosen about a fine-tuning, with room for a message under each field."""

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        load_triton_apart()
        self._viewer = viewer
        self._suggested = ""
        self._make_what()
        self._make_microscope()
        self._make_advanced()
        self.inputs.changed.connect(self._suggest_name)
        self.start.changed.connect(self._on_start)
        self.file.changed.connect(self._on_file)

    def choices(self) -> FinetuneChoices:
        """Return what the form says."""
        from napari_hybridfusion.finetune.job import FinetuneChoices  # noqa: PLC0415 - not before Triton is loaded

        options: dict[str, Any] = {
            "start": self.start.value,
            "preset": self.preset.value,
            "minutes": self.minutes.value,
            "steps": self.steps.value or None,
            "na": self.na.value or None,
            "wavelength_nm": self.wavelength_nm.value or None,
            "pixel_size_um": self.pixel_size_um.value or None,
            "z_step_um": self.z_step_um.value or None,
            "phase_contrast": self.phase_contrast.value,
            "axes": self.axes.value.strip() or None,
            "pattern": self.pattern.value.strip() or None,
            "corrections": self.corrections.paths,
            "device": self.device.value,
            "overwrite": self.overwrite.value,
        }
        file = self.file.value
        return FinetuneChoices(
            inputs=self.inputs.paths,
            name=self.name_of_model.value.strip(),
            file=None if file is None or str(file) in ("", ".") else Path(file),
            standard=self.standard.paths,
            repeats=self.repeats.paths,
            options=tuple(options.items()),
        )

    def _make_what(self) -> None:
        self.inputs = PathList(
            "stacks",
            "Focal stacks of one microscope: files, folders of them, whole plates. Two at least; nobody labels them,\n"
            "and nothing is ever written into them. One in four is held out, to see what changes.",
            ("Open layers", "Add the files that the open layers come from.", self._files_of_layers),
        )
        self.preset = ComboBox(label="light", choices=_PRESETS, tooltip="What the stacks show.")
        self.start = model_box("start from", "The model that is adapted; it stays as it is.")
        self.card = text_label(_AUTO)
        self.minutes = FloatSpinBox(
            label="minutes",
            value=30,
            min=0.5,
            max=10_000,
            step=5,
            tooltip="For all of it, on this machine, to look at the stacks and to write the report included. At least\n"
            "60 steps are trained, however long they take; the time left is told after the first ones.\n"
            "A training that is cancelled goes on where it was stopped.",
        )
        self.minutes.native.setDecimals(1)
        self.name_of_model = LineEdit(
            label="new model",
            tooltip="What the model is called: letters, digits, '_', '.' and '-'. It joins your own models and can be\n"
            "chosen for a fusion; nothing uses it unless you say so.",
        )
        self.overwrite = CheckBox(
            text="Begin anew, and replace what is there",
            tooltip="A model of this name, and what a cancelled training has come to, is deleted first.",
        )
        self._add(inputs=self.inputs, preset=self.preset, start=self.start)
        self.append(self.card)
        self._add(minutes=self.minutes, name=self.name_of_model)
        self.append(self.overwrite)

    def _make_microscope(self) -> None:
        self.microscope = CheckBox(text="The microscope", tooltip="What the files do not say, or say wrongly.")
        self.na = length_box(
            "NA",
            most=1.5,
            step=0.05,
            decimals=2,
            tooltip="Numerical aperture of the objective. 0: any that usually goes with the pixel size.",
        )
        self.wavelength_nm = length_box(
            "wavelength (nm)", most=2000, step=10, decimals=0, tooltip="Of the light. 0: of the usual dyes."
        )
        self.pixel_size_um = length_box(
            "pixel size (µm)", most=1000, step=0.01, decimals=4, tooltip="Side of a pixel. 0: as the files say."
        )
        self.z_step_um = length_box("Z step (µm)", step=0.1, tooltip="Distance between slices. 0: as the files say.")
        self.phase_contrast = ComboBox(
            label="phase contrast", choices=_RINGS, tooltip="Transmitted light was taken through a phase ring."
        )
        self.axes = LineEdit(label="axes", tooltip="Such as ZCYX, where the files do not say. Empty: as they say.")
        self.pattern = LineEdit(
            label="file names",
            tooltip="What the files of a folder are called, where that is not found out by itself, for example\n"
            "{row}{column}_f{field}_t{time}_z{z}_c{channel}.tif",
        )
        fields = {"na": self.na, "wavelength_nm": self.wavelength_nm, "pixel_size_um": self.pixel_size_um}
        fields |= {"z_step_um": self.z_step_um, "phase_contrast": self.phase_contrast, "axes": self.axes}
        self._add(self._folded(self.microscope), **fields, pattern=self.pattern)

    def _make_advanced(self) -> None:
        self.advanced = CheckBox(text="Advanced options", tooltip="Corrections, evidence, file, device.")
        self.corrections = PathList(
            "corrected",
            "Results whose decisions were corrected by hand and saved; the stack of each must be among the stacks.",
        )
        self.standard = PathList(
            "standard", "A stack of a flat standard, or of beads on glass: are heights flatter? It is never trained on."
        )
        self.repeats = PathList(
            "repeats", "Two stacks of the same field, taken one after the other: do heights agree better? Add pairs."
        )
        self.file = FileEdit(
            label="file",
            mode="w",
            filter="*.safetensors",
            nullable=True,
            tooltip="Write the model here in place of your own models; ends in .safetensors.",
        )
        self.steps = SpinBox(
            label="steps",
            min=0,
            max=10_000_000,
            tooltip="How many steps are trained, the same on any machine. 0: as many as the minutes allow.",
        )
        self.device = device_box("trains the network")
        fields = {"corrections": self.corrections, "standard": self.standard, "repeats": self.repeats}
        inside = self._folded(self.advanced)
        self._add(inside, **fields, file=self.file, steps=self.steps, device=self.device)
        lasting = {"minutes": self.minutes, "na": self.na, "wavelength": self.wavelength_nm, "device": self.device}
        self._last("finetune", inside, **lasting)

    def _files_of_layers(self) -> Iterator[str]:
        """Yield the files of the stacks that are open, and the plates that they belong to, once each."""
        for layer in self._viewer.layers:
            if isinstance(layer, Image) and not is_result(layer):
                path = layer.metadata.get("hybridfusion", {}).get("plate") or layer.source.path
                if path:
                    yield str(path)

    def _suggest_name(self) -> None:
        """Propose a name after the first input, unless another one was typed."""
        if self.inputs.paths and self.name_of_model.value in ("", self._suggested):
            name = _SUFFIXES.sub("", Path(self.inputs.paths[0]).name)
            self._suggested = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("_.-")[:48]
            self.name_of_model.value = self._suggested

    def _on_start(self) -> None:
        self.card.value, self.card.tooltip = (_AUTO, "") if self.start.value == "auto" else card_text(self.start.value)

    def _on_file(self) -> None:
        self.name_of_model.enabled = self.choices().file is None
