"""What the form says of a stack before anything is done, and what its results look like; without a window."""

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.stack import Channel, Stack
from napari_hybridfusion.fuse.form import FuseForm, auto_text
from napari_hybridfusion.job.task import FieldError, checked_request
from napari_hybridfusion.layers.results import fitting
from napari_hybridfusion.scripting import fuse_layer

from .test_fuse_widget import PLACE, focal_stack


def on_a_ground(ground: float, things: float) -> np.ndarray:
    """Six things of one brightness on a noisy ground. Z Y X, uint16."""
    stack = np.random.default_rng(0).normal(ground, 20, (3, 200, 200))
    for at in range(20, 200, 30):
        stack[:, at : at + 9, at : at + 9] += things - ground
    return stack.astype(np.uint16)


def form_of(qtbot, viewer) -> FuseForm:
    form = FuseForm(viewer)
    qtbot.addWidget(form.native)
    return form


@pytest.mark.parametrize(
    ("ground", "things", "transmitted", "asks"),
    [(100, 3000, None, False), (3000, 500, None, True), (3000, 500, False, False), (3000, 500, True, False)],
)
def test_the_model_of_auto_is_said_and_asked_for_where_it_is_in_doubt(ground, things, transmitted, asks):
    stack = Stack(on_a_ground(ground, things), "ZYX", channels=(Channel("0", transmitted=transmitted),))
    said = auto_text(stack)
    assert said.startswith(f"auto → {'transmitted' if transmitted else 'fluorescence'}")
    assert ("?" in said) == asks


def test_it_stands_in_the_form(qtbot):
    viewer = ViewerModel()
    viewer.add_image(on_a_ground(3000, 500), name="cells", **PLACE)
    assert form_of(qtbot, viewer).card.value.startswith("auto → fluorescence? The background is bright")


def test_nothing_is_wrong_before_there_is_a_stack(qtbot):
    viewer = ViewerModel()
    form = form_of(qtbot, viewer)
    viewer.add_labels(np.zeros((8, 8), np.uint8))
    form.refresh()
    assert [form.message(name) for name in form.fields if form.message(name)] == []


def test_a_renamed_layer_is_offered_under_its_new_name(qtbot):
    viewer = ViewerModel()
    layer = viewer.add_image(focal_stack(), name="before", **PLACE)
    form = form_of(qtbot, viewer)
    layer.name = "after"
    form.refresh()  # the dock does it on every rename
    assert [form.layer.native.itemText(at) for at in range(form.layer.native.count())] == ["after"]


def test_an_error_keeps_its_lines():
    error = UserInputError("Something differs:", ["select: soft then", "tile: 64\nthen"])
    assert str(FieldError("output", str(error))) == str(error)
    assert str(error).count("\n") == 2


def test_contrast_that_would_hide_the_result_is_replaced():
    plane = np.random.default_rng(0).uniform(100, 3600, (64, 64))
    assert fitting((0, 4000), plane) == (0, 4000)
    for limits in ((0, 20702), (0, 500), (5000, 9000)):
        low, high = fitting(limits, plane)
        assert 100 <= low < high <= 3600


def test_fused_planes_are_planes_in_three_dimensions():
    for data, about, kind in fuse_layer(Image(focal_stack(), **PLACE), method="tenengrad"):
        assert (kind, data.shape[0], about["depiction"]) == ("image", 1, "plane")


def test_a_surface_is_chosen_in_one_field(qtbot):
    viewer = ViewerModel()
    viewer.add_image(focal_stack(), name="cells", **PLACE)
    form = form_of(qtbot, viewer)
    asked = checked_request(dict(form.choices().options))
    assert (asked.surface_from, asked.prefer, asked.smooth, asked.match_light) == ("none", "none", 1.0, False)
    form.boxes.fields["surface_from"].value, form.boxes.fields["smooth"].value = "top", 2.5
    form.boxes.fields["match_light"].value = True
    asked = checked_request(dict(form.choices().options))
    assert (asked.surface_from, asked.prefer, asked.smooth, asked.match_light) == ("posterior", "top", 2.5, True)
    form.method.value = "mean"
    with pytest.raises(FieldError, match="takes the slices of the whole field alike"):
        checked_request(dict(form.choices().options))
