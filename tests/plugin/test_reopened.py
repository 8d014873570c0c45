"""Fused, saved and opened again, a result lies where it lay, and shows the height that it showed; with real files."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from napari.layers import Image, Layer, Surface
from qtpy.QtWidgets import QFileDialog

import hybridfusion_core as hf
from hybridfusion_core.io.tiff.writer import write_stack
from hybridfusion_core.stack import Axis, Channel
from napari_hybridfusion.result.height_mesh import relief_of, sampled

from .conftest import PIXEL, Z_STEP, write_result
from .test_fuse_widget import PLUGIN, focal_stack, fuse, is_drawn, opened, wait

SLICES, SIDE, TIMES = 4, 32, 3
IRREGULAR = (109.0, 105.0, 104.0, 100.0)  # µm on the stage, downwards


def stack_file(folder: Path, times: int = 1, positions: tuple[float, ...] | None = None) -> Path:
    path = folder / "movie.ome.tif"
    pixels = np.stack([focal_stack(SLICES, SIDE, seed) for seed in range(times)])[:, np.newaxis]
    steps = {"t": Axis(30.0, "second"), "z": Z_STEP, "y": PIXEL, "x": PIXEL}
    channels = [Channel("movie", "00FF00", window=(100, 900))]
    write_stack(path, pixels, channels=channels, z_positions_um=positions, **steps)
    return path


def by_product(layers: Iterable[Layer]) -> dict[str, Image]:
    found = {each.metadata.get("hybridfusion", {}).get("product"): each for each in layers}
    return {product: layer for product, layer in found.items() if product is not None}


@dataclass
class Session:
    """A window, and what one does in it.

    Attributes:
        folder: where the files are.
        layers: of the result by product, as they were after fusing.
    """

    qtbot: object
    viewer: object
    folder: Path
    patch: pytest.MonkeyPatch
    widget: object = None
    layers: dict[str, Image] = field(default_factory=dict)

    def open(self, path: Path) -> dict[str, Image]:
        """Return the layers of a result by product."""
        return by_product(self.viewer.open(str(path), plugin=PLUGIN))

    def fuse(self, stack: Path, products: tuple[str, ...] = ("height",), output: Path | None = None) -> None:
        self.open(stack)
        self.widget = opened(self.viewer)
        self.widget.form.method.value = "tenengrad"
        for name, box in self.widget.form.products.items():
            box.value = name in products
        if output is not None:
            self.widget.form.output.value = "disk"
            self.widget.form.path.value = output
        fuse(self.qtbot, self.widget)
        self.layers = by_product(self.viewer.layers)

    def save(self, path: Path) -> None:
        self.patch.setattr(QFileDialog, "getSaveFileName", lambda *_args, **_kwargs: (str(path), ""))
        self.widget.panel.keep.native.click()
        wait(self.qtbot, self.widget)
        assert self.widget.panel.said.value == f"Saved: {path}"

    def clear(self, *, but: int = 0) -> None:
        for layer in list(self.viewer.layers)[but:]:
            self.viewer.layers.remove(layer)
        self.viewer.dims.ndisplay = 2

    def surface(self) -> Surface:
        """Press the button, which says where it leads; what is selected is a layer of a result."""
        if self.widget.panel.surface.text != "3-D":
            self.widget.panel.surface.native.click()
        self.widget.panel.surface.native.click()
        surface = self.viewer.layers.selection.active
        assert isinstance(surface, Surface), self.widget.panel.said.value
        return surface


@pytest.fixture
def session(qtbot, viewer, tmp_path, monkeypatch) -> Session:
    return Session(qtbot, viewer, tmp_path, monkeypatch)


def assert_same_place(after, before) -> None:
    np.testing.assert_allclose(after.scale, before.scale)
    np.testing.assert_allclose(after.translate, before.translate)
    assert (after.units, after.axis_labels) == (before.units, before.axis_labels)


def assert_same_surface(after: Surface, before: Surface) -> None:
    for one, other in zip(after.data, before.data, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    np.testing.assert_allclose(after.texture, before.texture)
    np.testing.assert_allclose(after.texcoords, before.texcoords)
    assert_same_place(after, before)


def assert_seen_everywhere(session: Session, layer: Image) -> None:
    """See that a layer has its own pixels at the first, a middle and the last position of both sliders."""
    layer.visible = True
    for t in (0, 1, TIMES - 1):
        for z in (0, 1, SLICES - 1):
            session.viewer.dims.set_current_step((0, 1), (t, z))
            np.testing.assert_array_equal(layer._slice.image.view, np.asarray(layer.data)[t, 0])
            assert is_drawn(layer)


@pytest.mark.parametrize("name", [pytest.param("kept.ome.tif", marks=pytest.mark.slow), "fused_to_disk.ome.zarr"])
def test_a_fused_time_series_is_as_thick_as_before(session, name):
    path = session.folder / name
    to_disk = name.startswith("fused")
    # Without a decision, whose colours say how many slices there were.
    session.fuse(stack_file(session.folder, TIMES), output=path if to_disk else None)
    if not to_disk:
        session.save(path)
    session.clear(but=1)  # the stack, whose sliders it must fit
    layers = session.open(path)
    assert set(layers) == set(session.layers) == {"fused", "height_um"}
    for product, before in session.layers.items():
        layer = layers[product]
        assert_same_place(layer, before)
        assert layer.scale[1] == SLICES * Z_STEP.step
        assert layer.translate[1] == (SLICES - 1) / 2 * Z_STEP.step
        assert_seen_everywhere(session, layer)


@pytest.mark.parametrize(("times", "positions"), [pytest.param(1, None, marks=pytest.mark.slow), (TIMES, IRREGULAR)])
def test_a_layer_that_is_saved_alone_keeps_the_step_of_its_slices(session, times, positions):
    session.fuse(stack_file(session.folder, times, positions))
    step = Axis(3.0, "micrometer") if positions else Z_STEP
    before = session.layers["fused"]
    for number in (1, 2):  # saved as it was fused, and as it was opened again
        path = session.folder / f"alone{number}.ome.zarr"
        session.viewer.layers[-1 if number == 2 else before.name].save(str(path), plugin=PLUGIN)
        with hf.open_stack(path) as stored:
            assert stored.z == step
        session.clear()
        session.open(path)
        (after,) = session.viewer.layers
        np.testing.assert_array_equal(np.squeeze(np.asarray(after.data)), np.squeeze(before.data))
        if times > 1:
            assert_same_place(after, before)


def test_axes_that_were_chosen_in_the_form_are_saved(session):
    times = np.stack([focal_stack(SLICES, SIDE, seed) for seed in range(TIMES)], axis=1)
    session.viewer.add_image(times, name="movie", scale=(2.0, 30.0, 0.5, 0.5))
    session.widget = opened(session.viewer)
    session.widget.form.axes.value = "ZTYX"
    fuse(session.qtbot, session.widget)
    path = session.folder / "alone.ome.zarr"
    session.viewer.layers["movie fused"].save(str(path), plugin=PLUGIN)
    with hf.open_stack(path) as stored:
        assert (stored.shape, stored.t.step, stored.z.step) == ((TIMES, 1, 1, SIDE, SIDE), 30.0, 2.0)


@pytest.mark.parametrize(
    ("name", "times", "positions"),
    [
        pytest.param("kept.ome.zarr", 1, IRREGULAR, marks=pytest.mark.slow),
        pytest.param("kept.ome.zarr", TIMES, None, marks=pytest.mark.slow),
        ("fused_to_disk.ome.zarr", TIMES, IRREGULAR),
    ],
)
def test_the_surface_is_the_one_from_before_saving(session, name, times, positions):
    path, to_disk = session.folder / name, name.startswith("fused")
    session.fuse(stack_file(session.folder, times, positions), output=path if to_disk else None)
    fused = session.viewer.layers.selection.active
    session.viewer.dims.set_current_step(0, times // 2 if times > 1 else 0)
    before = session.surface()
    if not to_disk:
        session.viewer.layers.selection.active = fused
        session.save(path)
    session.clear()
    session.open(path)
    session.viewer.dims.set_current_step(0, times // 2 if times > 1 else 0)
    after = session.surface()
    assert session.viewer.dims.ndisplay == 3
    assert [layer for layer in session.viewer.layers if layer.visible] == [after]
    assert_same_surface(after, before)
    # In the world, heights are those of the slices: the first one lies at 0 as in the layer of the stack.
    low, high = after.data_to_world(after.data[0].min(axis=0))[0], after.data_to_world(after.data[0].max(axis=0))[0]
    assert -1e-3 <= low < high <= (SLICES - 1) * (3.0 if positions else 2.0) + 1e-3


def test_it_has_holes_and_few_points(session):
    written = write_result(session.folder / "fused.ome.zarr", y=1100, x=900)
    session.widget = opened(session.viewer)
    session.open(written.path)
    surface = session.surface()
    vertices, faces = surface.data[:2]
    assert len(vertices) <= 512**2
    assert surface.texture.shape == (1100, 900, 3)
    corners = vertices[faces]
    assert corners[..., 2].min() >= 100  # left of it nothing is known
    (top, bottom), (left, right) = ((corners[..., axis].min(), corners[..., axis].max()) for axis in (1, 2))
    np.testing.assert_allclose((top, bottom, left, right), (0, 1099, 100, 899), atol=4)
    assert (tuple(surface.scale), [str(unit) for unit in surface.units]) == ((2.0, 0.25, 0.25), ["micrometer"] * 3)
    # A height of 2 µm, the largest in this file, is one step of the slices.
    assert vertices[..., 0].max() <= 1


def test_seen_from_above_the_surface_is_the_fused_image(session):
    """Only its middle is of the same brightness on all sides: up and down, left and right must not be exchanged."""
    ramp = np.linspace(0, 1, SIDE)
    stack = focal_stack(SLICES, SIDE).astype(np.float32) * (0.1 + ramp[:, None] ** 2 + 0.3 * ramp)
    session.viewer.add_image(stack, name="ramp", scale=(2.0, 0.5, 0.5))
    session.widget = opened(session.viewer)
    fuse(session.qtbot, session.widget)
    height = next(layer for layer in session.viewer.layers if "height" in layer.name)
    height.data = np.ones_like(height.data)  # flat, and without holes
    flat = session.viewer.layers["ramp fused"]
    for layer in session.viewer.layers:
        layer.visible = layer is flat
    session.viewer.reset_view()
    from_above = session.viewer.window.screenshot(canvas_only=True, flash=False)[..., :3].mean(axis=-1)
    session.viewer.layers.selection.active = flat
    session.surface()
    session.viewer.scene.camera.angles = (0, 0, 0)
    session.viewer.reset_view(reset_camera_angle=False)
    surface = session.viewer.window.screenshot(canvas_only=True, flash=False)[..., :3].mean(axis=-1)
    quarters = [
        [part.mean() for half in np.array_split(each, 2) for part in np.array_split(half, 2, axis=1)]
        for each in (from_above, surface)
    ]
    assert np.corrcoef(quarters)[0, 1] > 0.99
    assert np.argsort(quarters[0]).tolist() == np.argsort(quarters[1]).tolist() == [0, 1, 2, 3]


def test_a_result_without_height_says_so(session):
    path = session.folder / "flat.ome.zarr"
    session.fuse(stack_file(session.folder), products=(), output=path)
    session.clear()
    session.open(path)
    session.widget.panel.surface.native.click()
    assert "no height among the layers; expected one" in session.widget.panel.said.value
    assert session.viewer.dims.ndisplay == 2


@pytest.mark.parametrize("first", ["widget", "file"])
def test_the_panel_appears_with_an_opened_result_and_says_what_cannot_be(session, first):
    written = write_result(session.folder / "fused.ome.zarr", y=60, x=200)
    steps = [lambda: setattr(session, "widget", opened(session.viewer)), lambda: session.open(written.path)]
    for step in steps if first == "widget" else steps[::-1]:
        step()
    panel = session.widget.panel
    session.qtbot.waitUntil(lambda: panel.visible)  # the window shows a new dock when it comes to it
    for button in (panel.paint, panel.keep):
        button.native.click()
        assert "opened from a file" in panel.said.value
    before = [layer.visible for layer in session.viewer.layers]
    surface = session.surface()
    panel.surface.native.click()  # back to what was shown
    assert surface not in session.viewer.layers
    assert session.viewer.dims.ndisplay == 2
    assert [layer.visible for layer in session.viewer.layers] == before
    session.viewer.layers.selection.clear()
    panel.surface.native.click()
    assert "No result is selected" in panel.said.value


def test_a_file_that_is_opened_twice_is_two_results(session):
    written = write_result(session.folder / "fused.ome.zarr", y=60, x=200)
    session.widget = opened(session.viewer)
    session.open(written.path)
    first = session.surface()
    session.viewer.dims.ndisplay = 2
    session.open(written.path)
    assert_same_surface(session.surface(), first)


@pytest.mark.parametrize("shape", [(1200, 700), (513, 20), (512, 512), (3, 4)])
def test_samples_of_a_plane_lie_where_they_were_taken(shape):
    y, x = np.indices(shape, dtype=np.float32)
    plane = np.stack([x, y])[:, np.newaxis]  # two channels, each pixel with its own place
    halves = plane[..., : shape[0] // 2 * 2, : shape[1] // 2 * 2]
    half = halves.reshape(2, 1, shape[0] // 2, 2, shape[1] // 2, 2).mean(axis=(3, 5))
    for levels in ([plane], [plane, half]):
        rows, columns = (sampled(levels, (channel, 0), 512) for channel in (1, 0))
        assert max(rows.values.shape) <= 512
        np.testing.assert_allclose(rows.values, np.broadcast_to(rows.rows[:, None], rows.values.shape), atol=1e-3)
        np.testing.assert_allclose(columns.values, np.broadcast_to(columns.columns, rows.values.shape), atol=1e-3)


def test_a_hole_is_where_a_corner_is_missing():
    heights = np.arange(12, dtype=np.float32).reshape(3, 4)
    heights[1, 1] = np.nan
    relief = relief_of(sampled([heights], (), 512))
    assert np.isfinite(relief.vertices).all()
    assert len(relief.faces) == 2 * 6 - 6  # the six triangles around it
    assert 5 not in relief.faces
    np.testing.assert_allclose(relief.texcoords[[0, -1]], [(0.5 / 4, 2.5 / 3), (3.5 / 4, 0.5 / 3)])
    assert not len(relief_of(sampled([heights * np.nan], (), 512)).faces)
