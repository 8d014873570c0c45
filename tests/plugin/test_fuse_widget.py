"""The dock widget in a real window, with the real network on tiny stacks."""

import itertools

import dask.array as da
import numpy as np
import pytest
import torch
from napari.layers import Image
from napari.utils.notifications import notification_manager
from scipy.ndimage import gaussian_filter

import hybridfusion_core as hf
from hybridfusion_core.errors import UserInputError
from hybridfusion_core.fusion.api import steps_in_memory
from hybridfusion_core.progress import Progress, run_to_end
from hybridfusion_core.scenes.samples.organoid import organoid_stack
from hybridfusion_core.stack import Channel, Stack
from napari_hybridfusion.files import samples as sample_data
from napari_hybridfusion.fuse import widget as fuse_widget
from napari_hybridfusion.job import run as fusing
from napari_hybridfusion.job.task import Choices, prepare
from napari_hybridfusion.job.worker import Jobs, Listener
from napari_hybridfusion.layers.stacks import stack_layers
from napari_hybridfusion.parts.throughput import Pace

PLUGIN, WIDGET = "napari-hybridfusion", "Fuse focal stack"
PLACE = {"scale": (2.0, 0.25, 0.25), "translate": (10.0, 3.0, 4.0), "units": ("um",) * 3, "axis_labels": tuple("zyx")}


