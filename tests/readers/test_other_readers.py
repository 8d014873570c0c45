"""What other readers show of our outputs, pinned: a change on either side should be seen here first.

These readers live in an environment of their own, since ngio holds back libraries that napari has newer.
"""

from pathlib import Path

import napari_ome_zarr
import ngio
import numpy as np
import pytest
from napari_builtins.io import napari_get_reader

from hybridfusion_core.io.create import create_output
from hybridfusion_core.io.result_spec import MapChannel, ResultSpec
from hybridfusion_core.stack import Axis, Channel
from napari_hybridfusion.files.reader import get_reader

CHANNELS = (Channel("DAPI", "0000FF", window=(10, 4000)), Channel("membrane", "FF8000", window=(20, 3000)))
LEVELS = [(600, 70), (300, 35)]
ZARRS = ["0.5", "0.4"]


def write(path: Path, channels: int = 2, **options) -> dict[str, np.ndarray]:
    spec = ResultSpec(
        name="organoid",
        shape=(1, channels, *LEVELS[0]),
        dtype=np.dtype(np.uint16),
        channels=CHANNELS[:channels],
        z=Axis(2.0, "micrometer"),
        y=Axis(0.25, "micrometer"),
        x=Axis(0.25, "micrometer"),
        slices=5,
        decision_channels=("DAPI",),
        maps=(MapChannel("height_um", (0.0, 8.0)), MapChannel("confidence", (0.0, 1.0))),
    )
    random = np.random.default_rng(0)
    pixels = {}
    with create_output(path, spec, **options) as output:
        for name, array in output.arrays.items():
            top = {"fused": 4000, "decision": 6, "maps": 2}[name]
            pixels[name] = random.integers(0, top, array.shape).astype(array.dtype)
            array[...] = pixels[name]
        output.commit()
    return pixels


def same(shown, written) -> None:
    np.testing.assert_array_equal(np.asarray(shown), written)


def read_by_napari(path: Path):
    ((shown, *meta),) = napari_get_reader(str(path))(str(path))
    assert meta == []  # no scale, no unit, no name, no colour
    return shown


@pytest.mark.parametrize("suffix", [".ome.tif", ".tif"])
def test_napari_shows_the_pixels_of_tiffs_and_nothing_else(tmp_path: Path, suffix: str) -> None:
    pixels = write(tmp_path / f"r{suffix}")
    same(read_by_napari(tmp_path / f"r{suffix}"), pixels["fused"][0, :, 0])
    same(read_by_napari(tmp_path / f"r.decision{suffix}"), pixels["decision"][0, 0, 0])
    same(read_by_napari(tmp_path / f"r.maps{suffix}"), pixels["maps"][0, :, 0])


def test_napari_shows_png(tmp_path: Path) -> None:
    pixels = write(tmp_path / "r.png", channels=1)
    same(read_by_napari(tmp_path / "r.png"), pixels["fused"][0, 0, 0])


@pytest.mark.parametrize("ngff", ZARRS)
def test_napari_shows_pyramids_but_stumbles_over_labels(tmp_path: Path, ngff: str) -> None:
    pixels = write(tmp_path / "r.ome.zarr", ngff=ngff)
    levels = read_by_napari(tmp_path / "r.maps.ome.zarr")
    assert [level.shape for level in levels] == [(1, 2, 1, *plane) for plane in LEVELS]
    same(levels[0], pixels["maps"])
    # It takes every group inside an image for an array; ours and napari-ome-zarr open such images.
    with pytest.raises(ValueError, match="No arrays found in zarr group"):
        read_by_napari(tmp_path / "r.ome.zarr")


