"""The preview shows the pixels that the fusion will have, where the user looks, and gets out of the way."""

import dask.array as da
import numpy as np
import pytest

import hybridfusion_core as hf
from napari_hybridfusion.fuse import live_preview as preview
from napari_hybridfusion.fuse.live_preview import Wanted, region_of

from .test_fuse_widget import PLACE, fuse, is_drawn, opened, start_to_disk, wait

WIDE = (3, 720, 900)


def wide_stack(seed: int = 0) -> np.ndarray:
    """Noise that is sharp in another slice at the left than at the right. Z Y X, uint16."""
    texture = np.random.default_rng(seed).uniform(200, 1000, WIDE[1:])
    blurred = (texture + np.roll(texture, 1, 0) + np.roll(texture, 1, 1) + np.roll(texture, 2, 1)) / 4
    stack = np.stack([blurred, texture, blurred])
    stack[:, :, 450:] = stack[::-1, :, 450:][[1, 0, 2]]
    return stack.astype(np.uint16)


@pytest.fixture
def widget(viewer):
    viewer.add_image(wide_stack(), name="DAPI", **PLACE)
    return opened(viewer)


def settle(qtbot, widget):
    qtbot.waitUntil(lambda: not widget.preview.busy, timeout=120_000)


def switch_on(qtbot, widget):
    widget.live.value = True
    settle(qtbot, widget)


def shown(widget):
    (layer,) = widget.preview.layers
    return layer


def corner(layer, place=PLACE) -> tuple[int, int]:
    """First row and column of the stack that a layer lies on."""
    start = (np.asarray(layer.translate) - place["translate"]) / place["scale"]
    y, x = np.rint(start[-2:]).astype(int)
    return int(y), int(x)


def assert_same_pixels(actual: np.ndarray, expected: np.ndarray) -> None:
    """Equal, but for few sums of float32 at half a count: their last bit depends on how many windows run at once."""
    difference = np.abs(actual.astype(np.int64) - expected)
    assert difference.max() <= 1
    assert np.count_nonzero(difference) < 1e-4 * difference.size


def assert_part_of(layer, whole: np.ndarray) -> None:
    y, x = corner(layer)
    height, width = layer.data.shape[-2:]
    assert_same_pixels(layer.data[0], whole[y : y + height, x : x + width])


def test_it_is_the_fusion_pixel_for_pixel_and_follows_the_view(qtbot, viewer, widget):
    switch_on(qtbot, widget)
    whole = hf.fuse(wide_stack(), z_step_um=2.0).fused
    assert shown(widget).data.shape == (1, 512, 512)
    assert_part_of(shown(widget), whole)
    assert "pixels of the result" in widget.preview_state.value
    before = corner(shown(widget))
    viewer.scene.camera.center = (0, 3.0, 4.0 + 0.25 * 899)  # the right upper corner
    settle(qtbot, widget)
    assert corner(shown(widget)) == (0, 416) != before  # on the lattice of the network, 32 px
    assert_part_of(shown(widget), whole)
    assert [each.name for each in viewer.layers] == ["DAPI", "DAPI preview"]


def test_in_bands_it_is_the_same(qtbot, widget, monkeypatch):
    monkeypatch.setattr(preview, "_STEP", 3 * 512 * 96)
    switch_on(qtbot, widget)
    assert_part_of(shown(widget), hf.fuse(wide_stack(), z_step_um=2.0).fused)


def test_it_lies_on_its_stack_at_every_slice(qtbot, viewer, widget):
    switch_on(qtbot, widget)
    for z in range(3):
        viewer.dims.set_current_step(0, z)
        assert is_drawn(shown(widget))
    settle(qtbot, widget)
    assert viewer.dims.nsteps[0] == 3


def test_an_option_changes_it(qtbot, widget):
    switch_on(qtbot, widget)
    soft = shown(widget).data.copy()
    widget.form.select.value = "hard"
    settle(qtbot, widget)
    assert (shown(widget).data != soft).any()
    assert_part_of(shown(widget), hf.fuse(wide_stack(), z_step_um=2.0, select="hard").fused)
    widget.form.method.value = "max"
    settle(qtbot, widget)
    assert_part_of(shown(widget), wide_stack().max(axis=0))


def test_it_follows_the_time(qtbot, viewer):
    movie = np.stack([wide_stack(seed) for seed in range(2)])
    viewer.add_image(movie, name="movie", axis_labels=("t", "z", "y", "x"))
    widget = opened(viewer)
    for t in (0, 1):
        viewer.dims.set_current_step(0, t)
        switch_on(qtbot, widget)
        layer = shown(widget)
        assert is_drawn(layer)
        y, x = (int(start) for start in layer.translate[-2:])
        expected = hf.fuse(movie[t]).fused[y : y + 512, x : x + 512]
        assert_same_pixels(layer.data[0, 0], expected)


def test_another_stack_has_a_preview_of_its_own(qtbot, viewer, widget):
    switch_on(qtbot, widget)
    other = viewer.add_image(wide_stack(7), name="other", colormap="green", **PLACE)
    qtbot.waitUntil(lambda: other in widget.form.layer.choices)
    widget.form.layer.value = other
    settle(qtbot, widget)
    assert [each.name for each in viewer.layers] == ["DAPI", "other", "other preview"]
    assert shown(widget).colormap.name == "green"
    assert_part_of(shown(widget), hf.fuse(wide_stack(7), z_step_um=2.0).fused)


def test_switched_off_it_leaves_nothing_behind(qtbot, viewer, widget):
    switch_on(qtbot, widget)
    widget.live.value = False
    qtbot.waitUntil(lambda: not widget.preview.busy)
    viewer.scene.camera.center = (0, 0, 0)
    assert not widget.preview.busy
    assert [each.name for each in viewer.layers] == ["DAPI"]
    assert widget.preview_state.value == ""


