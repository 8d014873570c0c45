"""The task for Fractal on a plate that ngio wrote, and what its manifest says of it."""

import json
from pathlib import Path

import numpy as np
import pytest
from fractal_task_tools._create_manifest import create_manifest
from ngio import Channel, create_empty_plate, create_ome_zarr_from_array, open_ome_zarr_container, open_ome_zarr_plate

import hybridfusion_fractal
from hybridfusion_core.errors import UserInputError
from hybridfusion_core.fusion.api import fuse
from hybridfusion_fractal.fuse_focal_stack import fuse_focal_stack


def write_plate(folder: Path, ngff: str) -> tuple[Path, np.ndarray]:
    """A plate with one image C Z Y X, whose channels have wavelength_ids, and a table of regions."""
    from ngio import ImageInWellPath

    where = ImageInWellPath(row="B", column="03", path="0", acquisition_id=0)
    create_empty_plate(folder / "plate.zarr", name="plate", images=[where], ngff_version=ngff)
    random = np.random.default_rng(0)
    pixels = random.integers(100, 4000, (2, 3, 64, 80)).astype(np.uint16)
    image = folder / "plate.zarr" / "B" / "03" / "0"
    container = create_ome_zarr_from_array(
        image,
        array=pixels,
        pixelsize=0.5,
        z_spacing=2.0,
        levels=1,
        channels_meta=[
            Channel.default_init(label=name, wavelength_id=f"A01_C0{n}") for n, name in enumerate(("DAPI", "GFP"), 1)
        ],
        ngff_version=ngff,
        overwrite=True,
    )
    container.add_table("FOV_ROI_table", container.build_image_roi_table("FOV_1"))
    return image, pixels


# anndata, which ngio writes tables with, announces its next release, and metadata that no specification knows.
@pytest.mark.filterwarnings("ignore:Consolidated metadata")
@pytest.mark.filterwarnings("ignore:Writing zarr v2 data:UserWarning")
@pytest.mark.parametrize("ngff", ["0.4", "0.5"])
def test_a_fused_image_lies_beside_its_stack(tmp_path: Path, ngff: str) -> None:
    image, pixels = write_plate(tmp_path, ngff)
    options = {"zarr_url": str(image), "method": "tenengrad", "device": "cpu"}
    update = fuse_focal_stack(**options)
    made = image.with_name("0fused")
    assert update == {"image_list_updates": [{"zarr_url": str(made), "origin": str(image), "types": {"is_3D": False}}]}
    well = open_ome_zarr_plate(tmp_path / "plate.zarr", mode="r").get_well("B", "03")
    assert sorted(well.paths()) == ["0", "0fused"]
    fused = open_ome_zarr_container(made, mode="r")
    assert fused.wavelength_ids == ["A01_C01", "A01_C02"]
    assert fused.channel_labels == ["DAPI", "GFP"]
    assert fused.list_tables() == ["FOV_ROI_table"]
    assert fused.list_labels() == ["decision"]
    expected = fuse(pixels, axes="CZYX", z_step_um=2.0, method="tenengrad", device="cpu").fused
    np.testing.assert_array_equal(np.squeeze(fused.get_image(path="0").get_as_numpy()), np.squeeze(expected))
    assert open_ome_zarr_container(image.with_name("0fusedmaps"), mode="r").channel_labels[0] == "height_um"
    with pytest.raises(UserInputError, match="exists already"):
        fuse_focal_stack(**options)
    fuse_focal_stack(**options, overwrite=True)
    assert sorted(each.name for each in image.parent.iterdir() if each.is_dir()) == ["0", "0fused", "0fusedmaps"]


def test_the_manifest_is_that_of_the_task() -> None:
    stored = Path(hybridfusion_fractal.__file__).with_name("__FRACTAL_MANIFEST__.json")
    made = create_manifest(raw_package_name="hybridfusion_fractal", task_list_path="task_list")
    assert json.loads(stored.read_text(encoding="utf-8")) == json.loads(json.dumps(made))
