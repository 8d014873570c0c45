import math

import pytest
import torch

from hybridfusion_core.model import posterior as blend
from hybridfusion_core.model.posterior import Scores


def random_scores(slices: int = 5) -> Scores:
    torch.manual_seed(1)
    return Scores(4 * torch.randn(2, slices, 9, 11), torch.randn(2, slices, 9, 11))


def test_posterior_and_weights_sum_to_one() -> None:
    for shares in (blend.focus_posterior(random_scores()), blend.fusion_weights(random_scores())):
        torch.testing.assert_close(shares.sum(dim=1), torch.ones(2, 9, 11))
        assert (shares >= 0).all()


def test_temperature_softens_but_never_changes_the_decision() -> None:
    sure, unsure = (blend.focus_posterior(random_scores(), temperature) for temperature in (1.0, 3.0))
    assert torch.equal(sure.argmax(dim=1), unsure.argmax(dim=1))
    assert (unsure.amax(dim=1) < sure.amax(dim=1)).all()


@pytest.mark.parametrize("offset", [0.0, 1e7])
def test_soft_fusion_never_leaves_the_measured_range(offset: float) -> None:
    slices = offset + torch.randn(2, 5, 9, 11)
    fused = blend.fuse_soft(blend.fusion_weights(random_scores()), slices)
    assert (fused >= slices.amin(dim=1)).all()
    assert (fused <= slices.amax(dim=1)).all()


def test_a_slice_that_is_no_number_leaves_its_share_to_the_others() -> None:
    weights, slices = blend.fusion_weights(random_scores(3)), torch.randn(2, 3, 9, 11)
    valid = torch.ones_like(slices, dtype=torch.bool)
    valid[:, 1] = False
    holed = torch.where(valid, slices, torch.nan)
    rest = weights[:, [0, 2]] / weights[:, [0, 2]].sum(dim=1, keepdim=True)
    torch.testing.assert_close(blend.fuse_valid(weights, holed, valid), blend.fuse_soft(rest, slices[:, [0, 2]]))


def test_a_weight_that_underflowed_still_counts_when_it_is_alone() -> None:
    weights = torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1)
    slices = torch.tensor([math.nan, 7.0]).reshape(1, 2, 1, 1)
    assert blend.fuse_valid(weights, slices, slices.isfinite()).item() == 7.0


def test_height_is_never_between_two_surfaces() -> None:
    posterior = torch.zeros(1, 12, 1, 1)
    posterior[0, [1, 2], 0, 0] = torch.tensor([0.3, 0.3])
    posterior[0, 10, 0, 0] = 0.4
    visible = torch.ones(1, 1, 1, dtype=torch.bool)
    assert blend.height_map(posterior, visible).item() == 10.0
    posterior[0, 2, 0, 0] = 0.5
    assert blend.height_map(posterior, visible).item() == pytest.approx((0.3 + 1.0) / 0.8)


def test_height_follows_irregular_and_descending_positions() -> None:
    posterior = torch.tensor([0.0, 0.5, 0.5, 0.0]).reshape(1, 4, 1, 1)
    positions = torch.tensor([10.0, 6.0, 5.0, -1.0])
    visible = torch.ones(1, 1, 1, dtype=torch.bool)
    assert blend.height_map(posterior, visible, positions).item() == pytest.approx(5.5)


def test_confidence_counts_the_neighbours() -> None:
    posterior = torch.tensor([0.1, 0.2, 0.5, 0.15, 0.05]).reshape(1, 5, 1, 1)
    visible = torch.ones(1, 1, 1, dtype=torch.bool)
    assert blend.confidence_map(posterior, visible).item() == pytest.approx(0.85)


def test_where_nothing_is_in_focus_nothing_is_claimed() -> None:
    posterior, nothing = blend.focus_posterior(random_scores()), torch.zeros(2, 9, 11, dtype=torch.bool)
    assert (blend.decision_mask(posterior, nothing) == 0).all()
    assert blend.height_map(posterior, nothing).isnan().all()
    assert blend.confidence_map(posterior, nothing).isnan().all()


def test_noise_gain_is_that_of_averaging() -> None:
    assert blend.noise_gain(torch.full((1, 4, 1, 1), 0.25)).item() == pytest.approx(0.5)
    assert blend.noise_gain(torch.tensor([0.0, 1.0]).reshape(1, 2, 1, 1)).item() == 1.0
