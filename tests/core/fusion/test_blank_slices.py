"""A slice that holds nothing gets no weight, shines through nowhere, and is named."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import textured_stack

import hybridfusion_core as hf
from hybridfusion_core.cli import main
from hybridfusion_core.fusion.blank_slices import is_saturation, with_blank_slices
from hybridfusion_core.fusion.job import resolve
from hybridfusion_core.fusion.loop import measure, posterior_at
from hybridfusion_core.fusion.provenance import statistics_of
from hybridfusion_core.fusion.request import make_request
from hybridfusion_core.progress import run_to_end

EVERYTHING = ("fused", "decision", "height", "confidence", "noise_gain", "in_focus")
LEFT = [0, 1, 3, 4]


def with_blank(value: float, dtype: str = "uint16") -> np.ndarray:
    """Five slices, the third of which is one value throughout."""
    stack = textured_stack((5, 90, 100), dtype)
    stack[2] = value
    return stack


@pytest.mark.parametrize("method", ["network", "tenengrad", "laplacian"])
@pytest.mark.parametrize("select", ["soft", "hard"])
@pytest.mark.parametrize("value", [0, 4095, 65535])
def test_the_others_are_fused_as_if_it_were_not_there(tiny_model: str, method: str, select: str, value: int) -> None:
    stack = with_blank(value)
    options = {"model": tiny_model, "method": method, "select": select, "device": "cpu", "products": EVERYTHING}
    whole = hf.fuse(stack, tile=64, z_step_um=1.0, **options)
    rest = hf.fuse(stack[LEFT], tile=64, z_step_um=1.0, **options)
    for name in ("fused", "confidence", "noise_gain", "in_focus"):
        np.testing.assert_array_equal(whole.product(name), rest.product(name), name)
    numbers = np.array([0, *(index + 1 for index in LEFT)])
    np.testing.assert_array_equal(whole.decision, numbers[rest.decision])
    assert [warning for warning in whole.warnings if "Slice 3 (counted from 1) is constant" in warning]
    assert rest.warnings == []


def test_a_few_pixels_that_never_saturate_change_nothing(tiny_model: str) -> None:
    stack = textured_stack((4, 400, 520))
    stack[1] = 65535
    stack[1, 17, 33] = 12  # one in 208,000
    fused = hf.fuse(stack, model=tiny_model, device="cpu").fused
    np.testing.assert_array_equal(fused, hf.fuse(stack[[0, 2, 3]], model=tiny_model, device="cpu").fused)


def test_a_slice_with_little_on_black_is_not_blank(tiny_model: str) -> None:
    stack = np.zeros((3, 80, 80), np.uint16)
    stack[1, 40, 40] = 900
    assert hf.fuse(stack, model=tiny_model, device="cpu").spec.provenance["statistics"][0]["blank"] == [0, 2]


def test_if_all_slices_are_blank_none_is_left_out(tiny_model: str) -> None:
    stack = np.stack([np.full((40, 50), value, np.uint16) for value in (7, 7, 7)])
    result = hf.fuse(stack, model=tiny_model, device="cpu", z_step_um=1.0)
    assert (result.fused == 7).all()
    assert [warning.startswith("Nothing is in focus in any slice of channel 0") for warning in result.warnings] == [
        True
    ]


@pytest.mark.parametrize("focus_from", ["auto", "0"])
def test_one_channel_that_is_saturated_is_left_out_of_itself_alone(focus_from: str) -> None:
    stack = two_channels()
    stack[1, 2] = 65535
    result = hf.fuse(hf.Stack.from_array(stack, axes="CZYX"), method="tenengrad", focus_from=focus_from)
    assert (result.decision == 3).any() == (focus_from == "0")  # of both together the others have more detail
    good = np.delete(stack[1], 2, axis=0)
    assert (result.fused[0, 1, 0] <= good.max(axis=0)).all()
    assert any("Slice 3 of " in warning and stack_name(1) in warning for warning in result.warnings)
    hard = hf.fuse(hf.Stack.from_array(stack, axes="CZYX"), method="tenengrad", select="hard", focus_from=focus_from)
    assert (hard.fused[0, 1, 0] < 65535).all()


def two_channels() -> np.ndarray:
    """C Z Y X; the third slice is the sharpest one."""
    return np.stack([textured_stack((5, 90, 100), seed=seed)[[0, 1, 4, 2, 3]] for seed in (0, 1)])


def stack_name(channel: int) -> str:
    return hf.Stack.from_array(np.zeros((2, 2, 8, 8)), axes="CZYX").channels[channel].name


def test_a_black_slice_of_a_channel_that_does_not_decide_alone_stays() -> None:
    """It may well hold no light there."""
    stack = two_channels()
    stack[1, 2] = 0
    result = hf.fuse(hf.Stack.from_array(stack, axes="CZYX"), method="tenengrad", select="hard", focus_from="0")
    there = result.decision[0, 0, 0] == 3
    assert there.any()
    assert (result.fused[0, 1, 0][there] == 0).all()


def test_projections_are_what_they_say() -> None:
    assert (hf.fuse(with_blank(65535), method="max").fused == 65535).all()


def test_how_probable_a_blank_slice_is(tiny_model: str) -> None:
    stack = hf.Stack.from_array(with_blank(65535))
    job = resolve(make_request(model=tiny_model, device="cpu"), stack)
    spec = hf.fuse(stack, model=tiny_model, device="cpu").spec
    posterior = posterior_at(job, stack, statistics_of(spec, job, 0), 0, (0, 40, 40))
    assert posterior.shape == (5,)
    assert posterior[2] == 0
    assert posterior.sum() == pytest.approx(1, abs=1e-5)


def test_the_command_line_names_it_once(tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import tifffile

    tifffile.imwrite(tmp_path / "s.ome.tif", with_blank(65535), metadata={"axes": "ZYX", "PhysicalSizeZ": 1.0})
    command = ["fuse", str(tmp_path / "s.ome.tif"), "-o", str(tmp_path / "out.ome.zarr"), "--model", tiny_model]
    assert main([*command, "--device", "cpu"]) == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(warnings) == 1
    assert "Slice 3 (counted from 1) is constant or saturated throughout and gets no weight." in warnings[0]


@pytest.mark.parametrize(
    ("value", "saturated"),
    [(np.uint16(4095), True), (np.uint16(4096), False), (np.int16(32767), True), (np.float32(65535), False)],
)
def test_saturation_is_the_most_that_a_camera_counts(value: np.generic, saturated: bool) -> None:
    assert is_saturation(value) == saturated


@pytest.mark.parametrize("place", [None, (0, 0), (89, 99), (45, 50)])
def test_statistics_of_other_fields_learn_of_the_blank_slices_of_this_one(place: tuple[int, int] | None) -> None:
    """A single pixel that is brighter, wherever it lies, says that the slice holds something."""
    counts = with_blank(4095)
    if place is not None:
        counts[2][place] = 5000
    stack = hf.Stack.from_array(counts)
    job = resolve(make_request(method="tenengrad"), stack)
    measured = run_to_end(measure(job, stack), None)
    foreign = [[replace(one, blank=(1,)) for one in of_frame] for of_frame in measured]
    (found,) = with_blank_slices(job, stack, foreign)[0]
    assert found == measured[0][0]
    assert found.blank == ((2,) if place is None else ())
