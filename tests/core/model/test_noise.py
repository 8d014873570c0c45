import numpy as np
import pytest
from conftest import textured_stack

from hybridfusion_core.model.noise import CELL, NoiseModel, StatisticsCollector, field_statistics


def shot_noise(peak: float, gain: float, offset: float, read: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A smooth hill that fades over six slices, as recorded and as expected; counts."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:192, :192] - 96
    hill = [peak * (0.1 + 0.9 * np.exp(-(y**2 + x**2) / 2 / (30 + 10 * z) ** 2)) for z in range(6)]
    expected = np.stack(hill)
    recorded = random.poisson(expected) * gain + offset + read * random.standard_normal(expected.shape)
    return recorded, expected * gain + offset


@pytest.mark.parametrize(("peak", "gain", "read"), [(100, 1.0, 2), (1000, 0.5, 2), (30, 1.0, 0.5), (5000, 2.0, 5)])
def test_noise_has_unit_size_at_every_brightness(peak: float, gain: float, read: float) -> None:
    recorded, expected = shot_noise(peak, gain, 100, read)
    statistics = field_statistics([recorded])
    noise = (statistics.guide([recorded]) - statistics.guide([expected])) / statistics.noise
    dim, bright = expected < np.quantile(expected, 0.3), expected > np.quantile(expected, 0.9)
    for region in (dim, bright):
        assert np.std(noise[region]) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize(("factor", "shift"), [(3.0, 100.0), (0.01, -5.0), (1000.0, 0.0)])
def test_the_guide_does_not_know_gain_and_offset(factor: float, shift: float) -> None:
    recorded, _ = shot_noise(300, 1.0, 100, 2)
    before = field_statistics([recorded]).guide([recorded])
    changed = factor * recorded + shift
    np.testing.assert_allclose(field_statistics([changed]).guide([changed]), before, atol=2e-4)


@pytest.mark.parametrize("block", [16, 48, 64])
def test_statistics_do_not_depend_on_how_the_field_is_cut(block: int) -> None:
    counts = textured_stack((3, 130, 171))
    collector = StatisticsCollector(1, (130, 171), 3)
    for y in range(0, 130, block):
        for x in range(0, 171, block):
            collector.add(0, counts[:, y : y + block, x : x + block], y, x)
    pieces, whole = collector.finish(), field_statistics([counts])
    assert pieces.scale == pytest.approx(whole.scale, rel=1e-6)
    assert pieces.centre == pytest.approx(whole.centre, rel=1e-5)
    assert pieces.models[0].gain == pytest.approx(whole.models[0].gain, rel=1e-4)


@pytest.mark.parametrize("value", [0, 1, 65535])
def test_a_constant_field_gives_a_finite_guide(value: int) -> None:
    counts = np.full((2, 16, 16), value, dtype=np.uint16)
    guide = field_statistics([counts]).guide([counts])
    assert np.isfinite(guide).all()
    assert np.ptp(guide) == 0


def test_saturated_cells_do_not_pass_for_noiseless_ones() -> None:
    recorded, _ = shot_noise(1000, 1.0, 100, 2)
    clipped = recorded.copy()
    clipped[:, :64] = 65535
    clean, saturated = field_statistics([recorded]).models[0], field_statistics([clipped]).models[0]
    at = float(np.median(recorded))
    expected = clean.variance + clean.gain * (at - clean.low)
    assert saturated.variance + saturated.gain * max(at - saturated.low, 0) == pytest.approx(expected, rel=0.5)


def test_cells_with_a_pixel_that_is_no_number_say_nothing() -> None:
    counts = textured_stack((2, 64, 64), "float32")
    hole = counts.copy()
    hole[0, 5, 5] = np.nan
    without = field_statistics([hole])
    assert np.isfinite(without.scale)
    assert without.scale == pytest.approx(field_statistics([counts]).scale, rel=0.05)


def test_a_large_field_is_sampled_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = textured_stack((2, 256, 256))
    whole = field_statistics([counts])
    monkeypatch.setattr("hybridfusion_core.model.noise.MAX_CELLS", 2 * (256 // CELL) ** 2 // 9)
    sampled = StatisticsCollector(1, (256, 256), 2)
    sampled.add(0, counts, 0, 0)
    assert sampled.finish().scale == pytest.approx(whole.scale, rel=0.1)


def test_stabilising_is_smooth_and_increasing() -> None:
    counts = np.linspace(-50, 500, 2001)
    stable = NoiseModel(low=100, variance=4, gain=0.5).stabilise(counts)
    slope = np.diff(stable)
    assert (slope > 0).all()
    assert np.abs(np.diff(slope)).max() < 0.01


def test_two_unknowns_that_are_not_negative_are_scipy_s() -> None:
    from scipy.optimize import nnls

    from hybridfusion_core.model.noise import _nonnegative

    rng = np.random.default_rng(0)
    for _ in range(50):
        lines, values = rng.normal(size=(12, 2)), rng.normal(size=12)
        np.testing.assert_allclose(_nonnegative(lines, values), nnls(lines, values)[0], atol=1e-9)
