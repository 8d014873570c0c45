"""The form of the fuse widget: fields, what they explain, and the choices that they stand for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from magicgui.widgets import (
    CheckBox,
    ComboBox,
    FileEdit,
    FloatSpinBox,
    Select,
)
from napari.layers import Image

from hybridfusion_core.fusion.methods import METHODS
from hybridfusion_core.model.devices import available
from hybridfusion_core.stack import Stack
from napari_hybridfusion.job.task import Choices, FieldError, asks_for_light, auto_models, prepare_source
from napari_hybridfusion.layers.sources import are_named, axes_text, axis_choices, companions, siblings
from napari_hybridfusion.parts.field_form import FieldForm, text_label
from napari_hybridfusion.parts.model_box import card_text, model_box
from napari_hybridfusion.parts.product_boxes import ProductBoxes
from napari_hybridfusion.parts.request_boxes import RequestBoxes
from napari_hybridfusion.parts.triton import load_triton_apart

if TYPE_CHECKING:
    from napari.components import ViewerModel

_AUTO = "Chosen by light, colour and number of slices. Its card says what a model was made for."
_FOCUS = [
    ("auto: all fluorescence together", "auto"),
    ("each for itself", "each"),
    ("all together", "joint"),
]
SELECT_CHOICES = [("average where slices agree", "soft"), ("copy from one slice", "hard")]


class FuseForm(FieldForm):
    """Everything that can be chosen about a fusion, with room for a message under each field."""

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        load_triton_apart()
        self._viewer = viewer
        # magicgui asks for the choices again whenever a widget gets a parent.
        self._offers: dict[str, list[tuple[str, Any]]] = {"layer": [], "others": [], "axes": [], "focus_from": _FOCUS}
        self._auto = _AUTO
        self._make_what()
        self._make_how()
        self._make_where()
        self._make_advanced()
        self.layer.changed.connect(self._on_layer)
        self.others.changed.connect(self._on_stack)
        self.axes.changed.connect(self._on_stack)
        self.model.changed.connect(self._on_model)
        self.output.changed.connect(self._on_output)
        self.method.changed.connect(self._on_method)
        for change in (self._on_model, self._on_output, self._on_method):
            change()
        self.refresh()

    def choices(self) -> Choices:
        """Return what the form says."""
        options: dict[str, Any] = {
            "select": self.select.value,
            "focus_from": self.focus_from.value or "auto",
            "model": self.model.value,
            "device": self.device.value,
            "method": self.method.value,
            **self.boxes.options(),
        }
        to_disk = self.output.value == "disk"
        return Choices(
            layer=self.layer.value,
            others=tuple(self.others.value or ()),
            axes=self.axes.value,
            z_step_um=self.z_step_um.value or None,
            products=self._products.wanted,
            path=Path(self.path.value or "") if to_disk else None,
            overwrite=self.overwrite.value,
            options=tuple(options.items()),
        )

    def refresh(self, _event: object = None) -> None:
        """Offer the image layers that there are now; a choice that still exists stays."""
        layers = [each for each in self._viewer.layers if isinstance(each, Image) and not is_result(each)]
        before, active = self.layer.value, self._viewer.layers.selection.active
        with self.layer.changed.blocked():
            self._offer("layer", [(each.name, each) for each in layers])
            if before not in layers and active in layers:
                # The first channel of its file: the same order, to the last digit the same pixels as from the file.
                self.layer.value = min([active, *siblings(active, layers)], key=self._viewer.layers.index)
        if self.layer.value is not before:
            self._on_layer()
        else:
            chosen = tuple(self.others.value or ())
            self._offer_others(chosen or self._only_partner())
            if tuple(self.others.value or ()) != chosen:
                self._on_stack()

    def _make_what(self) -> None:
        self.layer = ComboBox(
            label="stack",
            choices=lambda _: self._offers["layer"],
            tooltip="The focal stack, or the first image of a pair.",
        )
        self.others = Select(
            label="with",
            choices=lambda _: self._offers["others"],
            tooltip="Further channels of the same stack: they are fused with it, and one decision can serve all.\n"
            "For images without a Z axis: the other images of the scene, focused elsewhere.\n"
            "Ctrl-click takes one away.",
        )
        self.others.native.setMaximumHeight(64)
        self.axes = ComboBox(
            label="axes",
            choices=lambda _: self._offers["axes"],
            tooltip="Which slider is time, channel and Z. Only along Z is fused.",
        )
        self.focus_from = ComboBox(
            label="focus from",
            choices=lambda _: self._offers["focus_from"],
            tooltip="The channel that decides which slice is in focus.\n"
            "One decision for all channels keeps what lies together together.",
        )
        self._add(layer=self.layer, others=self.others, axes=self.axes, focus_from=self.focus_from)

    def _make_how(self) -> None:
        self.select = ComboBox(
            label="pixels",
            choices=SELECT_CHOICES,
            tooltip="Average (soft): slices that agree are averaged, which lowers noise.\n"
            "Copy (hard): each pixel is one that was measured, bit for bit; choose it to measure noise.",
        )
        self.model = model_box("model", "The weights of the network. See their cards.")
        self.card = text_label(_AUTO)
        self.device = ComboBox(label="device", choices=device_choices(), tooltip="Where the network runs.")
        self._add(select=self.select, model=self.model)
        self.append(self.card)
        self._add(device=self.device)

    def _make_where(self) -> None:
        self._products = ProductBoxes("also show")
        self.products = self._products.boxes
        self.output = ComboBox(
            label="output",
            choices=[("layers in memory", "memory"), ("OME-Zarr on disk", "disk")],
            tooltip="On disk: memory stays bounded however large the plane is. The layers then show the file.",
        )
        self.path = FileEdit(label="file", mode="w", filter="*.ome.zarr", tooltip="Ends in .ome.zarr.")
        self.overwrite = CheckBox(text="Replace what is there")
        self._add(products=self._products.shown, output=self.output, path=self.path)
        self.append(self.overwrite)

    def _make_advanced(self) -> None:
        self.folded = CheckBox(text="Advanced options")
        self.method = ComboBox(
            label="method",
            choices=[(method.title, name) for name, method in METHODS.items()],
            tooltip="The network, or a classical method to compare it with.",
        )
        self.z_step_um = FloatSpinBox(
            label="Z step (µm)",
            min=0,
            max=1e4,
            step=0.1,
            tooltip="Distance between slices, where the layer does not know it. 0: as the layer says.",
        )
        self.boxes = RequestBoxes(threads=f"PyTorch's own choice ({torch.get_num_threads()})")
        self._add(self._folded(self.folded), method=self.method, z_step_um=self.z_step_um, **self.boxes.fields)

    def _offer(self, field: str, choices: list[tuple[str, Any]]) -> None:
        self._offers[field] = choices
        getattr(self, field).reset_choices()

    def _on_layer(self) -> None:
        layer = self.layer.value
        everything = [each for each in self._viewer.layers if isinstance(each, Image)]
        self._offer_others(() if layer is None else siblings(layer, everything) or self._only_partner())
        self._offer_axes()
        self._on_stack()

    def _offer_others(self, chosen: Sequence[Image]) -> None:
        layer = self.layer.value
        images = [each for each in self._viewer.layers if isinstance(each, Image) and not is_result(each)]
        offered = [] if layer is None else companions(layer, images)
        with self.others.changed.blocked():
            self._offer("others", [(each.name, each) for each in offered])
            self.others.value = [each for each in chosen if each in offered]
        self.others.visible = bool(offered)

    def _only_partner(self) -> Sequence[Image]:
        """Return the other image of a pair: the only one that could be, of an image that is no stack."""
        layer = self.layer.value
        if layer is None or layer.ndim > 2:
            return ()
        alike = companions(
            layer, [each for each in self._viewer.layers if isinstance(each, Image) and not is_result(each)]
        )
        return alike if len(alike) == 1 else ()

    def _offer_axes(self) -> None:
        layer = self.layer.value
        orders = [] if layer is None else axis_choices(layer)
        choices: list[tuple[str, Any]] = [(axes_text(order, layer), order) for order in orders]
        if layer is not None and not are_named(layer):
            choices.insert(0, ("choose …", None))
        with self.axes.changed.blocked():
            self._offer("axes", choices)
            if choices:
                self.axes.value = choices[0][1]

    def _on_stack(self) -> None:
        """Say at once what does not fit, and offer the channels that could decide."""
        names: list[str] = []
        try:
            stack = prepare_source(self.choices()).stack
            self.say(None)
            self._auto = auto_text(stack)
            names = [] if stack.rgb or len(stack.channels) < 2 else [each.name for each in stack.channels]
        except FieldError as error:
            self._auto = _AUTO
            # Before anything was chosen or done nothing is wrong yet.
            self.say(error if self.layer.value is not None else None)
        self._on_model()
        with self.focus_from.changed.blocked():
            self._offer("focus_from", [*_FOCUS, *((name, name) for name in names)])
        self.focus_from.visible = bool(names)

    def _on_model(self) -> None:
        self.card.value, self.card.tooltip = (
            (self._auto, "") if self.model.value == "auto" else card_text(self.model.value)
        )

    def _on_output(self) -> None:
        for widget in (self.path, self.overwrite):
            widget.visible = self.output.value == "disk"
        self._messages["path"].visible = False

    def _on_method(self) -> None:
        self.model.enabled = self.method.value == "network"
        self._products.enable(METHODS[self.method.value].decides)


def auto_text(stack: Stack) -> str:
    """Say which model "auto" stands for with a stack, and ask where that is in doubt."""
    chosen = f"auto → {' and '.join(auto_models(stack))}"
    if asks_for_light(stack):
        return (
            f"{chosen}? The background is bright, as in brightfield or phase contrast, and the stack does not say "
            "which light it shows. If light was transmitted, choose the model transmitted."
        )
    return f"{chosen}, by light, colour and number of slices."


def is_result(layer: Image) -> bool:
    """Say whether a layer is what came of a fusion."""
    return "product" in layer.metadata.get("hybridfusion", {})


def device_choices() -> list[tuple[str, str]]:
    """Return the devices of this machine with what they are."""
    return [(each.title, each.name) for each in available()]
