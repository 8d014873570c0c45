"""Corrections by hand: exact where painted, soft around it, recorded, and nothing else moves."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from conftest import textured_stack

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.fusion import api as predict
from hybridfusion_core.fusion.corrections import UNTOUCHED, Correction, correct, corrected_spec
from hybridfusion_core.fusion.job import Job, resolve
from hybridfusion_core.fusion.loop import posterior_at
from hybridfusion_core.fusion.provenance import statistics_of
from hybridfusion_core.fusion.request import make_request
from hybridfusion_core.progress import run_to_end
from hybridfusion_core.stack import Stack

BORDER = 8
EVERYTHING = ("fused", "decision", "height", "confidence", "noise_gain")


class Case:
    """A finished result, and how it was made."""

    def __init__(self, pixels: np.ndarray, axes: str = "ZYX", z_step_um: float | None = 1.5, **options: Any) -> None:
        self.stack = Stack.from_array(pixels, axes=axes, z_step_um=z_step_um)
        products = EVERYTHING if z_step_um else tuple(each for each in EVERYTHING if each != "height")
        request = make_request(**{"method": "tenengrad", "products": products, "device": "cpu", **options})
        self.job: Job = resolve(request, self.stack)
        self.result = run_to_end(predict.steps_in_memory(self.job, self.stack), None)

    def corrected(self, *corrections: Correction) -> dict[str, np.ndarray]:
        spec = corrected_spec(self.job, self.result.spec, corrections)
        into = {name: np.zeros(shape, dtype) for name, (shape, dtype) in spec.array_shapes().items()}
        run_to_end(correct(self.job, self.stack, self.result.spec, self.result.arrays, corrections, into), None)
        return into


def painting(shape: tuple[int, int], **numbers: tuple[slice, slice]) -> np.ndarray:
    painted = np.full(shape, UNTOUCHED)
    for number, place in numbers.items():
        painted[place] = int(number[1:])
    return painted


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("select", ["soft", "hard"])
def test_painted_pixels_are_those_of_the_painted_slice(dtype: str, select: str) -> None:
    case = Case(textured_stack((4, 60, 70), dtype), select=select)
    place = (slice(20, 40), slice(30, 33))
    painted = painting((60, 70), n3=place)
    made = case.corrected(Correction(0, 0, 0, 0, painted))
    here = (0, 0, 0, *place)
    np.testing.assert_array_equal(made["fused"][here], case.stack.array[(2, *place)])
    assert np.all(made["decision"][here] == 3)
    names = [each.name for each in corrected_spec(case.job, case.result.spec, []).maps]
    assert names == ["height_um", "confidence", "noise_gain", "corrected"]
    height, confidence, gain, corrected = (made["maps"][(0, index, 0, *place)] for index in range(4))
    assert np.all(height == 3.0)
    assert np.all(np.isnan(confidence))
    assert np.all(gain == 1)
    assert np.all(corrected == 1)


def test_nothing_moves_beyond_the_border_and_only_the_image_within() -> None:
    case = Case(textured_stack((4, 60, 70), "float32"))
    painted = painting((60, 70), n1=(slice(25, 35), slice(30, 40)))
    made, before = case.corrected(Correction(0, 0, 0, 0, painted)), case.result.arrays
    share = made["maps"][0, 3, 0]
    y, x = np.indices(share.shape)
    distance = np.hypot(np.maximum(0, np.maximum(25 - y, y - 34)), np.maximum(0, np.maximum(30 - x, x - 39)))
    assert np.all((share > 0) == (distance < BORDER))
    assert np.all(np.diff(share[30, 39:50]) <= 0)  # ever less
    assert np.abs(np.diff(share[30])).max() < 0.2  # and without a step
    away, border = distance >= BORDER, (distance > 0) & (distance < BORDER)
    np.testing.assert_array_equal(made["fused"][0, 0, 0][away], before["fused"][0, 0, 0][away])
    np.testing.assert_array_equal(made["maps"][0, :3, 0][:, away], before["maps"][0, :, 0][:, away])
    fused, slices = before["fused"][0, 0, 0], case.stack.array
    np.testing.assert_allclose(made["fused"][0, 0, 0][border], (fused + share * (slices[0] - fused))[border], rtol=1e-5)
    unpainted = distance > 0
    np.testing.assert_array_equal(made["decision"][0, 0, 0][unpainted], before["decision"][0, 0, 0][unpainted])
    np.testing.assert_array_equal(made["maps"][0, :2, 0][:, border], before["maps"][0, :2, 0][:, border])


def test_painted_nothing_takes_the_explanation_away_and_leaves_the_image() -> None:
    case = Case(textured_stack((3, 40, 40)))
    place = (slice(10, 20), slice(10, 20))
    made = case.corrected(Correction(0, 0, 0, 0, painting((40, 40), n0=place)))
    np.testing.assert_array_equal(made["fused"], case.result.arrays["fused"])
    here = (0, 0, 0, *place)
    assert np.all(made["decision"][here] == 0)
    assert np.all(np.isnan(made["maps"][0, :2, 0][(slice(None), *place)]))
    assert np.all(made["maps"][0, 3, 0][place] == 1)  # said to be corrected


def test_blocks_do_not_show() -> None:
    case = Case(textured_stack((3, 100, 120), "float32"))
    painted = painting((30, 40), n2=(slice(0, 30), slice(5, 25)), n3=(slice(3, 9), slice(25, 40)))
    correction = Correction(0, 0, 45, 50, painted)
    whole = case.corrected(correction)
    lattice = case.job.geometry.lattice
    case.job = replace(case.job, plan=replace(case.job.plan, block=lattice, tile=lattice))
    pieces = case.corrected(correction)
    for name, array in whole.items():
        np.testing.assert_array_equal(array, pieces[name])


def test_only_its_own_time_and_its_own_decision_are_corrected() -> None:
    pixels = np.stack([np.stack([textured_stack((3, 40, 40), seed=t + 2 * c) for c in range(2)]) for t in range(2)])
    case = Case(pixels, "TCZYX", focus_from="each")
    made = case.corrected(Correction(1, 1, 0, 0, painting((40, 40), n2=(slice(0, 40), slice(0, 40)))))
    for name in ("fused", "decision"):
        same = np.all(made[name] == case.result.arrays[name], axis=(2, 3, 4))
        np.testing.assert_array_equal(same, [[True, True], [True, False]])
    np.testing.assert_array_equal(made["fused"][1, 1, 0], pixels[1, 1, 1])
    names = [each.name for each in corrected_spec(case.job, case.result.spec, []).maps]
    assert names[-2:] == ["corrected (0)", "corrected (1)"]
    assert [made["maps"][t, names.index(f"corrected ({c})")].max() for t in (0, 1) for c in (0, 1)] == [0, 0, 0, 1]
    heights = made["maps"][:, :2, 0]
    assert np.all(heights[1, 1] == 1.5)


def test_one_decision_corrects_every_channel() -> None:
    pixels = np.stack([textured_stack((3, 40, 40), seed=seed) for seed in range(2)])
    case = Case(pixels, "CZYX")
    made = case.corrected(Correction(0, 0, 0, 0, painting((40, 40), n1=(slice(0, 40), slice(0, 40)))))
    np.testing.assert_array_equal(made["fused"][0, :, 0], pixels[:, 0])


def test_a_pixel_that_is_no_number_is_not_taken() -> None:
    pixels = textured_stack((3, 40, 40), "float32")
    pixels[1, 15, 15] = np.nan
    case = Case(pixels, nan="ignore")
    made = case.corrected(Correction(0, 0, 0, 0, painting((40, 40), n2=(slice(10, 20), slice(10, 20)))))
    assert np.all(np.isfinite(made["fused"]))


def test_what_was_painted_is_recorded() -> None:
    case = Case(textured_stack((4, 40, 40)))
    painted = painting((40, 40), n4=(slice(0, 2), slice(0, 3)), n0=(slice(9, 10), slice(0, 3)))
    record = corrected_spec(case.job, case.result.spec, [Correction(0, 0, 0, 0, painted)]).provenance["corrections"]
    assert record == {
        "border_px": 8.0,
        "painted": [{"t": 0, "decision": "0", "pixels": 9, "slices": [0, 4]}],
    }


def test_slices_that_were_not_fused_are_refused() -> None:
    case = Case(textured_stack((6, 40, 40)), z="1:4")
    painted = painting((40, 40), n5=(slice(0, 2), slice(0, 3)))
    with pytest.raises(UserInputError, match="Slice 5 was painted; expected one of those that were fused, 2 to 4"):
        case.corrected(Correction(0, 0, 0, 0, painted))
    case = Case(textured_stack((3, 40, 40)), products=("fused",))
    with pytest.raises(UserInputError, match="no decision to correct"):
        case.corrected(Correction(0, 0, 0, 0, painting((40, 40))))


@pytest.mark.parametrize("method", ["network", "tenengrad"])
def test_the_posterior_of_a_pixel_is_what_its_maps_say(tiny_model: str, method: str) -> None:
    pixels = np.stack([np.stack([textured_stack((5, 70, 90), seed=t + 2 * c) for c in range(2)]) for t in range(2)])
    case = Case(pixels, "TCZYX", method=method, focus_from="each", model=tiny_model)
    names = [each.name for each in case.result.spec.maps]
    for place in ((0, 3, 5), (1, 69, 89), (1, 33, 40)):
        for decision in (0, 1):
            statistics = statistics_of(case.result.spec, case.job, place[0])
            found = posterior_at(case.job, case.stack, statistics, decision, place)
            assert found.shape == (5,)
            assert found.sum() == pytest.approx(1, abs=1e-5)
            t, y, x = place
            assert found.argmax() + 1 == case.result.arrays["decision"][t, decision, 0, y, x]
            confidence = case.result.arrays["maps"][t, names.index(f"confidence ({decision})"), 0, y, x]
            around = found[max(0, found.argmax() - 1) : found.argmax() + 2].sum()
            assert around == pytest.approx(confidence, abs=1e-4)
