"""Slabs, the best slice and smooth surfaces: what each plane of a result is."""

from pathlib import Path

import numpy as np
import pytest
import torch

import hybridfusion_core as hf
from hybridfusion_core.cli import main
from hybridfusion_core.io.verify import stored_provenance, verify
from hybridfusion_core.model.smooth_surface import one_surface, two_surfaces
from hybridfusion_core.scenes.hollow import hollow_scene

FUSING = {"method": "tenengrad", "device": "cpu"}


@pytest.fixture(scope="module")
def hollow() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts Z Y X, heights top and bottom 2 Y X, and where both are well apart."""
    scene = hollow_scene(160, 12, torch.Generator().manual_seed(5), photons=2000)
    counts = (scene.counts.numpy() * 20_000 + 100).clip(0, 65_535).astype(np.uint16)
    return counts, np.stack([scene.upper, scene.lower]), scene.inside.numpy()


def test_two_surfaces_are_told_apart_everywhere(hollow: tuple[np.ndarray, ...]) -> None:
    counts, heights, apart = hollow
    found = hf.fuse(counts, surface_from="posterior", surfaces=2, **FUSING)
    assert found.fused.shape == found.decision.shape == found.confidence.shape == (2, 160, 160)
    error = np.abs(found.height_slices - heights)[:, apart]
    assert np.isfinite(error).mean() > 0.97
    assert np.nanquantile(error, 0.95) < 0.5
    swapped = np.abs(found.height_slices - heights[::-1])[:, apart] < error
    assert not swapped.any()
    falling = hf.fuse(hf.Stack(counts, "ZYX", z_positions_um=tuple(range(12, 0, -1))), surface_from="posterior",
                      surfaces=2, **FUSING)  # fmt: skip
    np.testing.assert_array_equal(falling.fused[0, 0], found.fused[::-1])


def test_a_preferred_surface_is_that_of_two(hollow: tuple[np.ndarray, ...]) -> None:
    counts, heights, apart = hollow
    for prefer, truth in (("top", heights[0]), ("bottom", heights[1])):
        height = hf.fuse(counts, surface_from="posterior", prefer=prefer, **FUSING).height_slices
        assert np.nanquantile(np.abs(height - truth)[apart], 0.9) < 0.5


@pytest.mark.parametrize("planes", [{"surface_from": "posterior", "surfaces": 2}, {"slab": "5:1"}])
def test_tiles_change_nothing(hollow: tuple[np.ndarray, ...], planes: dict[str, object]) -> None:
    whole = hf.fuse(hollow[0], **planes, **FUSING)
    tiled = hf.fuse(hollow[0], tile=64, **planes, **FUSING)
    for name in whole.arrays:
        np.testing.assert_array_equal(whole.arrays[name], tiled.arrays[name])


def test_a_smooth_surface_takes_no_lone_slice() -> None:
    cost = np.full((9, 20, 20), 2.0, np.float32)
    cost[4] = 0
    cost[:, 10, 10] = [0, 2, 2, 2, 2, 2, 2, 2, 2]
    np.testing.assert_allclose(one_surface(cost, 0.3), 4, atol=0.2)
    cost[7] = 0.5
    low, high = two_surfaces(cost, 0.3)
    np.testing.assert_allclose(np.stack([low, high])[:, 2:-2, 2:-2].mean(axis=(1, 2)), [4, 7], atol=0.3)


def test_slabs_are_a_stack_again_and_one_slab_is_the_fusion(hollow: tuple[np.ndarray, ...], tmp_path: Path) -> None:
    counts = hollow[0]
    plain, one = hf.fuse(counts, **FUSING), hf.fuse(counts, slab="12", **FUSING)
    for name in plain.arrays:
        np.testing.assert_array_equal(plain.arrays[name], one.arrays[name])
    slabs = hf.fuse(counts, z_step_um=0.5, slab="5:1", **FUSING)
    np.testing.assert_allclose(slabs.spec.z_positions_um, [1, 3, 4.5 * 1.0])  # slices 0–4, 4–8, 7–11
    for index, first in enumerate((0, 4, 7)):
        inside = counts[first : first + 5]
        assert ((slabs.fused[index] >= inside.min(0)) & (slabs.fused[index] <= inside.max(0))).all()
        decided = slabs.decision[index][slabs.decision[index] > 0]
        assert decided.min() > first
        assert decided.max() <= first + 5
    for name in ("slabs.ome.zarr", "slabs.ome.tif"):
        hf.save(slabs, tmp_path / name)
        assert verify(tmp_path / name) == []
        with hf.open_stack(tmp_path / name) as written:
            assert written.shape[2] == 3
    with pytest.raises(hf.UserInputError, match="a PNG holds one"):
        hf.save(slabs, tmp_path / "slabs.png")


def test_the_best_slice_is_one_slice_as_it_is(tiny_model: str) -> None:
    counts = np.random.default_rng(0).normal(500, 3, (5, 64, 64))
    counts[3] += np.random.default_rng(1).normal(0, 200, (64, 64))
    counts = counts.clip(0).astype(np.uint16)
    found = hf.fuse(counts, method="best-slice", model=tiny_model, device="cpu")
    best = {index for index, plane in enumerate(counts) if np.array_equal(plane, found.fused)}
    assert len(best) == 1
    assert set(np.unique(found.decision)) <= {0, best.pop() + 1}


def test_what_contradicts_itself_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counts = np.zeros((4, 32, 32), np.uint16)
    for options, said in (
        ({"surfaces": 2}, "surface-from"),
        ({"slab": "9"}, "at most the 4 slices"),
        ({"slab": "2", "surface_from": "posterior"}, "one of them"),
        ({"method": "max", "slab": "2"}, "decides by pixel"),
    ):
        with pytest.raises(hf.UserInputError, match=said):
            hf.fuse(counts, **{"device": "cpu", "method": "tenengrad", **options})
    assert main(["fuse", str(tmp_path), "-o", str(tmp_path / "x.tif"), "--surfaces", "2"]) == 2
    assert "--surface-from posterior" in capsys.readouterr().err


def test_a_result_says_in_which_slices_it_is_in_focus(hollow: tuple[np.ndarray, ...], tmp_path: Path) -> None:
    fused = hf.fuse(hollow[0], **FUSING)
    decided = np.sort(fused.decision[fused.decision > 0])
    said = fused.spec.provenance["focus"][0]
    assert said["best_slice"] == np.bincount(decided).argmax()
    assert said["first_slice"] == decided[int(0.05 * len(decided))]
    assert said["last_slice"] == decided[int(0.95 * len(decided))]
    spec = hf.fuse_to(hf.Stack.from_array(hollow[0]), tmp_path / "x.ome.zarr", **FUSING)
    assert spec.provenance["focus"][0] == said
    assert stored_provenance(tmp_path / "x.ome.zarr")["focus"][0] == said


@pytest.mark.parametrize("z_step_um", [None, 0.5])
def test_a_projected_channel_is_what_project_gives(hollow: tuple[np.ndarray, ...], z_step_um: float | None) -> None:
    asked = {"tile": 64, "surface_from": "posterior", "project": ("0:0.5:1.5:mean",)}
    within = hf.fuse(hollow[0], z_step_um=z_step_um, **asked, **FUSING)
    heights = within.height_um if z_step_um else within.height_slices
    about = {"offset_um": 0.5, "thickness_um": 1.5, "how": "mean", "z_step_um": z_step_um}
    unit = "um" if z_step_um else "slices"
    after = hf.project(hollow[0], heights, height_unit=unit, **about).fused
    np.testing.assert_array_equal(within.fused, after)
    assert (after > 0).mean() > 0.3