def focal_stack(slices: int = 5, size: int = 64, seed: int = 0) -> np.ndarray:
    """Texture that is sharp in the second slice on the left, in the last but one on the right. Z Y X."""
    texture = np.random.default_rng(seed).uniform(100, 1000, (size, size))
    stack = np.stack([gaussian_filter(texture, abs(z - 1)) for z in range(slices)])
    right = np.stack([gaussian_filter(texture, abs(z - slices + 2)) for z in range(slices)])
    stack[..., size // 2 :] = right[..., size // 2 :]
    return stack.astype(np.uint16)


def opened(viewer):
    return viewer.window.add_plugin_dock_widget(PLUGIN, WIDGET)[1]


@pytest.fixture
def widget(viewer):
    viewer.add_image(focal_stack(), name="DAPI", colormap="magenta", **PLACE)
    return opened(viewer)


def wait(qtbot, widget):
    qtbot.waitUntil(lambda: not widget.jobs.running, timeout=120_000)


def fuse(qtbot, widget, button="fuse"):
    getattr(widget, button).native.click()
    assert widget.jobs.running, [widget.form.message(name) for name in widget.form.fields]
    wait(qtbot, widget)


def start_to_disk(qtbot, widget, folder):
    """Leave a job running in its second stage, in many tiles."""
    widget.form.output.value = "disk"
    widget.form.path.value = folder / "out.ome.zarr"
    widget.form.boxes.fields["tile"].value = 16
    widget.fuse.native.click()
    qtbot.waitUntil(lambda: "fusing" in widget.state.value, timeout=60_000)


def is_drawn(layer) -> bool:
    return bool(np.nanmax(np.abs(np.asarray(layer._slice.image.view, dtype=float))) > 0)


def test_it_opens_from_its_menus(viewer):
    from napari._app_model import get_app_model

    app = get_app_model()
    (item,) = [each for each in app.menus.get_menu("napari/layers/project") if "hybridfusion" in each.command.id]
    assert item.command.title.startswith(WIDGET)
    app.commands.execute_command(item.command.id).result()
    assert any(name.startswith(WIDGET) for name in viewer.window.dock_widgets)


def test_a_stack_becomes_layers_and_they_are_what_python_gives(qtbot, viewer, widget):
    fuse(qtbot, widget)
    names = ["DAPI fused", "DAPI height (µm)", "DAPI confidence", "DAPI decision"]
    assert [each.name for each in viewer.layers] == ["DAPI", *names]
    expected = hf.fuse(focal_stack(), z_step_um=2.0)
    arrays = (expected.fused, expected.height_um, expected.confidence, expected.decision)
    for name, array in zip(names, arrays, strict=True):
        np.testing.assert_array_equal(viewer.layers[name].data[0], array)
    stack, fused = viewer.layers["DAPI"], viewer.layers["DAPI fused"]
    assert fused.dtype == stack.dtype
    assert (fused.colormap.name, fused.contrast_limits) == (stack.colormap.name, stack.contrast_limits)
    assert [each.visible for each in viewer.layers] == [True, True, False, False, False]
    assert len(np.unique(expected.decision)) > 1


def test_results_lie_on_their_stack_at_every_slice(qtbot, viewer, widget):
    fuse(qtbot, widget)
    stack = viewer.layers["DAPI"]
    assert viewer.dims.nsteps[0] == 5
    for layer in viewer.layers[1:]:
        layer.visible = True
        assert (layer.units, layer.axis_labels) == (stack.units, stack.axis_labels)
        np.testing.assert_allclose(layer.extent.world[:, 1:], stack.extent.world[:, 1:])
    for z in (0, 2, 4):
        viewer.dims.set_current_step(0, z)
        assert all(is_drawn(layer) for layer in viewer.layers)


@pytest.mark.parametrize("axes", ["TZYX", "ZTYX"])
def test_time_keeps_its_slider(qtbot, viewer, axes):
    times = np.stack([focal_stack(4, 32, seed) for seed in range(3)], axis=axes.index("T"))
    viewer.add_image(times, name="movie", scale=(3.0, 3.0, 0.5, 0.5))
    widget = opened(viewer)
    assert "does not say which of its axes is Z" in widget.form.message("axes")
    widget.form.axes.value = axes
    assert widget.form.message("axes") == ""
    fuse(qtbot, widget)
    fused = viewer.layers["movie fused"]
    for t in (0, 1, 2):
        for z in (0, 3):
            viewer.dims.set_current_step((axes.index("T"), axes.index("Z")), (t, z))
            shown = fused._slice.image.view
            expected = hf.fuse(times.take(t, axis=axes.index("T"))).fused
            np.testing.assert_array_equal(shown, expected)


def test_channels_are_fused_with_one_decision(qtbot, viewer):
    stacks = [focal_stack(4, 32, seed) for seed in range(2)]
    for name, pixels in zip(("DAPI", "membrane"), stacks, strict=True):
        viewer.add_image(pixels, name=name, **PLACE)
    widget = opened(viewer)
    widget.form.layer.value = viewer.layers["DAPI"]
    widget.form.others.value = [viewer.layers["membrane"]]
    widget.form.focus_from.value = "membrane"
    fuse(qtbot, widget)
    expected = hf.fuse(np.stack(stacks), axes="CZYX", z_step_um=2.0, focus_from="1")
    for index, name in enumerate(("DAPI", "membrane")):
        np.testing.assert_array_equal(viewer.layers[f"{name} fused"].data[0], expected.fused[0, index, 0])
    assert "DAPI + membrane decision" in viewer.layers


def test_a_channel_axis_keeps_its_slider(qtbot, viewer):
    stacks = np.stack([focal_stack(4, 32, seed) for seed in range(2)])
    lazy = [da.from_array(stacks, chunks=(1, 1, 32, 32)), da.from_array(stacks[..., ::2, ::2])]
    viewer.add_image(lazy, multiscale=True, name="both", axis_labels=tuple("czyx"), contrast_limits=(0, 1000))
    widget = opened(viewer)
    fuse(qtbot, widget)
    expected = hf.fuse(stacks, axes="CZYX")
    np.testing.assert_array_equal(viewer.layers["both fused"].data, expected.fused[0])
    np.testing.assert_array_equal(viewer.layers["both decision"].data, expected.decision[0])
    for layer in viewer.layers:
        layer.visible = True
    for c, z in itertools.product((0, 1), (0, 3)):
        viewer.dims.set_current_step((0, 1), (c, z))
        assert all(is_drawn(viewer.layers[name]) for name in ("both fused", "both decision"))


def test_the_channels_of_a_sample_are_fused_together(qtbot, viewer, monkeypatch):
    monkeypatch.setattr(sample_data, "organoid_stack", lambda: organoid_stack(size=64, slices=4))
    viewer.open_sample(PLUGIN, "organoid")
    widget = opened(viewer)
    assert len(widget.form.others.value) == 1
    fuse(qtbot, widget)
    expected = hf.fuse(organoid_stack(size=64, slices=4)).fused
    for index, name in enumerate(("DAPI", "membrane")):
        np.testing.assert_array_equal(viewer.layers[f"{name} fused"].data[0], expected[0, index, 0])


def test_transmitted_light_is_known_from_the_file():
    channels = (Channel("BF", transmitted=True),)
    stack = Stack(focal_stack(4, 32), "ZYX", channels=channels, z_positions_um=(0.0, 1.0, 3.0, 4.0))
    ((data, about, _),) = stack_layers(stack)
    task = prepare(Choices(layer=Image(data, **about)))
    assert task.source.stack.z_positions_um == (0.0, 1.0, 3.0, 4.0)
    assert [model.card.name for model in task.job.models] == ["transmitted"]


def test_two_images_make_a_pair(qtbot, viewer):
    near, far = focal_stack(5, 48)[[1, 3]]
    viewer.add_image(near, name="near")
    widget = opened(viewer)
    assert "further images" in widget.form.message("layer")
    viewer.add_image(far, name="far")
    qtbot.waitUntil(lambda: widget.form.others.value == [viewer.layers["far"]])  # there is no other
    assert widget.form.message("layer") == ""
    fuse(qtbot, widget)
    expected = hf.fuse(np.stack([near, far])).fused
    np.testing.assert_array_equal(viewer.layers["near + far fused"].data, expected)


def test_colours_stay_colours(qtbot, viewer):
    photo = np.stack([focal_stack(3, 32) // 4] * 3, axis=-1).astype(np.uint8)
    viewer.add_image(photo, name="photo", rgb=True)
    widget = opened(viewer)
    fuse(qtbot, widget)
    fused = viewer.layers["photo fused"]
    assert fused.rgb
    # One decision for all colours.
    np.testing.assert_array_equal(fused.data[..., 0], fused.data[..., 2])
    assert fused.data.shape == (1, 32, 32, 3)


def test_a_result_on_disk_is_shown_from_there(qtbot, viewer, widget, tmp_path):
    path = tmp_path / "out.ome.zarr"
    widget.form.output.value = "disk"
    widget.form.path.value = path
    fuse(qtbot, widget)
    written = hf.open_stack(path)
    np.testing.assert_array_equal(
        np.asarray(viewer.layers["DAPI fused"].data), written.read(0, 0, [0], slice(None), slice(None))
    )
    np.testing.assert_array_equal(viewer.layers["DAPI fused"].data[0], hf.fuse(focal_stack(), z_step_um=2.0).fused)
    for z in (0, 4):
        viewer.dims.set_current_step(0, z)
        assert is_drawn(viewer.layers["DAPI fused"])


def test_what_is_wrong_stands_beside_its_field(viewer, widget, tmp_path):
    widget.form.output.value = "disk"
    widget.fuse.native.click()
    assert "no OME-Zarr" in widget.form.message("path")
    for name, message in (
        ("out.tif", "no OME-Zarr"),
        ("missing/out.ome.zarr", "does not exist"),
        ("there.ome.zarr", "exists already"),
    ):
        (tmp_path / "there.ome.zarr").mkdir(exist_ok=True)
        widget.form.path.value = tmp_path / name
        widget.fuse.native.click()
        assert message in widget.form.message("path")
        assert not widget.jobs.running
    widget.form.output.value = "memory"
    widget.form.boxes.fields["memory"].value = 1
    widget.fuse.native.click()
    assert "MiB" in widget.form.message("memory")
    assert widget.form.message("path") == ""
    assert [path.name for path in tmp_path.iterdir()] == ["there.ome.zarr"]
    assert len(viewer.layers) == 1


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("z", "7:9", "leaves none of the"),
        ("z", "two", "expected START:STOP"),
        ("camera", "0.5", "expected three numbers, GAIN,OFFSET,READNOISE"),
        ("camera", "-1,0,1", "Camera gain -1.0"),
    ],
)
def test_an_advanced_choice_that_cannot_be_is_unfolded_and_said(widget, name, value, said):
    widget.form.boxes.fields[name].value = value
    widget.fuse.native.click()
    assert not widget.jobs.running
    assert said in widget.form.message(name)
    assert widget.form.folded.value


def test_slices_and_camera_are_those_of_the_command(qtbot, viewer, widget):
    widget.form.boxes.fields["z"].value, widget.form.boxes.fields["camera"].value = "1:", "0.5,100,1.6"
    fuse(qtbot, widget)
    camera = {"gain": 0.5, "offset": 100, "read_noise": 1.6}
    expected = hf.fuse(focal_stack(), z="1:", camera=camera, z_step_um=2.0)
    np.testing.assert_array_equal(viewer.layers["DAPI fused"].data[0], expected.fused)
    np.testing.assert_array_equal(viewer.layers["DAPI decision"].data[0], expected.decision)
    assert viewer.layers["DAPI decision"].data.min() >= 1  # counted in the slices of the stack


def test_a_cancelled_job_leaves_nothing(qtbot, viewer, widget, tmp_path):
    start_to_disk(qtbot, widget, tmp_path)
    assert widget.cancel.enabled
    widget.cancel.native.click()
    wait(qtbot, widget)
    assert widget.state.value == "cancelled"
    assert [each.name for each in viewer.layers] == ["DAPI"]
    assert list(tmp_path.iterdir()) == []
    fuse(qtbot, widget)
    assert "DAPI fused" in viewer.layers


def failing(_task):
    raise RuntimeError("something broke")
    yield


def test_a_failing_job_is_reported_and_leaves_nothing(qtbot, viewer, widget, monkeypatch):
    monkeypatch.setattr(fuse_widget, "fusing", failing)
    before = len(notification_manager.records)
    widget.fuse.native.click()
    wait(qtbot, widget)
    assert "something broke" in notification_manager.records[before].message
    assert "something broke" in widget.state.value
    assert widget.fuse.enabled
    assert len(viewer.layers) == 1


@pytest.mark.own_window
def test_the_window_can_close_during_a_job(qtbot, viewer, widget, tmp_path):
    start_to_disk(qtbot, widget, tmp_path)
    jobs = widget.jobs
    viewer.window.close()
    qtbot.waitUntil(lambda: not jobs.running, timeout=60_000)
    assert list(tmp_path.iterdir()) == []


def test_the_dock_can_close_during_a_job(qtbot, viewer, widget, tmp_path):
    start_to_disk(qtbot, widget, tmp_path)
    jobs = widget.jobs
    viewer.window.remove_dock_widget(widget.native)
    qtbot.waitUntil(lambda: not jobs.running, timeout=60_000)
    assert [each.name for each in viewer.layers] == ["DAPI"]
    assert list(tmp_path.iterdir()) == []
    viewer.add_image(np.zeros((3, 4, 5)))


def test_jobs_report_once_at_the_end(qtbot):
    heard = []

    def counting():
        yield from range(3)
        return "value"

    jobs = Jobs()
    jobs.start(counting(), Listener(heard.append, heard.append, lambda: heard.append("stopped"), heard.append))
    qtbot.waitUntil(lambda: not jobs.running)
    assert heard == [0, 1, 2, "value"]


TITLES = ("fused", "sharpest slice", "maximum", "Tenengrad")


def cells(viewer) -> list[list[str]]:
    """Names of the visible layers in each cell of the grid, row by row."""
    grid = viewer.canvas.grid
    found = [[viewer.layers[index] for index in indices] for _, indices in grid.iter_viewboxes(viewer.layers)]
    return [[layer.name for layer in each if layer.visible] for each in found]


def test_compare_shows_what_one_would_have_without_and_goes_away_by_the_same_button(qtbot, viewer, widget):
    fuse(qtbot, widget)
    before = [(each.name, each.visible) for each in viewer.layers]
    fuse(qtbot, widget, "compare")
    stack = focal_stack()
    names = ["DAPI fused", *(f"{title}: DAPI" for title in TITLES[1:])]
    assert cells(viewer) == [[name] for name in names]
    assert all(viewer.layers[name].name_overlay.visible for name in names)
    sharpest, maximum, classical = (viewer.layers[name].data[0] for name in names[1:])
    assert any(np.array_equal(sharpest, plane) for plane in stack)
    np.testing.assert_array_equal(maximum, stack.max(axis=0))
    np.testing.assert_array_equal(classical, hf.fuse(stack, method="tenengrad").fused)
    assert viewer.layers.selection.active is viewer.layers["DAPI fused"]
    viewer.layers["DAPI fused"].contrast_limits = (200, 300)
    assert all(viewer.layers[name].contrast_limits == [200, 300] for name in names)
    widget.compare.native.click()
    assert not widget.jobs.running
    assert [(each.name, each.visible) for each in viewer.layers] == before
    assert not viewer.canvas.grid.enabled
    assert not viewer.layers["DAPI fused"].name_overlay.visible


def test_compare_keeps_channels_together_beside_strays_and_under_new_names(qtbot, viewer):
    viewer.add_labels(np.zeros((64, 64), np.uint8), name="ROI")
    for seed, name in enumerate(("gfp", "rfp")):
        viewer.add_image(focal_stack(seed=seed), name=name, **PLACE)
    widget = opened(viewer)
    widget.form.layer.value = viewer.layers["gfp"]
    widget.form.others.value = [viewer.layers["rfp"]]
    fuse(qtbot, widget)
    viewer.layers["gfp"].name, viewer.layers["gfp fused"].name = "stack", "mine"
    viewer.add_labels(np.zeros((64, 64), np.uint8), name="more")
    fuse(qtbot, widget, "compare")
    assert [len(cell) for cell in cells(viewer)] == [2] * 4
    assert cells(viewer)[0] == ["mine", "rfp fused"]
    for cell, title in zip(cells(viewer)[1:], TITLES[1:], strict=True):
        assert cell == [f"{title}: stack", f"{title}: rfp"]


def test_a_full_gpu_means_smaller_tiles_and_the_same_pixels(monkeypatch):
    tried = []

    def full_at_first(job, stack):
        tried.append(job.plan.tile)
        if len(tried) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return (yield from steps_in_memory(job, stack))

    monkeypatch.setattr(fusing, "steps_in_memory", full_at_first)
    task = prepare(Choices(layer=Image(focal_stack()), options=(("tile", 64),)))
    made = run_to_end(fusing.fusing(task), None)
    assert tried == [64, 32]
    assert made.job.plan.tile == 32
    np.testing.assert_allclose(made.levels["fused"][0][0, 0, 0], hf.fuse(focal_stack()).fused, atol=1)


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "uint64"])
def test_whole_numbers_of_any_type_are_fused_without_loss_or_refused(dtype):
    counts = np.arange(3 * 20 * 20).reshape(3, 20, 20) % 100
    channels = [Image(counts.astype(dtype), axis_labels=("z", "y", "x")) for _ in range(2)]
    stack = prepare(Choices(channels[0], channels[1:], options=(("method", "tenengrad"),))).source.stack
    np.testing.assert_array_equal(stack.array, np.stack([counts, counts]).astype(float))
    if np.dtype(dtype).itemsize == 8:
        channels[0].data[0, 0, 0] = 2**53 + 1
        source = prepare(Choices(channels[0], options=(("method", "tenengrad"),))).source
        with pytest.raises(UserInputError, match=r"above 2\^53.*Scale them down"):
            np.asarray(source.stack.array)


