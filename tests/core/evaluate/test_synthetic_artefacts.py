"""The specimens say what they should about methods whose faults are known."""

import numpy as np
import pytest

from hybridfusion_core.evaluate import synthetic_artefacts as artefacts


def test_the_mean_has_no_haze_bias_and_the_maximum_has() -> None:
    assert abs(artefacts.haze_bias({"method": "mean"})) < 0.01
    assert artefacts.haze_bias({"method": "max"}) > 50


@pytest.mark.parametrize("photons", artefacts.NUCLEAR_PHOTONS)
def test_nuclear_means_show_what_blurs_light_out_of_nuclei(photons: float) -> None:
    blurred = artefacts.nuclear_bias({"method": "mean"}, photons)
    assert blurred.shape == (9,)
    assert blurred.max() < -0.1
    copied = artefacts.nuclear_bias({"method": "tenengrad", "select": "hard"}, photons)
    assert abs(copied.mean()) < 0.01


def test_every_artefact_is_a_number() -> None:
    found = artefacts.measure_artefacts({"method": "tenengrad"})
    assert len(found) == 10
    assert all(np.isfinite(value) for value in found.values())


SHIPPED = {"model": "fluorescence", "device": "cpu"}


def test_the_shipped_weights_keep_the_brightness_of_haze() -> None:
    """Promise 2: within 1 % of the stack's mean, whatever its profile in z."""
    assert abs(artefacts.haze_bias(SHIPPED)) < 1


@pytest.mark.parametrize("photons", [photons for photons in artefacts.NUCLEAR_PHOTONS if photons >= 400])
def test_the_shipped_weights_keep_the_means_of_nuclei(photons: float) -> None:
    """Promise 2: within 2 %, neighbours or not. At 40 photons it is not kept: docs/quantification.md has the figure."""
    assert np.abs(artefacts.nuclear_bias(SHIPPED, photons)).mean() < 0.02


def test_the_shipped_weights_draw_no_dark_ring() -> None:
    assert artefacts.dark_ring(SHIPPED) < 2