@pytest.mark.parametrize(
    ("name", "options"), [("r.ome.zarr", {"ngff": "0.5"}), ("r.ome.zarr", {"ngff": "0.4"}), ("r.ome.tif", {})]
)
def test_our_reader_shows_everything(tmp_path: Path, name: str, options: dict[str, str]) -> None:
    pixels = write(tmp_path / name, **options)
    layers = get_reader(str(tmp_path / name))(str(tmp_path / name))
    shown = [(meta["name"], kind) for _, meta, kind in layers]
    products = [f"DAPI + membrane {product}" for product in ("height (µm)", "confidence", "decision")]
    assert shown == [(each, "image") for each in ("DAPI fused", "membrane fused", *products)]
    written = [*pixels["fused"][0, :, 0], *pixels["maps"][0, :, 0], pixels["decision"][0, 0, 0]]
    for (levels, meta, _), plane in zip(layers, written, strict=True):
        assert [level.shape for level in levels] == LEVELS
        assert meta["scale"] == (0.25, 0.25)
        assert meta["units"] == ("micrometer", "micrometer")
        same(levels[0], plane)
    assert [meta["colormap"] for _, meta, _ in layers[:2]] == ["#0000FF", "#FF8000"]


@pytest.mark.parametrize("name", ["r.tif", "r.png"])
def test_our_reader_shows_plain_files(tmp_path: Path, name: str) -> None:
    pixels = write(tmp_path / name, channels=1)
    reader = get_reader(str(tmp_path / name))
    if name == "r.png":
        assert reader is None  # a picture says nothing that napari's own reader would lose
        return
    (shown, meta, _), *companions = reader(str(tmp_path / name))
    assert len(companions) == 3
    assert meta["scale"] == (0.25, 0.25)
    same(shown, pixels["fused"][0, 0, 0])


@pytest.mark.parametrize("ngff", ZARRS)
def test_napari_ome_zarr_shows_image_labels_and_maps(tmp_path: Path, ngff: str) -> None:
    pixels = write(tmp_path / "r.ome.zarr", ngff=ngff)
    (fused, about, _), (decision, about_labels, kind) = read_by_napari_ome_zarr(tmp_path / "r.ome.zarr")
    assert about["name"] == ["organoid: DAPI", "organoid: membrane"]
    assert about["contrast_limits"] == [[10.0, 4000.0], [20.0, 3000.0]]
    assert [tuple(each.colors[-1][:3].round(2)) for each in about["colormap"]] == [(0, 0, 1), (1, 0.5, 0)]
    assert (kind, about_labels["visible"]) == ("labels", False)
    ((maps, about_maps, _),) = read_by_napari_ome_zarr(tmp_path / "r.maps.ome.zarr")
    assert about_maps["name"] == ["organoid maps: height_um", "organoid maps: confidence"]
    assert about_maps["contrast_limits"] == [[0.0, 8.0], [0.0, 1.0]]
    for levels, meta, written in (
        (fused, about, "fused"),
        (decision, about_labels, "decision"),
        (maps, about_maps, "maps"),
    ):
        assert [level.shape[3:] for level in levels] == LEVELS
        assert list(meta["scale"][-3:]) == [2.0, 0.25, 0.25]
        assert meta["units"][-3:] == ("micrometer",) * 3
        same(levels[0], pixels[written])


def read_by_napari_ome_zarr(path: Path):
    return napari_ome_zarr.napari_get_reader(str(path))(str(path))


@pytest.mark.parametrize("ngff", ZARRS)
def test_ngio_shows_image_labels_and_maps(tmp_path: Path, ngff: str) -> None:
    pixels = write(tmp_path / "r.ome.zarr", ngff=ngff)
    fused = ngio.open_ome_zarr_container(str(tmp_path / "r.ome.zarr"), mode="r")
    maps = ngio.open_ome_zarr_container(str(tmp_path / "r.maps.ome.zarr"), mode="r")
    assert fused.list_labels() == ["decision"]
    assert fused.get_image().channel_labels == ["DAPI", "membrane"]
    assert maps.get_image().channel_labels == ["height_um", "confidence"]
    shown = {"fused": fused.get_image(), "decision": fused.get_label("decision"), "maps": maps.get_image()}
    assert (fused.levels, maps.levels) == (2, 2)
    for name, image in shown.items():
        assert image.axes == ("t", "c", "z", "y", "x")
        assert (image.pixel_size.z, image.pixel_size.y, image.pixel_size.x) == (2.0, 0.25, 0.25)
        assert image.pixel_size.space_unit == "micrometer"
        same(image.get_array(), pixels[name])
