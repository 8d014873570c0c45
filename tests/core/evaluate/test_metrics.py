"""Measures against cases worked out by hand and against laws."""

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from hybridfusion_core.evaluate.metrics.agreement import (
    edge_preservation,
    mutual_information,
    published_grey,
)
from hybridfusion_core.evaluate.metrics.calibration import (
    Reliability,
    auroc,
    reliability,
)
from hybridfusion_core.evaluate.metrics.interval import (
    paired_gain,
)
from hybridfusion_core.evaluate.metrics.traces import (
    dark_ring,
    speckle,
    window_edges,
)
from hybridfusion_core.evaluate.metrics.truth import (
    body_bias,
    boundary_band,
    height_error,
    psnr,
    ssim,
    textured,
)

RANDOM = np.random.default_rng(0)
NOISE = RANDOM.integers(0, 256, (64, 64)).astype(np.uint8)
# The sigmoids of Xydeas & Petrović do not reach 1, not even for a perfect copy.
BEST_Q = 0.9994 / (1 + math.exp(-15 * 0.5)) * 0.9879 / (1 + math.exp(-22 * 0.2))


def test_psnr_of_a_constant_error_is_known() -> None:
    truth = np.zeros((4, 4))
    assert psnr(truth, truth + 25.5, 255) == pytest.approx(20)
    where = np.zeros((4, 4), dtype=bool)
    assert math.isnan(psnr(truth, truth, 255, where))
    assert psnr(truth, truth, 255) == pytest.approx(100)


def test_ssim_of_a_copy_is_one_and_of_noise_is_less() -> None:
    assert ssim(NOISE, NOISE, 255) == pytest.approx(1)
    assert ssim(NOISE, NOISE[::-1], 255) < 0.2
    assert math.isnan(ssim(NOISE[:8], NOISE[:8], 255))


def test_the_band_reaches_eight_pixels_from_a_step_and_slopes_have_none() -> None:
    height = np.zeros((5, 40))
    height[:, 20:] = 3
    assert np.flatnonzero(boundary_band(height)[2]).tolist() == list(range(12, 29))
    assert not boundary_band(np.tile(np.arange(40.0) * 0.9, (5, 1))).any()


def test_height_errors_count_only_what_is_known() -> None:
    truth = np.array([[1.0, 2.0, np.nan, 4.0]])
    height = np.array([[1.5, np.nan, 3.0, 3.0]])
    assert height_error(truth, height) == pytest.approx(0.75)
    assert height_error(truth, height, np.array([[True, True, True, False]])) == pytest.approx(0.5)


def test_the_bias_of_each_body_is_relative_to_its_own_mean() -> None:
    labels = np.array([[0, 1, 1, 5]])
    truth, image = np.array([[9.0, 1, 3, 4]]), np.array([[0.0, 1, 3.2, 3]])
    np.testing.assert_allclose(body_bias(truth, image, labels), [0.05, -0.25])


def test_detail_is_texture_only_where_it_exceeds_the_noise() -> None:
    plane = np.zeros((40, 40))
    plane[:, 20:] = 100 * RANDOM.standard_normal((40, 20))
    found = textured(plane, 10.0, 300)
    assert found[:, 26:].all()
    assert not found[:, :14].any()
    assert not textured(plane, 1e4, 300).any()


# Q^{AB/F}


@pytest.mark.parametrize("border", ["replicate", "zero"])
def test_q_of_one_picture_fused_with_itself_is_the_best_there_is(border) -> None:
    assert edge_preservation([NOISE, NOISE], NOISE, border) == pytest.approx(BEST_Q)


def test_q_of_a_copy_where_the_other_input_is_flat_is_the_best_there_is() -> None:
    flat = np.full_like(NOISE, 80)
    assert edge_preservation([NOISE, flat], NOISE) == pytest.approx(BEST_Q)
    # Zero padding gives the flat image an edge at its border, which the copy does not keep.
    assert edge_preservation([NOISE, flat], NOISE, "zero") < BEST_Q - 0.001


def test_q_of_a_ramp_at_half_its_slope_by_hand() -> None:
    """Every gradient is halved (G = 1/2, so its sigmoid is Γ/2) and keeps its direction (A = 1)."""
    ramp = np.tile(np.arange(6.0), (6, 1))
    expected = 0.9994 / 2 * 0.9879 / (1 + math.exp(-22 * 0.2))
    assert edge_preservation([ramp], ramp / 2) == pytest.approx(expected)


def test_q_of_a_ramp_turned_by_a_right_angle_by_hand() -> None:
    """Along y instead of x: A = 0. Replicated borders halve the gradient of the outer rows alone, in either."""
    ramp = np.tile(np.arange(3.0), (3, 1))
    # |g| of the ramp is 8 in the middle column and 4 in the outer ones; of the turned one, in the same rows.
    own = np.array([[4, 8, 4]] * 3)
    relative = np.minimum(own, own.T) / np.maximum(own, own.T)
    strength = 0.9994 / (1 + np.exp(-15 * (relative - 0.5)))
    expected = (strength * own).sum() / own.sum() * 0.9879 / (1 + math.exp(22 * 0.8))
    assert edge_preservation([ramp], ramp.T) == pytest.approx(expected)


def test_q_weighs_every_input_by_its_own_edges() -> None:
    """Of three inputs the one with edges ten times as strong decides."""
    strong, weak = 10.0 * NOISE, 1.0 * NOISE[::-1]
    assert edge_preservation([strong, weak, weak], strong) > 0.8 * BEST_Q
    assert edge_preservation([strong, weak, weak], weak) < 0.3 * BEST_Q


