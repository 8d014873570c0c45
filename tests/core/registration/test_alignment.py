"""Slices that drift are put on each other, others stay bit for bit, and what cannot be aligned is refused."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy.ndimage import affine_transform, gaussian_filter

import hybridfusion_core as hf
from hybridfusion_core.cli import main
from hybridfusion_core.errors import UserInputError
from hybridfusion_core.fusion.treated import placement_in
from hybridfusion_core.registration.measure import Guide
from hybridfusion_core.registration.notice import visible_drift
from hybridfusion_core.registration.placement import Placement, Slice, placement_of
from hybridfusion_core.registration.resampled import aligned
from hybridfusion_core.stack import Axis, Channel, Stack

SIDE, DEPTH = 160, 5


def drifting(step: float = 0.0, growth: float = 0.0, noise: float = 8.0) -> np.ndarray:
    """A texture in focus in the middle slice, that moves by `step` px and grows by `growth` from slice to slice."""
    rng = np.random.default_rng(3)
    room = SIDE + 64
    specimen = gaussian_filter(rng.normal(size=(room, room)), 1.5)
    specimen *= 300 / specimen.std()
    planes = []
    for z in range(DEPTH):
        away = z - DEPTH // 2
        blurred = gaussian_filter(specimen, 0.3 + 1.2 * abs(away))
        scale, middle = 1 + growth * away, (SIDE - 1) / 2
        offset = 32 + middle - (middle + np.array([0.8, -0.6]) * step * away) / scale
        planes.append(affine_transform(blurred, [1 / scale] * 2, offset, (SIDE, SIDE), order=5))
    return np.rint(np.array(planes) + 2000 + noise * rng.normal(size=(DEPTH, SIDE, SIDE))).astype(np.uint16)


def fused(stack: np.ndarray, **options: object) -> hf.FuseResult:
    return hf.fuse(stack, z_step_um=1.0, method="tenengrad", **options)


def placement(result: hf.FuseResult) -> Placement:
    found = placement_in(result.spec.provenance["treatment"])
    assert found is not None
    return found


def test_a_drift_is_found_to_a_tenth_of_a_pixel() -> None:
    found = placement(fused(drifting(step=2.5), align="shift"))
    errors = [np.hypot(each.dy - 2 * (z - 2), each.dx + 1.5 * (z - 2)) for z, each in found.frames[0].items()]
    assert found.kind == "shift"
    assert max(errors) < 0.1


def test_a_magnification_is_found_at_the_corners() -> None:
    found = placement(fused(drifting(growth=0.0025), align="similarity"))
    corner = np.array([[0.0, 0.0]])
    for z, each in found.frames[0].items():
        true = Slice(scale=1 + 0.0025 * (z - 2)).at(corner, (SIDE, SIDE))
        assert np.linalg.norm(each.at(corner, (SIDE, SIDE)) - true) < 0.3


@pytest.mark.parametrize("align", ["shift", "similarity"])
def test_slices_that_do_not_drift_are_not_moved(align: str) -> None:
    stack = drifting()
    result = fused(stack, align=align)
    np.testing.assert_array_equal(result.fused, fused(stack).fused)
    assert not placement(result).moves
    assert any("none was moved" in each for each in result.warnings)


def test_a_drift_that_nobody_asked_about_is_named() -> None:
    def noticed(stack: np.ndarray) -> float | None:
        def read(slices: Sequence[int], rows: slice, columns: slice) -> np.ndarray:
            return stack[list(slices)][:, rows, columns].astype(np.float32)

        return visible_drift(Guide(read, tuple(range(DEPTH)), (SIDE, SIDE), "stack"))

    assert noticed(drifting(step=2.5)) == pytest.approx(10, abs=1)
    assert noticed(drifting()) is None


def moved() -> tuple[Stack, Placement]:
    rng = np.random.default_rng(5)
    stack = Stack.from_array(rng.integers(0, 4000, (3, 90, 120), dtype=np.uint16))
    frame = {0: Slice(3.3, -7.6, 1.01, 1.5), 1: Slice(), 2: Slice(-4.0, 5.0)}
    return stack, Placement("similarity", 3, (90, 120), 1, (frame,))


def test_a_region_is_the_same_however_it_is_read() -> None:
    stack, where = moved()
    seen = aligned(stack, where)
    whole = seen.read(0, 0, [0, 1, 2], slice(0, 90), slice(0, 120)).astype(int)
    part = seen.read(0, 0, [2, 0], slice(31, 77), slice(5, 64)).astype(int)
    assert np.abs(whole[[2, 0], 31:77, 5:64] - part).max() <= 1
    np.testing.assert_array_equal(whole[1], stack.array[1])
    # Whole pixels are copied: what slice 2 shows at (y − 4, x + 5) stands at (y, x).
    np.testing.assert_array_equal(whole[2, 4:, :-5], stack.array[2, :-4, 5:])


def test_where_a_slice_does_not_reach_its_neighbour_stands_in() -> None:
    stack, where = moved()
    whole = aligned(stack, where).read(0, 0, [2], slice(0, 90), slice(0, 120))[0]
    np.testing.assert_array_equal(whole[:4], stack.array[1, :4])


def test_cropped_to_what_all_slices_cover() -> None:
    stack, where = moved()
    rows, columns = where.covered()
    cropped, whole = aligned(stack, where, "crop"), aligned(stack, where)
    assert cropped.shape[3:] == (rows.stop - rows.start, columns.stop - columns.start)
    everything = (slice(0, cropped.shape[3]), slice(0, cropped.shape[4]))
    for z in range(3):
        np.testing.assert_allclose(
            cropped.read(0, 0, [z], *everything)[0].astype(int),
            whole.read(0, 0, [z], rows, columns)[0].astype(int),
            atol=1,
        )


def test_transforms_come_back_as_they_were_written() -> None:
    _, where = moved()
    assert placement_of(json.loads(json.dumps(where.as_json()))) == where


def test_transforms_are_applied_to_another_stack(tmp_path: Path) -> None:
    path, stack = tmp_path / "a.ome.zarr", drifting(step=2.5)
    hf.fuse_to(stack, path, method="tenengrad", align="shift", z_step_um=1.0)
    again = fused(stack // 2, align_from=str(tmp_path / "a.transforms.json"))
    np.testing.assert_allclose(again.fused, fused(stack, align="shift").fused / 2, atol=1.5)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"slices": 7}, "7 slices of 160 × 160"),
        ({"plane": (160, 161)}, "160 × 161"),
        ({"frames": ({}, {})}, "2 time points"),
        ({"frames": ({0: Slice()},)}, "say nothing of slice 1"),
    ],
)
def test_transforms_of_another_stack_are_refused(tmp_path: Path, change: dict[str, object], match: str) -> None:
    right = Placement("shift", DEPTH, (SIDE, SIDE), 2, ({z: Slice(dx=1.0 * z) for z in range(DEPTH)},))
    path = tmp_path / "other.transforms.json"
    path.write_text(json.dumps(replace(right, **change).as_json()))
    with pytest.raises(UserInputError, match=match):
        fused(drifting(), align_from=str(path))


@pytest.mark.parametrize("text", ["", "[]", '{"format": "other"}', '{"format": "hybridfusion transforms 1"}'])
def test_what_holds_no_transforms_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "no.json"
    path.write_text(text)
    with pytest.raises(UserInputError, match=r"expected the X\.transforms\.json"):
        fused(drifting(), align_from=str(path))


def test_slices_of_another_place_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "far.tif"
    tifffile.imwrite(source, drifting(step=14.0, noise=2.0), imagej=True, metadata={"axes": "ZYX"})
    command = ["fuse", str(source), "-o", str(tmp_path / "out.ome.tif"), "--method", "tenengrad", "--align", "shift"]
    assert main(command) == 2
    assert "quarter of the field" in capsys.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == ["far.tif"]


@pytest.mark.parametrize("suffix", [".ome.zarr", ".ome.tif"])
def test_a_cropped_result_says_where_it_was_cropped(tmp_path: Path, suffix: str) -> None:
    path, scale = tmp_path / f"a{suffix}", Axis(0.5, "micrometer")
    stack = Stack(drifting(step=2.5), "ZYX", "a", (Channel("a"),), z=scale, y=scale, x=scale)
    spec = hf.fuse_to(stack, path, method="tenengrad", align="shift", align_frame="crop")
    frame = spec.provenance["treatment"]["alignment"]["frame"]
    y, x = (0.5 * frame[letter][0] for letter in "yx")
    assert y + x > 0
    if suffix == ".ome.tif":
        with tifffile.TiffFile(path) as file:
            assert file.ome_metadata is not None
            (plane,) = re.findall("<Plane [^>]*>", file.ome_metadata)
        assert f'PositionX="{x}"' in plane
        assert f'PositionY="{y}"' in plane
    else:
        stored = json.loads((path / "zarr.json").read_text())["attributes"]["ome"]["multiscales"][0]
        assert stored["datasets"][0]["coordinateTransformations"][1]["translation"] == [0, 0, 0, y, x]
