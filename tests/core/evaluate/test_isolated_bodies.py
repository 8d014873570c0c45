"""The dark around bodies, on stacks that are drawn, where every figure can be worked out."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from hybridfusion_core.evaluate.metrics.isolated_bodies import around_bodies, bright_kept, dark_field

SIDE, GROUND = 256, 100.0
BEADS = ((70, 80, 1, 30_000.0), (170, 60, 6, 20_000.0), (150, 190, 3, 9_000.0))  # y, x, slice, light


def beads(slices: int = 8) -> np.ndarray:
    """Beads at three heights; light is kept, and spreads over 1.5 px more with every slice."""
    random = np.random.default_rng(0)
    stack = np.full((slices, SIDE, SIDE), GROUND)
    y, x = np.indices((SIDE, SIDE))
    for row, column, own, light in BEADS:
        bead = light * (np.hypot(y - row, x - column) < 4)
        for z in range(slices):
            stack[z] += gaussian_filter(bead, 0.8 + 1.5 * abs(z - own))
    return random.poisson(stack).astype(np.float32)


STACK = beads()
FIELD = dark_field(STACK)
NEAREST = np.argmin(
    [np.hypot(*(np.indices((SIDE, SIDE)) - np.array(bead[:2])[:, None, None])) for bead in BEADS], axis=0
)
OWN = np.array([bead[2] for bead in BEADS])[NEAREST]
BEST = np.take_along_axis(STACK, OWN[None], axis=0)[0]


def test_every_bead_is_found_with_its_slice() -> None:
    assert FIELD is not None
    assert FIELD.count == 3
    for row, column, own, _ in BEADS:
        assert FIELD.bodies[row, column]
        assert FIELD.slice[row, column] == own
    assert 0.2 < FIELD.far.mean() < 0.95
    assert not FIELD.far[FIELD.ring].any() or not (FIELD.far & FIELD.bodies).any()


def test_a_perfect_result_has_no_false_ring_and_no_glow() -> None:
    decision = np.where(FIELD.bodies, OWN + 1, 0)
    found = around_bodies(FIELD, STACK, BEST, decision, np.where(FIELD.bodies, 0.9, np.nan))
    assert found["glow"] == pytest.approx(1, abs=1e-6)
    assert (found["false_ring"], found["false_ring_sure"], found["far_decided"]) == (0, 0, 0)
    assert found["bodies_kept"] == 1


def test_a_slice_beside_the_own_one_is_no_mistake_and_two_beside_are() -> None:
    for away, share in ((0, 0.0), (1, 0.0), (2, 1.0)):
        decision = np.where(OWN + away < 8, OWN + away + 1, OWN - away + 1)
        found = around_bodies(FIELD, STACK, BEST, decision, np.full((SIDE, SIDE), 0.4))
        assert found["false_ring"] == share
        assert found["false_ring_sure"] == 0  # nobody was sure
        assert found["far_decided"] == 1


def test_half_a_ring_of_the_last_slice_is_half_a_false_ring() -> None:
    decision = np.where(np.indices((SIDE, SIDE))[1] % 2, 8, 0)
    mistaken = around_bodies(FIELD, STACK, BEST, decision, np.ones((SIDE, SIDE)))
    right = np.abs(8 - 1 - FIELD.slice[FIELD.ring]) <= 1
    expected = float((decision[FIELD.ring].astype(bool) & ~right).mean())
    assert 0.2 < expected < 0.6
    assert mistaken["false_ring"] == mistaken["false_ring_sure"] == pytest.approx(expected)


def test_the_mean_over_the_slices_glows() -> None:
    assert around_bodies(FIELD, STACK, STACK.mean(axis=0))["glow"] > 2


def test_stacks_without_dark_ground_have_no_such_figures() -> None:
    random = np.random.default_rng(1)
    assert dark_field(random.poisson(100, (4, 96, 96))) is None
    assert dark_field(np.full((3, 64, 64), 7)) is None
    texture = 1e4 * np.clip(gaussian_filter(random.standard_normal((4, 128, 128)), (0, 2, 2)), 0, None)
    assert dark_field(texture) is None


def test_of_a_body_that_fills_much_of_the_plane_only_the_ground_is_asked() -> None:
    y, x = np.indices((160, 160)) - 80
    nucleus = 50 + 4_000 * np.clip(40.5 - np.hypot(y, x), 0, 1)
    field = dark_field(np.random.default_rng(2).poisson(np.stack([nucleus] * 3)))
    assert field is not None
    assert field.count == 0
    decision = (np.hypot(y, x) < 41).astype(int)
    found = around_bodies(field, np.stack([nucleus] * 3), nucleus, decision)
    assert set(found) == {"bodies_kept", "far_decided"}
    assert found["far_decided"] == 0
    assert found["bodies_kept"] > 0.99


def test_who_says_nothing_everywhere_keeps_nothing() -> None:
    assert bright_kept(STACK, np.zeros((SIDE, SIDE), int)) == 0
    assert bright_kept(STACK, FIELD.bodies.astype(int)) == 1
    assert np.isnan(bright_kept(np.full((3, 20, 20), 5), np.ones((20, 20), int)))