def test_a_fusion_takes_its_place(qtbot, viewer, widget):
    switch_on(qtbot, widget)
    fuse(qtbot, widget)
    assert "DAPI preview" not in [each.name for each in viewer.layers]
    assert "DAPI fused" in [each.name for each in viewer.layers]
    assert not widget.live.value


def test_while_a_fusion_runs_it_waits(qtbot, viewer, widget, tmp_path):
    switch_on(qtbot, widget)
    start_to_disk(qtbot, widget, tmp_path)
    viewer.scene.camera.center = (0, 3.0, 4.0)
    settle(qtbot, widget)
    assert widget.jobs.running
    assert corner(shown(widget)) != (0, 0)
    widget.cancel.native.click()
    wait(qtbot, widget)
    settle(qtbot, widget)
    assert corner(shown(widget)) == (0, 0)


def test_a_preview_is_not_offered_as_a_stack(qtbot, widget):
    switch_on(qtbot, widget)
    assert [each.name for each in widget.form.layer.choices] == ["DAPI"]


def test_what_nobody_waits_for_is_stopped(qtbot, viewer, widget, monkeypatch):
    made = []
    original = preview.previewing

    def counted(wanted: Wanted, *others):
        made.append([wanted, 0])
        for picture in original(wanted, *others):
            made[-1][1] += picture.whole
            yield picture

    monkeypatch.setattr(preview, "previewing", counted)
    monkeypatch.setattr(preview, "_STEP", 3 * 512 * 64)  # pixels × slices: eight bands of 64 rows
    widget.live.value = True
    qtbot.waitUntil(lambda: bool(widget.preview.layers), timeout=60_000)
    viewer.scene.camera.center = (0, 3.0, 4.0)
    settle(qtbot, widget)
    assert [finished for _, finished in made] == [0, 1]
    assert corner(shown(widget)) == (0, 0)


def test_of_a_huge_stack_only_the_view_is_read(qtbot, viewer):
    read = set()

    def block(block_info=None):
        _, (y, _), (x, _) = block_info[None]["array-location"]
        read.add((y, x))
        return np.random.default_rng(y + x).integers(0, 900, (4, 1024, 1024)).astype(np.uint16)

    chunks = ((4,), (1024,) * 16, (1024,) * 16)
    huge = da.map_blocks(block, chunks=chunks, dtype=np.uint16, meta=np.empty((0, 0, 0), np.uint16))
    small = np.zeros((4, 1024, 1024), np.uint16)
    viewer.add_image([huge, small], multiscale=True, contrast_limits=(0, 900), name="huge", scale=(1, 1, 1))
    widget = opened(viewer)
    switch_on(qtbot, widget)
    assert 1 <= len(read) <= 9
    assert "approximate" in widget.preview_state.value


def test_closing_the_dock_ends_it(qtbot, viewer, widget):
    widget.live.value = True
    qtbot.waitUntil(lambda: widget.preview.jobs.running, timeout=60_000)
    viewer.window.remove_dock_widget(widget.native.parent())
    qtbot.waitUntil(lambda: not widget.preview.busy, timeout=60_000)
    assert "DAPI preview" not in [each.name for each in viewer.layers]


@pytest.mark.parametrize("lattice", [16, 32])
@pytest.mark.parametrize("length", [5, 511, 512, 513, 700, 4096])
def test_a_region_lies_in_the_plane_and_on_the_lattice(length, lattice):
    for middle in np.linspace(-3 * length, 4 * length, 41):
        (low, high), _ = region_of((middle, 0), (length, 64), lattice)
        assert low % lattice == 0
        assert 0 <= low < high <= length
        assert high - low > min(length, 512) - lattice
        if 512 < middle < length - 512:
            assert abs((low + high) / 2 - middle) <= lattice / 2


def test_turned_and_sheared_layers_stay_covered(qtbot, viewer):
    turn = np.eye(3)
    turn[1:, 1:] = [[0.8, -0.6], [0.6, 0.8]]
    viewer.add_image(wide_stack(), name="DAPI", rotate=turn, shear=[0.0, 0.0, 0.2], **PLACE)
    widget = opened(viewer)
    widget.form.method.value = "max"
    stack = viewer.layers["DAPI"]
    viewer.scene.camera.center = stack.data_to_world((1, 500, 450))
    switch_on(qtbot, widget)
    layer = shown(widget)
    z, y, x = np.rint(stack.world_to_data(layer.data_to_world((0, 0, 0)))).astype(int)
    assert z == 1  # the middle of three
    assert abs(y + 256 - 500) <= 64
    assert abs(x + 256 - 450) <= 64
    np.testing.assert_array_equal(layer.data[0], wide_stack().max(axis=0)[y : y + 512, x : x + 512])
    np.testing.assert_allclose(
        stack.world_to_data(layer.data_to_world((0, 100, 200))), (1, y + 100, x + 200), atol=1e-3
    )
    fuse(qtbot, widget)
    fused = viewer.layers["DAPI fused"]
    np.testing.assert_allclose(fused.data_to_world((0, 100, 200)), stack.data_to_world((1, 100, 200)), atol=1e-3)


def test_other_pixels_of_the_layer_are_measured_anew(qtbot, viewer, widget):
    switch_on(qtbot, widget)
    other = 3 * wide_stack(seed=7)[::-1] + 100
    viewer.layers["DAPI"].data = other
    settle(qtbot, widget)
    assert_part_of(shown(widget), hf.fuse(other, z_step_um=2.0).fused)
