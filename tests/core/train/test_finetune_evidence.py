"""What may be called better, and what may not."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import textured_stack
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.fusion.api import fuse
from hybridfusion_core.model.noise import field_statistics
from hybridfusion_core.train.finetune.blind import blind_crops, score_answers
from hybridfusion_core.train.finetune.crops import Crop
from hybridfusion_core.train.finetune.evidence import (
    Finding,
    height_standard,
    left_out_slices,
    repeats,
    verdict,
)
from hybridfusion_core.train.finetune.report import Compared, render
from hybridfusion_core.train.finetune.training import Trained

SIDE = 224


def crop_of(counts: NDArray, name: str = "s", z_um: NDArray | None = None) -> Crop:
    whole = slice(0, counts.shape[1]), slice(0, counts.shape[2])
    return Crop(name, name, counts, field_statistics([counts]), z_um, 1.0, whole)


def ramp(seed: int, slices: int = 9) -> Crop:
    """A textured surface that is in focus at a height that rises from left to right, with noise."""
    random = np.random.default_rng(seed)
    texture = 1000 + 200 * gaussian_filter(random.normal(size=(SIDE, SIDE)), 1) / 0.28
    height = np.linspace(0, slices - 1, SIDE)[None]
    blurred = [gaussian_filter(texture, sigma) for sigma in np.arange(0, 9) * 0.7 + 1e-3]
    planes = []
    for z in range(slices):
        away = np.abs(z - height).round().astype(int).repeat(SIDE, 0).clip(0, 8)
        planes.append(np.take_along_axis(np.array(blurred), away[None], axis=0)[0])
    return crop_of((np.array(planes) + random.normal(0, 5, (slices, SIDE, SIDE))).astype(np.float32), f"ramp {seed}")


def by(method: str):
    return lambda crop, slices: fuse(crop.as_stack(slices), method=method, products=("fused",))


def with_heights(heights: dict[str, NDArray]):
    """A model that gives known heights by the name of the crop."""

    def model(crop: Crop, _: slice) -> SimpleNamespace:
        return SimpleNamespace(height_um=None, z_um=None, height_slices=heights[crop.name][None, None, None])

    return model


def test_left_out_slices_prefer_what_is_sharp_to_what_is_blurred_and_know_no_noise() -> None:
    crops = [ramp(seed) for seed in range(5)]
    sharp, mean = by("tenengrad"), by("mean")
    found = left_out_slices(crops, mean, sharp)
    assert found is not None
    assert (found.word, len(found.names)) == ("better", 5)
    assert left_out_slices(crops, sharp, mean).word == "worse"
    same = left_out_slices(crops, sharp, sharp)
    assert (same.word, same.gain.mean) == ("not shown to be better", 0)
    assert left_out_slices([crop_of(textured_stack((5, 64, 64)))], sharp, mean) is None


def test_fewer_than_five_pairs_prove_nothing() -> None:
    few = left_out_slices([ramp(seed) for seed in range(4)], by("mean"), by("tenengrad"))
    assert few.gain.mean > 3
    assert few.word == "not shown to be better"
    assert "5 are needed" in verdict([few]).reasons[0]


@pytest.mark.parametrize("flattened", [False, True])
def test_repeated_heights_speak_for_a_model_only_if_they_are_not_flattened(flattened: bool) -> None:
    random = np.random.default_rng(0)
    truth = 4 + 2 * gaussian_filter(random.normal(size=(SIDE, SIDE)), 8) / 0.035
    noisy = {name: truth + random.normal(0, 0.5, truth.shape) for name in ("a", "b")}
    noisy["b"] += 1.5  # the stage has drifted
    quiet = {
        name: (4 + 0.02 * (truth - 4) if flattened else truth) + random.normal(0, 0.1, truth.shape) for name in noisy
    }
    pair = [(crop_of(textured_stack((5, SIDE, SIDE)), name) for name in ("a", "b"))]
    pair = [tuple(each) for each in pair]
    found = repeats(pair, with_heights(noisy), with_heights(quiet))
    assert found.gain.high < 0
    assert found.word == ("not shown to be better" if flattened else "better")
    assert np.median(found.before) == pytest.approx(0.5 * np.sqrt(2), rel=0.1)
    assert ("spread less" in found.doubt) == flattened
    assert repeats(pair, with_heights(quiet), with_heights(noisy)).word == "worse"


@pytest.mark.parametrize("untilted", [False, True])
def test_a_flat_standard_measures_what_is_left_beside_its_tilt(untilted: bool) -> None:
    random = np.random.default_rng(0)
    tilt = 0.03 * np.indices((SIDE, SIDE))[1]
    crop = crop_of(textured_stack((5, SIDE, SIDE)), "flat")
    rough, smooth = (
        tilt + random.normal(0, 0.3, tilt.shape),
        (0 if untilted else tilt) + random.normal(0, 0.1, tilt.shape),
    )
    rough[:20] = np.nan
    found = height_standard(crop, with_heights({"flat": rough}), with_heights({"flat": smooth}))
    assert np.median(found.before) == pytest.approx(0.3, rel=0.05)
    assert np.median(found.after) == pytest.approx(0.1, rel=0.05)
    assert found.word == ("not shown to be better" if untilted else "better")
    assert ("tilt changed" in found.doubt) == untilted


def finding(change: float, spread: float = 0.01, count: int = 8) -> Finding:
    changes = change + spread * np.linspace(-1, 1, count)
    names = tuple(str(number) for number in range(count))
    return Finding("t", "m", "dB", True, names, (0.0,) * count, tuple(float(each) for each in changes))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ((), "not shown to be better"),
        ((0.3,), "better"),
        ((-0.3,), "worse"),
        ((0.3, -0.3), "not shown to be better"),
        ((0.3, 0.0), "better"),
        ((-0.3, 0.0), "worse"),
        ((0.0,), "not shown to be better"),
    ],
)
def test_better_needs_evidence_and_none_against_it(changes: tuple[float, ...], word: str) -> None:
    weighed = verdict([finding(change) for change in changes])
    assert weighed.word == word
    assert len(weighed.reasons) == max(1, len(changes))


def pictures(seed: int = 0) -> list[tuple[NDArray, NDArray]]:
    random = np.random.default_rng(seed)
    return [(random.random((400, 400)), random.random((400, 400))) for _ in range(4)]


def test_blind_crops_are_in_a_random_order_on_random_sides() -> None:
    crops = blind_crops(pictures(), np.random.default_rng(1))
    assert len(crops) == 20
    assert 4 <= sum(crop.new_is_left for crop in crops) <= 16
    assert {crop.left.shape for crop in crops} == {(128, 128)}
    other = blind_crops(pictures(), np.random.default_rng(2))
    assert [crop.new_is_left for crop in crops] != [crop.new_is_left for crop in other]
    (before, _), *_ = same = pictures()
    assert blind_crops([(before, before)], np.random.default_rng(1)) == ()
    assert len(blind_crops(same[:1], np.random.default_rng(1))) == 9


def test_answers_are_counted_against_chance() -> None:
    crops = blind_crops(pictures(), np.random.default_rng(1))
    new = ["left" if crop.new_is_left else "right" for crop in crops]
    old = ["right" if crop.new_is_left else "left" for crop in crops]
    assert score_answers(crops, new).word == "better"
    assert score_answers(crops, old).word == "worse"
    for answers in (new[:10] + old[10:], ["same"] * 20, [*new[:4], *["same"] * 16]):
        assert score_answers(crops, answers).word == "not shown to be better"
    score = score_answers(crops, [*new[:14], *old[14:]])
    assert (score.preferred, score.decided) == (14, 20)
    assert (score.low, score.high) == pytest.approx((0.457, 0.881), abs=1e-3)  # exact interval of 14 in 20
    with pytest.raises(UserInputError, match=r"3 answers for 20 pairs.*expected one for each.*Answer"):
        score_answers(crops, new[:3])


def test_names_from_untrusted_files_are_text_in_the_report(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    crop = crop_of(textured_stack((5, 64, 64)), evil)
    result = fuse(crop.as_stack(), method="tenengrad")
    trained = Trained(3, 2, False, {"psnr": 1.0, "height": 1.0}, {"psnr": 2.0, "height": 0.5})
    found = Finding(evil, evil, evil, True, (evil,) * 6, (0.0,) * 6, (1.0,) * 6, evil)
    page = render(
        evil,
        verdict([found]),
        [found],
        trained,
        [Compared(crop, result, result)],
        {evil: {evil: [evil]}},
        warnings=[evil],
        curves=tmp_path / "none.png",
    )
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "http:" not in page
    assert "https:" not in page
