import pytest
import torch

from hybridfusion_core.train.losses import mask as mask_losses
from hybridfusion_core.train.losses import supervised


def test_image_terms_are_zero_only_for_the_truth() -> None:
    truth = torch.rand(2, 8, 9)
    for term in (supervised.l1, supervised.gradient_l1):
        assert term(truth, truth) == 0
        assert term(truth + torch.rand(2, 8, 9), truth) > 0
    assert supervised.gradient_l1(truth + 3, truth) < 1e-5  # blind to a constant, which is what l1 is for


def test_the_local_mean_sees_lost_light_and_hardly_noise() -> None:
    """A dimmed disc and noise of the same mean error: the term tells them apart, L1 does not."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    disc = ((y - 32) ** 2 + (x - 32) ** 2 < 12**2).float()[None]
    dimmed, noise = 0.9 * disc, disc + 0.1 * disc * torch.randn(1, 64, 64).sign()
    assert supervised.l1(dimmed, disc) == pytest.approx(float(supervised.l1(noise, disc)))
    assert supervised.local_mean_l1(dimmed, disc) > 4 * supervised.local_mean_l1(noise, disc)
    assert supervised.local_mean_l1(disc, disc) == 0


def test_cross_entropy_is_lowest_for_the_true_height() -> None:
    height, weight = torch.full((1, 4, 4), 1.25), torch.ones(1, 4, 4)
    best = torch.tensor([1e-9, 0.75, 0.25, 1e-9]).log().reshape(1, 4, 1, 1).expand(1, 4, 4, 4)
    lowest = supervised.focus_cross_entropy(best, height, weight)
    for seed in range(20):
        torch.manual_seed(seed)
        assert supervised.focus_cross_entropy(best + 0.3 * torch.randn(1, 4, 4, 4), height, weight) > lowest


def test_pixels_without_weight_do_not_count() -> None:
    logits, height, weight = torch.randn(1, 3, 2, 2), torch.ones(1, 2, 2), torch.ones(1, 2, 2)
    weight[0, 0, 0] = 0
    changed = logits.clone()
    changed[..., 0, 0] += torch.tensor([5.0, -5.0, 3.0])
    for term in (
        supervised.focus_cross_entropy,
        lambda scores, *rest: supervised.height_l1(scores.softmax(dim=1), *rest),
    ):
        assert term(logits, height, weight) == pytest.approx(float(term(changed, height, weight)))


def test_expected_height_is_exact_for_a_mass_shared_by_neighbours() -> None:
    posterior = torch.tensor([0.0, 0.6, 0.4, 0.0]).reshape(1, 4, 1, 1)
    assert supervised.expected_height(posterior).item() == pytest.approx(1.4)


def test_total_variation_of_a_pair_is_that_of_its_mask() -> None:
    mask = torch.rand(1, 1, 6, 7)
    pair = torch.cat([mask, 1 - mask], dim=1)
    expected = mask.diff(dim=-1).abs().mean() + mask.diff(dim=-2).abs().mean()
    assert mask_losses.total_variation(pair) == pytest.approx(float(expected))
    assert mask_losses.total_variation(torch.full((1, 3, 5, 5), 1 / 3)) == 0


def test_masks_disagree_by_the_share_of_the_decision_that_moves() -> None:
    one, other = torch.rand(2, 2, 4, 6, 6).softmax(dim=2)
    assert mask_losses.disagreement(one, one) == 0
    assert mask_losses.disagreement(one, other) == pytest.approx(float(mask_losses.disagreement(other, one)))
    first, second = torch.eye(2)[:, None, :, None, None].expand(2, 1, 2, 3, 4)
    assert mask_losses.disagreement(first, second) == 1
    assert mask_losses.disagreement(first, (first + second) / 2) == 0.5


def test_gradients_agree_with_finite_differences() -> None:
    torch.manual_seed(0)
    logits = torch.randn(1, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    counts = torch.rand(1, 3, 4, 4, dtype=torch.float64)
    height = torch.rand(1, 4, 4, dtype=torch.float64) * 2
    weight = torch.rand(1, 4, 4, dtype=torch.float64) + 0.1

    def total(scores: torch.Tensor) -> torch.Tensor:
        share = scores.softmax(dim=1)
        fused, truth = (share * counts).sum(dim=1), counts[:, 0] + 0.01
        return (
            supervised.l1(fused, truth)
            + supervised.gradient_l1(fused, truth)
            + supervised.focus_cross_entropy(scores, height, weight)
            + supervised.height_l1(share, height, weight)
            + mask_losses.total_variation(share)
        )

    assert torch.autograd.gradcheck(total, logits)


def test_no_term_knows_the_order_of_the_slices() -> None:
    share = torch.rand(1, 5, 6, 6).softmax(dim=1)
    assert mask_losses.total_variation(share) == pytest.approx(float(mask_losses.total_variation(share.flip(1))))