def test_q_without_any_edge_is_no_number() -> None:
    assert math.isnan(edge_preservation([np.ones((5, 5))] * 2, np.ones((5, 5))))


# NMI


def test_nmi_of_an_image_with_itself_is_two() -> None:
    assert mutual_information(NOISE, NOISE, NOISE) == pytest.approx(2)
    assert mutual_information(NOISE / 7, NOISE / 7, NOISE / 7) == pytest.approx(2)


def test_nmi_of_independent_bits_and_of_a_copy_by_hand() -> None:
    """H is 1 bit each; I(A,F) is 1 bit and I(B,F) none: 2 (1/2 + 0) = 1."""
    first, second = np.array([[0, 0, 1, 1]], np.uint8), np.array([[0, 1, 0, 1]], np.uint8)
    assert mutual_information(first, second, first) == pytest.approx(1)


def test_nmi_of_three_levels_by_hand() -> None:
    """F joins two of A's three values: H(A) = 1.5, H(F) = 1, I = H(F) = 1, so the term is 1 / 2.5, twice."""
    first, fused = np.array([[0, 0, 1, 2]], np.uint8), np.array([[0, 0, 7, 7]], np.uint8)
    assert mutual_information(first, first, fused) == pytest.approx(4 * 1 / 2.5)


def test_nmi_of_a_flat_input_counts_nothing() -> None:
    flat = np.full_like(NOISE, 3)
    assert mutual_information(NOISE, flat, NOISE) == pytest.approx(1)
    assert mutual_information(flat, flat, flat) == 0


def test_luminance_follows_the_published_weights() -> None:
    colours = np.array([[[255, 0]], [[0, 255]], [[0, 0]]], dtype=np.uint8)  # 3 1 2: red, green
    grey = published_grey(colours)
    assert grey.dtype == np.uint8
    assert grey.tolist() == [[76, 150]]


# Calibration


def test_confidence_that_keeps_its_word_has_no_calibration_error() -> None:
    sure = RANDOM.random(200_000)
    kept = reliability(sure, RANDOM.random(200_000) > sure)
    assert kept.expected_error < 0.01
    assert reliability(sure, np.ones(200_000, bool)).expected_error == pytest.approx(0.5, abs=0.01)


def test_calibration_error_by_hand_and_pooled() -> None:
    """Bin of 0.9: one of two right, off by 0.8 of two; bin of 0.3: none right, off by 0.3 of one."""
    one = reliability(np.array([0.9, 0.9, np.nan]), np.array([True, False, True]))
    two = reliability(np.array([0.3]), np.array([True]))
    assert Reliability.pooled([one, two]).expected_error == pytest.approx((0.8 + 0.3) / 3)
    assert math.isnan(Reliability.pooled([]).expected_error)


def test_auroc_by_hand() -> None:
    """Pairs of (right, wrong): 0.9 and 0.5 against 0.5 and 0.1: 1, 1, ½, 1."""
    sure, wrong = np.array([0.9, 0.5, 0.5, 0.1]), np.array([False, False, True, True])
    assert auroc(sure, wrong) == pytest.approx(3.5 / 4)
    assert math.isnan(auroc(sure, np.zeros(4, bool)))


# Differences


def test_an_interval_is_paired_and_covers_its_mean() -> None:
    base = 10 * RANDOM.standard_normal(40)
    gain = paired_gain(base + 1 + 0.1 * RANDOM.standard_normal(40), base)
    assert gain.low < gain.mean < gain.high
    assert gain.high - gain.low < 0.1  # unpaired it would be about 9
    assert gain.worst < gain.mean
    assert paired_gain(base, base + 1, more_is_better=False).worst == pytest.approx(-1)


def test_stacks_without_a_figure_are_left_out_and_one_stack_has_no_interval() -> None:
    gain = paired_gain(np.array([3, np.nan]), np.array([1, 5]))
    assert (gain.mean, gain.stacks) == (2, 1)
    assert math.isnan(gain.low)
    assert paired_gain(np.array([np.nan]), np.array([1])) is None


# Traces


def test_a_grid_of_sixteen_pixels_is_found() -> None:
    plain = RANDOM.standard_normal((128, 128))
    assert window_edges(plain) < 1.3
    steps = plain + 3 * (np.arange(128) // 16 % 2)
    assert window_edges(steps) > 1.8
    assert math.isnan(window_edges(np.zeros((128, 128))))


def test_specks_are_what_stands_alone() -> None:
    decision = np.full((50, 50), 3)
    decision[:, 25:] = 8
    assert speckle(decision, 10) == 0
    decision[10, 10] = decision[40, 40] = 6
    assert speckle(decision, 10) == pytest.approx(2 / 2500)
    assert math.isnan(speckle(np.zeros((9, 9), int), 4))


def test_a_dark_ring_is_measured_in_parts_of_its_body() -> None:
    y, x = np.indices((128, 128)) - 64
    radius = np.hypot(y, x)
    plain = 10 + 100 * gaussian_filter(np.clip(12.5 - radius, 0, 1), 1)
    assert dark_ring(plain, plain) < 0.005
    ringed = plain - 6 * ((radius > 18) & (radius < 23))
    assert dark_ring(ringed, plain) == pytest.approx(0.06, rel=0.15)
    assert math.isnan(dark_ring(np.zeros((40, 40)), np.zeros((40, 40))))
