"""Channels along a height map: what a projection must be, whatever the map."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

import hybridfusion_core as hf
from hybridfusion_core.cli import main
from hybridfusion_core.io.verify import verify
from hybridfusion_core.registration.placement import Placement, Slice
from hybridfusion_core.surface import projection

FUSING = {"method": "tenengrad", "device": "cpu"}


def _stack(depth: int = 9, side: int = 48) -> np.ndarray:
    return np.random.default_rng(3).integers(1, 60_000, (depth, side, side)).astype(np.uint16)


def test_the_decisions_heights_give_hard_selection() -> None:
    stack = _stack()
    fused = hf.fuse(stack, z_step_um=0.7, select="hard", **FUSING)
    decision = fused.decision
    heights = np.where(decision > 0, (decision - 1.0) * 0.7, np.nan).astype(np.float32)
    projected = hf.project(stack, heights, z_step_um=0.7).fused
    assert projected.dtype == np.uint16
    np.testing.assert_array_equal(projected, np.where(decision > 0, fused.fused, 0))


@pytest.mark.parametrize("how", ["max", "mean", "median"])
@pytest.mark.parametrize("thickness", [0.0, 3.0])
def test_a_tilted_plane_has_no_steps(how: str, thickness: float) -> None:
    ramp = np.linspace(2, 6, 200)  # slices
    stack = np.broadcast_to(np.arange(9.0)[:, None, None] * 100, (9, 4, 200)).astype(np.float32)
    heights = np.broadcast_to(ramp, (4, 200)).astype(np.float32)
    found = hf.project(stack, heights, z_step_um=1.0, offset_um=0.5, thickness_um=thickness, how=how).fused
    expected = (ramp + 0.5 + (thickness / 2 if how == "max" else 0)) * 100
    np.testing.assert_allclose(found[0], expected, atol=0.1)


def test_slices_of_a_slab_count_whole() -> None:
    stack = _stack()
    heights = np.full(stack.shape[1:], 4.0, np.float32)
    about = {"z_step_um": 1.0, "thickness_um": 2.0}
    np.testing.assert_array_equal(hf.project(stack, heights, how="stack", **about).fused, stack[3:6])
    np.testing.assert_array_equal(hf.project(stack, heights, how="max", **about).fused, stack[3:6].max(0))
    np.testing.assert_array_equal(hf.project(stack, heights, how="median", **about).fused, np.median(stack[3:6], 0))
    np.testing.assert_array_equal(hf.project(stack, heights, how="sum", **about).fused, stack[3:6].sum(0))


def test_no_height_gives_no_slice() -> None:
    stack = _stack()
    heights = np.full(stack.shape[1:], 4.0, np.float32)
    heights[:5], heights[5:9] = np.nan, 8.5  # outside the stack
    found = hf.project(stack, heights, z_step_um=1.0, fill="nan").fused
    assert found.dtype == np.float32
    np.testing.assert_array_equal(np.isfinite(found), np.arange(48)[:, None] >= np.full((48, 48), 9))
    assert not hf.project(stack, heights, z_step_um=1.0).fused[:9].any()


def test_blocks_change_no_pixel_and_positions_may_run_down(monkeypatch: pytest.MonkeyPatch) -> None:
    z = np.array([9.0, 8.0, 6.5, 5.0, 1.0])
    array = _stack(5)
    stack = hf.Stack(array, "ZYX", z_positions_um=tuple(z))
    heights = np.random.default_rng(1).uniform(2, 8, array.shape[1:]).astype(np.float32)
    about = {"thickness_um": 2.0, "how": "mean", "offset_um": -0.2}
    whole = hf.project(stack, heights, **about).fused
    monkeypatch.setattr(projection, "_BLOCK", 16)
    monkeypatch.setattr(projection.Projection, "block", 16)
    np.testing.assert_array_equal(hf.project(stack, heights, **about).fused, whole)
    heights[...] = 8.0
    np.testing.assert_array_equal(hf.project(stack, heights).fused[0, 0, 0], array[1])


@pytest.mark.parametrize("frame", ["keep", "crop"])
def test_heights_of_aligned_slices_are_followed_through_aligned_slices(tmp_path: Path, frame: str) -> None:
    stack, transforms = _stack(), tmp_path / "x.transforms.json"
    placement = Placement("shift", 9, (48, 48), 4, ({z: Slice(dy=z - 4.0, dx=0.5 * (z - 4)) for z in range(9)},))
    transforms.write_text(json.dumps(placement.as_json()))
    about = {"align_from": str(transforms), "align_frame": frame, "z_step_um": 1.0, **FUSING}
    within = hf.fuse(stack, project=("0:0.3:0:max",), **about)
    after = hf.project(stack, within, offset_um=0.3, z_step_um=1.0)
    np.testing.assert_array_equal(after.fused, within.fused)
    assert after.spec.provenance["treatment"]["alignment"] == within.spec.provenance["treatment"]["alignment"]
    assert after.spec.start == within.spec.start == ((4, 2) if frame == "crop" else (0, 0))
    with pytest.raises(hf.UserInputError, match="found on slices that were aligned"):
        hf.project(stack[1:], within, z_step_um=1.0)


def _refused(heights: np.ndarray, match: str, **options: object) -> None:
    with pytest.raises(hf.UserInputError, match=match):
        hf.project(_stack(), heights, **{"z_step_um": 1.0, **options})


def test_heights_that_do_not_fit_are_refused() -> None:
    good = np.full((48, 48), 4.0, np.float32)
    _refused(good[:40], "expected one height for every pixel")
    _refused(good * 1000, "outside")
    _refused(good.astype(np.uint16), "floating-point")
    _refused(good, "--z-step", z_step_um=None)
    _refused(good, "thickness", thickness_um=-1.0)
    _refused(good, "no channel", by_channel={"DAPI": (0.0, 0.0, "max")})


def test_files_of_ours_and_of_others_are_followed_on_disk(tmp_path: Path) -> None:
    stack, path = _stack(), tmp_path / "cells.ome.tif"
    pixels = {"PhysicalSizeZ": 0.5, "PhysicalSizeZUnit": "µm"}
    tifffile.imwrite(path, stack, metadata={"axes": "ZYX", **pixels})
    hf.fuse_to(path, tmp_path / "fused.ome.zarr", **FUSING)
    ours = hf.project_to(path, tmp_path / "fused.ome.zarr", tmp_path / "ours.ome.tif", thickness_um=1.0, how="stack")
    assert ours.depth == 3
    with hf.open_stack(tmp_path / "ours.ome.tif") as written:
        assert written.shape == (1, 1, 3, 48, 48)
        np.testing.assert_allclose(np.diff(written.z_um), 0.5)
    other = tmp_path / "other.tif"
    tifffile.imwrite(other, np.full((48, 48), 3.0, np.float32))
    hf.project_to(path, other, tmp_path / "theirs.ome.zarr", height_unit="slices")
    with hf.open_stack(tmp_path / "theirs.ome.zarr") as written:
        np.testing.assert_array_equal(written.read(0, 0, [0], slice(0, 48), slice(0, 48))[0], stack[3])
    with pytest.raises(hf.UserInputError, match="exists"):
        hf.project_to(path, other, tmp_path / "theirs.ome.zarr")
    moved = path.rename(tmp_path / "another.ome.tif")
    with pytest.raises(hf.UserInputError, match="is the height of cells"):
        hf.project_to(moved, tmp_path / "fused.maps.ome.zarr", tmp_path / "third.ome.zarr")
    with pytest.raises(hf.UserInputError, match="expected one of them"):
        hf.project_to(
            moved, tmp_path / "fused.maps.ome.zarr", tmp_path / "x.tif", other_stack=True, height_unit="slices"
        )


def test_the_command_line_gives_what_python_gives(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stack = np.stack([_stack(), _stack()[::-1]], axis=1)
    path, heights, out = tmp_path / "two.ome.tif", tmp_path / "h.tif", tmp_path / "out.ome.zarr"
    about = {"axes": "ZCYX", "PhysicalSizeZ": 1.0, "PhysicalSizeZUnit": "µm", "Channel": {"Name": ["DAPI", "GFP"]}}
    tifffile.imwrite(path, stack, metadata=about)
    tifffile.imwrite(heights, np.full((48, 48), 3.0, np.float32))
    command = ["project", str(path), "--surface", str(heights), "-o", str(out), "--channel", "GFP:-1:2:max"]
    assert main(command) == 0
    with hf.open_stack(out) as written:
        found = [written.read(0, c, [0], slice(None), slice(None))[0] for c in range(2)]
    np.testing.assert_array_equal(found[0], stack[3, 0])
    np.testing.assert_array_equal(found[1], stack[1:4, 1].max(0))
    assert verify(out) == []
    assert main(command) == 2
    assert "--overwrite" in capsys.readouterr().err
