"""The form of the plate widget: which plate, what of it, how, and where to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from magicgui.widgets import CheckBox, ComboBox, FileEdit, LineEdit, SpinBox

from hybridfusion_core.fusion.methods import METHODS
from hybridfusion_core.fusion.products import default_products
from napari_hybridfusion.parts.field_form import FieldForm
from napari_hybridfusion.parts.how_boxes import FOCUS, device_box, focus_box, length_box, method_box, pixels_box
from napari_hybridfusion.parts.model_box import model_box
from napari_hybridfusion.parts.product_boxes import ProductBoxes
from napari_hybridfusion.parts.request_boxes import RequestBoxes
from napari_hybridfusion.parts.triton import load_triton_apart
from napari_hybridfusion.plate.job import PlateChoices

_FORMATS: list[tuple[str, str]] = [
    ("OME-Zarr plate", "ome-zarr"),
    ("OME-TIFF files", "ome-tiff"),
    ("TIFF files for ImageJ and CellProfiler", "tiff"),
]


class PlateForm(FieldForm):
    """Everything that can be chosen about the fusion of a plate, with room for a message under each field."""

    def __init__(self) -> None:
        super().__init__()
        load_triton_apart()
        self._channels: list[str] = []
        self._suggested: Path | None = None
        self._products = ProductBoxes("also write")
        self._make_where()
        self._make_part()
        self._make_how()
        self.folder.changed.connect(self._suggest_output)
        self.method.changed.connect(self._on_method)
        self.format.changed.connect(self._on_format)
        self._on_format()

    def choices(self) -> PlateChoices:
        """Return what the form says."""
        options: dict[str, Any] = {
            "method": self.method.value,
            "model": self.model.value,
            "select": self.select.value,
            "focus_from": self.focus_from.value or "auto",
            "device": self.device.value,
            # As the command line has it when nothing is said: what is usual, as far as it exists.
            "products": None
            if {"fused", *self._products.wanted} == {*default_products()}
            else ("fused", *self._products.wanted),
            "channels": tuple(name.strip() for name in self.channels.value.split(",") if name.strip()) or None,
            **self.boxes.options(),
        }
        return PlateChoices(
            folder=_path(self.folder.value),
            pattern=_text(self.pattern.value),
            output=_path(self.output.value),
            wells=_text(self.wells.value),
            fields=_text(self.field_names.value),
            times=_text(self.times.value),
            pilot=self.pilot.value or None,
            only=_path(self.only.value),
            format=self.format.value,
            ngff=self.ngff.value if self.format.value == "ome-zarr" else None,
            name=_text(self.name_template.value) if self.format.value != "ome-zarr" else None,
            scheduler=_text(self.scheduler.value),
            scheduler_file=_path(self.scheduler_file.value),
            stats=self.stats.value,
            workers=self.workers.value or None,
            z_step_um=self.z_step_um.value or None,
            pixel_size_um=self.pixel_size_um.value or None,
            options=tuple(options.items()),
        )

    def offer_channels(self, names: list[str]) -> None:
        """Offer the channels of a plate to decide for all."""
        if names != self._channels:
            self._channels = names
            with self.focus_from.changed.blocked():
                self.focus_from.reset_choices()

    def _make_where(self) -> None:
        self.folder = FileEdit(
            label="plate",
            mode="d",
            nullable=True,
            tooltip="The folder of one plate: an OME-Zarr plate, a microscope's export, or a folder of OME-TIFFs.\n"
            "Nothing is ever written into it.",
        )
        self.output = FileEdit(
            label="output",
            mode="w",
            filter="*.ome.zarr",
            nullable=True,
            tooltip="The plate to write, ends in .ome.zarr. Its maps, its records and a report are written beside it.\n"
            "Choose the output of an earlier run to resume it.",
        )
        self.format = ComboBox(
            label="format",
            choices=_FORMATS,
            tooltip="One plate, or a folder of files. With TIFF comes a load_data.csv for CellProfiler.",
        )
        self.name_template = LineEdit(
            label="names",
            tooltip="What the files are called, for example {well}_s{field}_w{channel}.tif, of {plate}, {well},\n"
            "{row}, {column}, {field}, {t} from 0, {channel} from 1 and {channel_name}.\n"
            "Without a channel in it, one file holds all of them. Empty: plate, well, time, field and channel.",
        )
        self._add(folder=self.folder, output=self.output, format=self.format, name=self.name_template)
        self._add(products=self._products.shown)

    def _make_part(self) -> None:
        self.part = CheckBox(text="Only a part of the plate", tooltip="Choose wells, fields and time points.")
        self.wells = LineEdit(
            label="wells", tooltip="Names and ranges, such as B02:C05,D07; a range is a rectangle. Empty: all."
        )
        self.field_names = LineEdit(
            label="fields", tooltip="Fields as the plate names them, such as 1,3-5. Empty: all."
        )
        self.times = LineEdit(
            label="times",
            tooltip="Time points, counted from 0 as the slider does: 0:10 without the 10 itself. Empty: all.",
        )
        self.pilot = SpinBox(
            label="pilot wells", min=0, max=10_000, tooltip="Fuse only so many wells, spread over the plate. 0: all."
        )
        part = self._folded(self.part)
        self.only = FileEdit(
            label="only",
            filter="*.csv",
            nullable=True,
            tooltip="The failures.csv of an earlier run: only what it names is tried again. Empty: all.",
        )
        self.channels = LineEdit(
            label="channels",
            tooltip="Names of channels to fuse, between commas, or numbers counted from 0. Empty: all.",
        )
        self._add(part, wells=self.wells, fields=self.field_names, times=self.times, pilot=self.pilot)
        self._add(part, only=self.only, channels=self.channels)

    def _make_how(self) -> None:
        self.advanced = CheckBox(text="Advanced options", tooltip="How fields are fused, and with what.")
        self.pattern = LineEdit(
            label="file names",
            tooltip="What the files are called, where that is not found out by itself, for example\n"
            "{row}{column}_f{field}_t{time}_z{z}_c{channel}.tif\n"
            "Without {z}, each file is a whole stack. * stands for anything.",
        )
        self.method = method_box()
        self.model = model_box(
            "model", "The weights of the network. auto: chosen by light, colour and number of slices."
        )
        self.select = pixels_box()
        self.focus_from = focus_box(lambda _: [*FOCUS, *((name, name) for name in self._channels)])
        self.stats = ComboBox(
            label="measure over",
            choices=[("the whole plate", "plate"), ("each well", "well"), ("each field", "field")],
            tooltip="What brightness and noise are measured over before fields are fused.\n"
            "The whole plate: empty and crowded fields are treated alike.",
        )
        self.device = device_box("fuses the fields")
        self.workers = SpinBox(
            label="processes",
            min=0,
            max=256,
            tooltip="So many fields are fused at a time, each in a process of its own.\n"
            "0: as many as this computer has cores and memory for.",
        )
        self.scheduler = LineEdit(
            label="scheduler",
            tooltip="Address of a Dask cluster that does the work, such as tcp://host:8786. Empty: this computer.\n"
            "Its workers must see the plate and the output under the same paths.",
        )
        self.scheduler_file = FileEdit(
            label="scheduler file",
            filter="*.json",
            nullable=True,
            tooltip="The file that `dask scheduler --scheduler-file` wrote, in place of an address.",
        )
        self.z_step_um = length_box(
            "Z step (µm)", step=0.1, tooltip="Distance between slices, where the files do not know it. 0: as they say."
        )
        self.pixel_size_um = length_box(
            "pixel (µm)", step=0.05, tooltip="Side of a pixel, where the files do not know it. 0: as they say."
        )
        self.ngff = ComboBox(
            label="OME-Zarr",
            choices=[("version 0.5", "0.5"), ("version 0.4, for older readers", "0.4")],
            tooltip="Of the plate that is written.",
        )
        self.boxes = RequestBoxes(threads="one in each process")
        advanced = self._folded(self.advanced)
        fields = {"pattern": self.pattern, "method": self.method, "model": self.model, "select": self.select}
        fields |= {"focus_from": self.focus_from, "stats": self.stats, "device": self.device}
        self._add(advanced, **fields, workers=self.workers, scheduler=self.scheduler)
        self._add(advanced, scheduler_file=self.scheduler_file, z_step_um=self.z_step_um)
        self._add(advanced, pixel_size_um=self.pixel_size_um, ngff=self.ngff, **self.boxes.fields)
        lasting: dict[str, Any] = {"pixels": self.select, "model": self.model, "device": self.device}
        lasting |= {"method": self.method, "measure over": self.stats, "format": self.format, "ngff": self.ngff}
        lasting |= {f"product {name}": box for name, box in self._products.boxes.items()}
        lasting |= {name: field for name, field in self.boxes.fields.items() if name not in ("z", "camera")}
        self._last("plate", advanced, **lasting, workers=self.workers)

    def _suggest_output(self) -> None:
        """Propose a name beside the plate, unless another one was chosen."""
        folder, output = _path(self.folder.value), _path(self.output.value)
        if folder is None or output not in (None, self._suggested):
            return
        folder = folder.parent if folder.is_file() else folder  # an index stands for its folder
        name = folder.name.removesuffix(".ome.zarr").removesuffix(".zarr")
        if name:
            self._suggested = folder.with_name(f"{name}_fused{'.ome.zarr' if self.format.value == 'ome-zarr' else ''}")
            self.output.value = self._suggested

    def _on_method(self) -> None:
        self.model.enabled = self.method.value == "network"
        self._products.enable(METHODS[self.method.value].decides)

    def _on_format(self) -> None:
        self.name_template.visible = self.format.value != "ome-zarr"
        self.ngff.enabled = self.format.value == "ome-zarr"
        self._messages["name"].visible = False
        self._suggest_output()


def _path(value: Any) -> Path | None:
    return None if value is None or str(value) in ("", ".") else Path(value)


def _text(value: str) -> str | None:
    return value.strip() or None
