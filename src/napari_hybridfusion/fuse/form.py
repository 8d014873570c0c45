"""The form of the fuse widget: fields, what they explain, and the choices that they stand for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from magicgui.widgets import CheckBox, ComboBox, Container, FileEdit, PushButton, Select
from napari.layers import Image
from qtpy.QtWidgets import QAbstractItemView

from hybridfusion_core.fusion.methods import METHODS
from hybridfusion_core.model.threads import thread_count
from hybridfusion_core.stack import Stack
from napari_hybridfusion.job.task import Choices, FieldError, asks_for_light, auto_models, prepare_source
from napari_hybridfusion.layers.sources import are_named, axes_text, axis_choices, companions, siblings
from napari_hybridfusion.parts.field_form import FieldForm, text_label
from napari_hybridfusion.parts.how_boxes import FOCUS, device_box, focus_box, length_box, method_box, pixels_box
from napari_hybridfusion.parts.model_box import card_text, model_box
from napari_hybridfusion.parts.product_boxes import ProductBoxes
from napari_hybridfusion.parts.request_boxes import RequestBoxes
from napari_hybridfusion.parts.triton import load_triton_apart

if TYPE_CHECKING:
    from napari.components import ViewerModel

_COLOURS = "colours"
_AUTO = "Chosen by light, colour and number of slices. Its card says what a model was made for."


class FuseForm(FieldForm):
    """Everything that can be chosen about a fusion, with room for a message under each field."""

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        load_triton_apart()
        self._viewer = viewer
        # magicgui asks for the choices again whenever a widget gets a parent.
        self._known: list[Any] = []  # layers, when they were last looked at
        self._active: Any = None
        self._offers: dict[str, list[tuple[str, Any]]] = {"layer": [], "others": [], "axes": [], "focus_from": FOCUS}
        self._auto = _AUTO
        self._make_what()
        self._make_how()
        self._make_where()
        self._make_advanced()
        self.layer.changed.connect(self._on_layer)
        self.others.changed.connect(self._on_stack)
        self.axes.changed.connect(self._on_axes)
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
            axes=None if self.axes.value == _COLOURS else self.axes.value,
            z_step_um=self.z_step_um.value or None,
            products=self._products.wanted,
            path=Path(self.path.value or "") if to_disk else None,
            overwrite=self.overwrite.value,
            options=tuple(options.items()),
        )

    def refresh(self, _event: object = None) -> None:
        """Offer the image layers that there are now, and choose the one that was selected in the layer list.

        A choice stays if it is held, or if nothing else was selected. To add a layer is not to select it.
        """
        layers = [each for each in self._viewer.layers if isinstance(each, Image) and not is_result(each)]
        before, active = self.layer.value, self._viewer.layers.selection.active
        selected = active is not self._active and active in self._known and not self.hold.value
        self._known, self._active = list(self._viewer.layers), active
        with self.layer.changed.blocked():
            self._offer("layer", [(each.name, each) for each in layers])
            wanted = selected and active is not before and active not in (self.others.value or ())
            if active in layers and (wanted or before not in layers):
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
            tooltip="The focal stack, or the first image of a pair: the one that is selected in the layer list.",
        )
        self.hold = CheckBox(text="Keep this stack", tooltip="Whatever is selected in the layer list, fuse this one.")
        self.others = Select(
            label="with",
            choices=lambda _: self._offers["others"],
            tooltip="Further channels of the same stack: they are fused with it, and one decision can serve all.\n"
            "For images without a Z axis: the other images of the scene, focused elsewhere.\n"
            "A click chooses one, the next click takes it away.",
        )
        self.others.native.setSelectionMode(QAbstractItemView.SelectionMode.MultiSelection)
        self.others.native.setMaximumHeight(64)
        self.axes = ComboBox(
            label="axes",
            choices=lambda _: self._offers["axes"],
            tooltip="Which slider is time, channel and Z. Only along Z is fused.",
        )
        self.focus_from = focus_box(lambda _: self._offers["focus_from"])
        self._add(layer=self.layer)
        self.append(self.hold)
        self._add(others=self.others, axes=self.axes, focus_from=self.focus_from)

    def _make_how(self) -> None:
        self.select = pixels_box()
        self.model = model_box("model", "The weights of the network; what they were made for stands below.")
        self.card = text_label(_AUTO)
        self.device = device_box("runs the network")
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
        self.overwrite = CheckBox(
            text="Replace what is there", tooltip="A result of this name is deleted as soon as the new one is whole."
        )
        self._add(products=self._products.shown, output=self.output, path=self.path)
        self.append(self.overwrite)

    def _make_advanced(self) -> None:
        self.folded = CheckBox(text="Advanced options")
        self.method = method_box()
        self.z_step_um = length_box(
            "Z step (µm)",
            step=0.1,
            tooltip="Distance between slices, where the layer does not know it. 0: as the layer says.",
        )
        self.boxes = RequestBoxes(threads=f"as many as there are cores ({thread_count()})")
        self.first = PushButton(text="Begin here", tooltip="Leave out what lies before the slice that is shown.")
        self.last = PushButton(text="End here", tooltip="Leave out what lies behind the slice that is shown.")
        for button, at in ((self.first, 0), (self.last, 1)):
            button.changed.connect(lambda _=None, at=at: self._end_at_shown(at))
        ends = Container(widgets=[self.first, self.last], layout="horizontal", labels=False)
        ends.margins = (0, 0, 0, 0)
        fields = dict(self.boxes.fields)
        inside = self._folded(self.folded)
        self._add(inside, method=self.method, z_step_um=self.z_step_um, z=fields.pop("z"))
        inside.append(ends)
        self._add(inside, **fields)
        lasting = {name: field for name, field in fields.items() if name != "camera"}
        lasting |= {f"product {name}": box for name, box in self.products.items()}
        lasting |= {"pixels": self.select, "model": self.model, "device": self.device, "method": self.method}
        self._last("fuse", inside, **lasting)

    def choose(self, layer: Any) -> None:
        """Choose a layer, if it can be fused."""
        self.refresh()
        if layer in [value for _, value in self._offers["layer"]]:
            self.layer.value = layer

    def shown_slice(self) -> int | None:
        """Return which slice of the chosen stack the slider shows, counted as the slider does; None without one."""
        layer = self.layer.value
        orders = [] if layer is None else axis_choices(layer)
        axes = self.axes.value or (orders[0] if orders else "")
        if layer is None or "Z" not in axes or layer not in self._viewer.layers:
            return None
        pixels = layer.data[0] if layer.multiscale else layer.data
        place = layer.world_to_data(np.asarray(self._viewer.dims.point)[-layer.ndim :])[axes.index("Z")]
        return int(np.clip(round(place), 0, pixels.shape[axes.index("Z")] - 1))

    def _end_at_shown(self, end: int) -> None:
        """Let the range of slices begin, or end, with the one that is shown."""
        if (shown := self.shown_slice()) is not None:
            parts = [*(self.boxes.fields["z"].value.split(":")), "", ""]
            parts[end] = str(shown + end)  # the end itself is left out
            self.boxes.fields["z"].value = ":".join(parts[:3]).rstrip(":") if parts[2] else f"{parts[0]}:{parts[1]}"

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
            if may_be_colours(layer):
                choices.append(("the last axis is colour: open it as a colour image", _COLOURS))
        with self.axes.changed.blocked():
            self._offer("axes", choices)
            if choices:
                self.axes.value = choices[0][1]

    def _on_axes(self) -> None:
        if self.axes.value != _COLOURS:
            self._on_stack()
            return
        layer = self.layer.value
        coloured = as_colours(layer)
        self._viewer.add_layer(coloured)
        layer.visible = False
        self.choose(coloured)

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
            self.say(error if self.layer.value is not None else None, hint=True)
        self._on_model()
        with self.focus_from.changed.blocked():
            self._offer("focus_from", [*FOCUS, *((name, name) for name in names)])
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


def may_be_colours(layer: Image) -> bool:
    """Say whether the last axis of a layer could be red, green and blue, and perhaps how opaque they are."""
    shape = (layer.data[0] if layer.multiscale else layer.data).shape
    return not layer.rgb and len(shape) > 2 and shape[-1] in (3, 4) and min(shape[-3:-1]) > 4


def as_colours(layer: Image) -> Image:
    """Return a layer whose last axis is colour, in the place of one whose last axis was taken for X."""
    place = {name: getattr(layer, name)[:-1] for name in ("scale", "translate", "units", "axis_labels")}
    place["axis_labels"] = tuple("tzyx"[-len(place["scale"]) :])
    return Image(layer.data, rgb=True, name=f"{layer.name} colours", **place)


def is_result(layer: Image) -> bool:
    """Say whether a layer is what came of a fusion."""
    return "product" in layer.metadata.get("hybridfusion", {})
