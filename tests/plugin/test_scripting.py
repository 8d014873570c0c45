"""What a notebook calls gives what the window gives."""

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Layer

import hybridfusion_core as hf
from hybridfusion_core.errors import UserInputError
from napari_hybridfusion import fuse_layer, show_result
from napari_hybridfusion.result.shown import explaining

from .test_fuse_widget import PLACE, focal_stack

KINDS = ("fused", "height (µm)", "confidence", "decision")


def test_a_layer_is_fused_as_the_form_fuses_it():
    stack = Image(focal_stack(), name="DAPI", **PLACE)
    expected = hf.fuse(focal_stack(), z_step_um=2.0, method="tenengrad")
    layers = [Layer.create(*each) for each in fuse_layer(stack, method="tenengrad")]
    assert [each.name for each in layers] == [f"DAPI {kind}" for kind in KINDS]
    pixels = (expected.fused, expected.height_um, expected.confidence, expected.decision)
    for layer, array in zip(layers, pixels, strict=True):
        np.testing.assert_array_equal(layer.data[0], array)
        np.testing.assert_allclose(layer.extent.world[:, 1:], stack.extent.world[:, 1:])


def test_products_and_channels_are_chosen():
    stacks = [Image(focal_stack(seed=seed), name=name, **PLACE) for seed, name in enumerate(("gfp", "rfp"))]
    found = fuse_layer(stacks[0], others=stacks[1:], products=("in_focus",), method="tenengrad")
    assert [about["name"] for _, about, _ in found] == ["gfp fused", "rfp fused", "gfp + rfp in focus"]


def test_options_are_those_of_python():
    camera = {"gain": 0.5, "offset": 100, "read_noise": 1.6}
    expected = hf.fuse(focal_stack(), z_step_um=2.0, method="tenengrad", camera=camera, z="1:")
    data, _, _ = fuse_layer(Image(focal_stack(), **PLACE), method="tenengrad", camera=camera, z="1:")[0]
    np.testing.assert_array_equal(data[0], expected.fused)


def test_what_cannot_be_is_said_as_in_the_form():
    with pytest.raises(UserInputError, match="two or more along Z"):
        fuse_layer(Image(np.zeros((8, 8)), name="plane"))


def test_results_of_several_planes_are_refused_where_their_heights_would_be_lost():
    with pytest.raises(UserInputError, match="planes along Z"):
        fuse_layer(Image(focal_stack(), **PLACE), method="tenengrad", slab="2")
    result = hf.fuse(focal_stack(), z_step_um=2.0, method="tenengrad", slab="2")
    with pytest.raises(UserInputError, match="planes along Z"):
        show_result(ViewerModel(), result)


def test_a_cropped_result_lies_where_it_was_cropped():
    still = focal_stack(size=160)
    drifting = np.stack([np.roll(plane, (3 * z - 6, 2 * z - 4), axis=(0, 1)) for z, plane in enumerate(still)])
    layer = Image(drifting, **PLACE)
    data, about, _ = fuse_layer(layer, method="tenengrad", align="shift", align_frame="crop")[0]
    began = (np.array(about["translate"]) - PLACE["translate"])[1:] / about["scale"][1:]
    frame = about["metadata"]["hybridfusion"]["provenance"]["treatment"]["alignment"]["frame"]
    assert data.shape[1:] < still.shape[1:]
    np.testing.assert_allclose(began, (frame["y"][0], frame["x"][0]))
    assert (began > 0).all()


@pytest.mark.parametrize("times", [1, 2])
def test_a_result_lies_on_its_stack_and_is_read_as_one(times):
    viewer = ViewerModel()
    pixels = np.stack([focal_stack(seed=seed) for seed in range(times)])
    axes = "TZYX" if times > 1 else "ZYX"
    result = hf.fuse(pixels if times > 1 else pixels[0], axes=axes, z_step_um=2.0, method="tenengrad")
    shown = show_result(viewer, result)
    assert viewer.layers.selection.active is shown[0]
    assert [each.visible for each in shown] == [True, False, False, False]
    assert set(explaining(viewer, shown[0])) == {"height_um", "confidence", "decision"}
    assert shown[0].ndim == len(axes)
    np.testing.assert_array_equal(np.squeeze(shown[0].data), np.squeeze(result.fused))
    first, last = shown[0].extent.world[:, -3]
    assert (first, last) == (0, 0) or last - first < 5 * 2.0
    for z in range(5):
        inside = shown[0].world_to_data((*[0] * (times > 1), z * 2.0, 0, 0))[-3]
        assert -0.5 <= inside <= 0.5


def test_what_fuse_layer_gave_is_shown_too():
    viewer = ViewerModel()
    shown = show_result(viewer, fuse_layer(Image(focal_stack(), name="DAPI", **PLACE), method="max"))
    assert list(viewer.layers) == shown
    assert [each.name for each in shown] == ["DAPI fused"]
