"""Slices that flicker or bleach are matched, and a specimen that is bright where it is in focus never is."""

import numpy as np
import pytest

import hybridfusion_core as hf
from hybridfusion_core.fusion.job import resolve
from hybridfusion_core.fusion.loop import measure
from hybridfusion_core.fusion.request import make_request
from hybridfusion_core.progress import run_to_end
from hybridfusion_core.scenes.faulty_stacks import Drawn, draw_stack
from hybridfusion_core.shading.flicker import LightCollector
from hybridfusion_core.stack import Stack

OFFSET = 100.0
DIP = np.ones(11)
DIP[[3, 8]] = 0.8, 0.9
QUICK = {"method": "tenengrad", "z_step_um": 1.0}


@pytest.fixture(scope="module")
def still() -> np.ndarray:
    return np.asarray(draw_stack(2, Drawn(size=128)).array)


def lit(stack: np.ndarray, light: np.ndarray) -> np.ndarray:
    return ((stack - OFFSET) * light[:, None, None] + OFFSET).round().astype(np.uint16)


def gains_of(stack: np.ndarray) -> tuple[float, ...] | None:
    collector = LightCollector(1, stack.shape[1:], len(stack))
    for number, plane in enumerate(stack):
        collector.add(0, number, plane, 0, 0)
    return collector.found()[0].gains if collector.found() else None


@pytest.mark.parametrize("light", [DIP, np.exp(-0.5 * np.linspace(0, 1, 11))], ids=["flicker", "bleaching"])
def test_matched_slices_are_those_of_a_steady_lamp(still: np.ndarray, light: np.ndarray) -> None:
    result = hf.fuse(lit(still, light), match_light=True, **QUICK)
    steady, left = hf.fuse(still, **QUICK), hf.fuse(lit(still, light), **QUICK)
    lights = result.spec.provenance["treatment"]["slice_light"]
    assert np.std(np.log(lights[0]["gains"]) + np.log(light)) < 0.25 * np.std(np.log(light))
    # The decision knows in any case; pixels change only where that was asked for.
    others = [
        (each.decision != steady.decision) & (each.decision > 0) & (steady.decision > 0) for each in (result, left)
    ]
    raw = lit(still, light)
    assert max(other.mean() for other in others) < 0.01
    assert (left.fused >= raw.min(axis=0)).all()
    assert (left.fused <= raw.max(axis=0)).all()
    assert any("--match-light" in each for each in left.warnings)
    assert not any("--match-light" in each for each in result.warnings)


@pytest.mark.parametrize("seed", range(3))
def test_a_specimen_is_no_flicker(seed: int) -> None:
    for what in (Drawn(size=128), Drawn(size=128, layers=2), Drawn(size=128, transmitted=True)):
        assert gains_of(np.asarray(draw_stack(seed, what).array)) is None


@pytest.mark.parametrize("profile", [[0.2, 0.25, 0.5, 1, 0.6, 0.3, 0.2], [0.2, 0.2, 0.2, 1, 0.2, 0.2, 0.2]])
def test_a_sectioned_layer_keeps_the_slice_it_shines_in(profile: list[float]) -> None:
    """Evenly bright over the whole field in one slice: what a confocal shows of a flat layer, and no lamp's flicker."""
    layer = np.random.default_rng(0).uniform(100, 1000, (128, 128))
    assert gains_of(np.array(profile)[:, None, None] * layer + OFFSET) is None


def test_blocks_change_no_gain(still: np.ndarray) -> None:
    stack = Stack.from_array(lit(still, DIP), None, z_step_um=1.0)
    found = []
    for tile in (32, 128):
        job = resolve(make_request(method="tenengrad", tile=tile, memory=1 << 28), stack)
        found.append(run_to_end(measure(job, stack), None)[0][0].light)
    assert found[0]
    assert found[0] == found[1]
