"""Labels measured in three dimensions, and the surface as a mesh."""

import csv
from pathlib import Path

import numpy as np
import pytest
import tifffile

import hybridfusion_core as hf
from hybridfusion_core.cli import main
from hybridfusion_core.io.create import create_output
from hybridfusion_core.io.result_spec import MapChannel, ResultSpec
from hybridfusion_core.stack import Axis, Channel


@pytest.fixture
def tilted(tmp_path: Path) -> tuple[Path, Path]:
    """A result whose surface rises by 45° along x, half of it known; and labels: 3 on it, 7 where nothing is."""
    um = Axis(0.5, "micrometer")
    spec = ResultSpec(
        "tilted", (1, 1, 40, 60), np.dtype(np.uint16), (Channel("DAPI"),), z=um, y=um, x=um,
        maps=(MapChannel("height_um", (0, 1)), MapChannel("confidence", (0, 1))),
    )  # fmt: skip
    height = np.broadcast_to(np.arange(60) * 0.5, (40, 60)).astype(np.float32).copy()
    height[:, 30:] = np.nan
    with create_output(tmp_path / "tilted.ome.zarr", spec) as output:
        output.arrays["fused"][...] = np.full((1, 1, 1, 40, 60), 300)
        output.arrays["maps"][0, :, 0] = np.stack([height, np.where(np.isnan(height), np.nan, 0.8)])
        output.commit()
    labels = np.zeros((40, 60), np.uint16)
    labels[5:25, 5:25], labels[5:25, 40:50] = 3, 7
    tifffile.imwrite(tmp_path / "labels.tif", labels)
    return tmp_path / "tilted.ome.zarr", tmp_path / "labels.tif"


def test_a_tilted_label_is_as_large_as_it_is(tilted: tuple[Path, Path], tmp_path: Path) -> None:
    out, mesh = tmp_path / "table.csv", tmp_path / "mesh.ply"
    pytest.importorskip("trimesh")
    command = ["measure", str(tilted[0]), "--labels", str(tilted[1]), "-o", str(out), "--mesh", str(mesh)]
    assert main(command) == 0
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert [row["label"] for row in rows] == ["3", "7"]
    first = {name: float(value) for name, value in rows[0].items()}
    assert first["tilt_degrees"] == pytest.approx(45, abs=1e-3)
    assert first["area_um2"] == pytest.approx(100)
    assert first["area_corrected_um2"] == pytest.approx(100 * np.sqrt(2), rel=1e-4)
    assert first["z_um"] == pytest.approx((5 + 24) / 4)
    assert first["z_roughness_um"] == pytest.approx(0, abs=1e-4)
    assert (first["confidence"], first["intensity: DAPI"], first["in_focus"]) == (pytest.approx(0.8), 300, 1)
    assert rows[1]["z_um"] == rows[1]["area_corrected_um2"] == ""
    assert rows[1]["in_focus"] == "0"
    import trimesh

    found = trimesh.load(mesh)
    assert found.area == pytest.approx(39 * 29 * 0.25 * np.sqrt(2), rel=1e-5)  # µm², without a face where nothing is
    assert main(command) == 2  # there is one


def test_a_table_of_ome_zarr_says_what_it_is(tilted: tuple[Path, Path], tmp_path: Path) -> None:
    import zarr

    assert main(["measure", str(tilted[0]), "--labels", str(tilted[1]), "-o", str(tmp_path / "t.zarr")]) == 0
    attributes = dict(zarr.open_group(tmp_path / "t.zarr", mode="r").attrs)
    assert (attributes["type"], attributes["backend"], attributes["index_key"]) == ("feature_table", "csv", "label")
    assert (tmp_path / "t.zarr" / "table.csv").read_text().startswith("label,time,pixels")


def test_labels_of_another_image_are_refused(tilted: tuple[Path, Path], tmp_path: Path) -> None:
    from hybridfusion_core.surface.labels_table import measure_labels

    tifffile.imwrite(tmp_path / "small.tif", np.zeros((20, 60), np.uint16))
    with pytest.raises(hf.UserInputError, match="expected the same"):
        measure_labels(tilted[0], tmp_path / "small.tif")
    tifffile.imwrite(tmp_path / "float.tif", np.zeros((40, 60), np.float32))
    with pytest.raises(hf.UserInputError, match="plane of integers"):
        measure_labels(tilted[0], tmp_path / "float.tif")