def test_pace_says_how_long_it_will_take():
    seconds = iter((0.0, 1.0, 2.0, 12.0))
    pace = Pace(lambda: next(seconds))
    pace.describe(Progress("measuring", 5, 5))
    # The first steps are slow: what they promise is a bound.
    assert pace.describe(Progress("fusing", 1_000_000, 100_000_000)) == "fusing 1 %, at least 50 s left"
    assert pace.describe(Progress("fusing", 50_000_000, 100_000_000)) == "fusing 50 %, 11 s left"


def test_layers_that_do_not_belong_together_are_not_offered(qtbot, viewer):
    for name, pixels in (("one", focal_stack(4, 32)), ("larger", focal_stack(4, 48)), ("floats", np.ones((4, 32, 32)))):
        viewer.add_image(pixels, name=name)
    widget = opened(viewer)
    widget.form.layer.value = viewer.layers["one"]
    assert not widget.form.others.choices
    viewer.add_image(focal_stack(4, 32, 7), name="two")
    assert widget.form.layer.value is viewer.layers["one"]
    qtbot.waitUntil(lambda: list(widget.form.others.choices) == [viewer.layers["two"]])
    viewer.layers.remove("one")
    assert widget.form.layer.value is not None


def test_without_a_step_along_z_heights_are_in_slices(qtbot, viewer):
    viewer.add_image(focal_stack(4, 32), name="plain")
    widget = opened(viewer)
    fuse(qtbot, widget)
    np.testing.assert_array_equal(
        viewer.layers["plain height (slices)"].data[0], hf.fuse(focal_stack(4, 32)).height_slices
    )
    widget.form.z_step_um.value = 2.0
    fuse(qtbot, widget)
    np.testing.assert_array_equal(
        viewer.layers["plain height (µm)"].data[0], hf.fuse(focal_stack(4, 32), z_step_um=2.0).height_um
    )


def test_it_says_whether_fusing_is_right(qtbot, widget):
    fuse(qtbot, widget, "assess")
    assert any(widget.state.value.startswith(f"{each}: ") for each in ("network", "tenengrad", "max", "undecided"))


def test_the_drift_button_draws_what_moved_and_what_alignment_leaves(qtbot, viewer):
    texture = gaussian_filter(np.random.default_rng(0).uniform(0, 9000, (140, 140)), 1.5)
    moved = np.stack([texture[6:134, 2 * z : 2 * z + 128] for z in range(5)]).astype(np.uint16)
    viewer.add_image(moved, name="cells", **PLACE)
    widget = opened(viewer)
    widget.form.method.value = "tenengrad"
    fuse(qtbot, widget, button="drift")
    drift = widget.drift_plot.shown
    assert drift is not None
    assert [drift.before.frame(0)[z].dx for z in (0, 4)] == pytest.approx([4, -4], abs=0.1)
    assert not drift.after.moves
    assert not widget.drift_plot.isHidden()
    assert widget.state.value.startswith("Slices lie up to 4.0 px from their place")
