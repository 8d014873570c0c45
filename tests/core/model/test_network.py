import itertools
import re

import pytest
import torch
from conftest import opinionated_network
from timm.models.swin_transformer_v2 import SwinTransformerV2Block, WindowAttention
from torch import Tensor

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.model.blur import gaussian_blur
from hybridfusion_core.model.config import NetworkConfig
from hybridfusion_core.model.network import HybridFusionNet, Scores
from hybridfusion_core.model.posterior import focus_posterior, fuse_soft, fusion_weights
from hybridfusion_core.model.receptive_field import receptive_field
from hybridfusion_core.model.swin import SwinBlock

SMALL = NetworkConfig(channels=4, dim=8, heads=2)
COARSE = NetworkConfig(channels=4, dim=8, heads=2, depth=0, coarse_depth=2)
BOTH = NetworkConfig(channels=4, dim=8, heads=2, coarse_depth=2)
NOISE = torch.tensor([0.1])


def parts(scores: Scores) -> list[Tensor]:
    return [part for part in scores if part is not None]


@pytest.mark.parametrize("config", [SMALL, COARSE, BOTH], ids=["fine", "coarse", "both"])
def test_shuffled_slices_give_shuffled_scores_and_nothing_else(config: NetworkConfig) -> None:
    network = opinionated_network(config).double()
    guide = torch.randn(1, 5, 32, 64, dtype=torch.float64)
    order = torch.tensor([3, 0, 4, 1, 2])
    straight, shuffled = network(guide, NOISE.double()), network(guide[:, order], NOISE.double())
    for before, after in zip(straight[:2], shuffled[:2], strict=True):
        torch.testing.assert_close(before[:, order], after, rtol=0, atol=1e-12)
    if straight.in_focus is not None:
        torch.testing.assert_close(straight.in_focus, shuffled.in_focus, rtol=0, atol=1e-12)


def test_a_pair_gets_sigmoid_masks() -> None:
    scores = opinionated_network(SMALL)(torch.randn(1, 2, 32, 32), NOISE)
    focus, both = scores.focus, scores.focus + scores.spread
    torch.testing.assert_close(focus_posterior(scores)[:, 0], torch.sigmoid(focus[:, 0] - focus[:, 1]))
    torch.testing.assert_close(fusion_weights(scores)[:, 0], torch.sigmoid(both[:, 0] - both[:, 1]))


@pytest.mark.parametrize("slices", [1, 2, 7])
def test_identical_slices_fuse_to_themselves(slices: int) -> None:
    image = 1e4 * torch.rand(1, 1, 32, 32)
    stack = image.expand(1, slices, 32, 32)
    scores = opinionated_network(SMALL)(stack / 1e4, NOISE)
    assert torch.equal(fuse_soft(fusion_weights(scores), stack), image[:, 0])


@pytest.mark.parametrize("slices", [1, 2, 3, 12])
def test_one_set_of_weights_serves_any_number_of_slices(slices: int) -> None:
    scores = opinionated_network(SMALL)(torch.randn(2, slices, 16, 32), torch.tensor([0.1, 0.2]))
    assert scores.focus.shape == scores.spread.shape == (2, slices, 16, 32)
    torch.testing.assert_close(fusion_weights(scores).sum(dim=1), torch.ones(2, 16, 32))


@pytest.mark.parametrize("config", [SMALL, COARSE], ids=["fine", "coarse"])
@pytest.mark.parametrize("z_chunk", [1, 2, 5])
def test_chunks_of_z_change_nothing(config: NetworkConfig, z_chunk: int) -> None:
    network, guide = opinionated_network(config), torch.randn(2, 5, 32, 32)
    noise = torch.tensor([0.1, 0.3])
    for whole, chunked in zip(parts(network(guide, noise)), parts(network(guide, noise, z_chunk)), strict=True):
        torch.testing.assert_close(whole, chunked, rtol=0, atol=1e-6)


def test_tokens_never_attend_across_the_border_they_were_rolled_over() -> None:
    network = opinionated_network(NetworkConfig(channels=4, dim=8, heads=2, depth=2))
    guide = torch.randn(1, 3, 96, 96)
    changed = guide.clone()
    changed[..., :4] += 100.0  # the left border; the shifted windows of the right one wrap onto it
    with torch.inference_mode():
        before, after = network(guide, NOISE), network(changed, NOISE)
    far = slice(4 + receptive_field(network.config), None)
    assert torch.equal(before.focus[..., far], after.focus[..., far])
    assert not torch.equal(before.focus[..., :8], after.focus[..., :8])


def test_shifted_windows_lie_inside_the_plane() -> None:
    """A token attends to all 64 of its window or, nearer to the border than half a window, to none."""
    block = SwinBlock(8, 2, 8, shifted=True, mlp_ratio=2.0).double()
    x = torch.randn(1, 24, 24, 8, dtype=torch.float64, requires_grad=True)
    for at, reached in ((3, []), (4, range(4, 12)), (11, range(4, 12)), (12, range(12, 20)), (20, [])):
        (gradient,) = torch.autograd.grad(block._attend(x)[0, at, 9].sum(), x)
        assert gradient.abs().sum(dim=(0, 2, 3)).nonzero().flatten().tolist() == list(reached)
    assert not block._attend(x[:, :8, :8]).any()  # a plane of one window has no room for a shifted one


def test_the_untrained_network_selects_by_gradient_energy_the_harder_the_less_noise() -> None:
    """What the energies alone say: the sharper slice wins, and noise makes the choice softer."""
    torch.manual_seed(0)
    network = HybridFusionNet(NetworkConfig())
    torch.nn.init.zeros_(network.head.weight)
    sharp = torch.randn(64, 64)
    guide = torch.stack([gaussian_blur(sharp, 0.7), gaussian_blur(sharp, 1.0), gaussian_blur(sharp, 3.0)])[None]
    chosen = [focus_posterior(network(guide, torch.tensor([noise]))) for noise in (0.001, 0.3)]
    assert (chosen[0].argmax(dim=1) == 0).float().mean() > 0.99
    assert (chosen[0][:, 0] > chosen[1][:, 0]).all()


def test_where_there_is_only_noise_the_energies_prefer_no_slice() -> None:
    torch.manual_seed(0)
    guide = 0.1 * torch.randn(1, 2, 64, 64)
    energies = HybridFusionNet(NetworkConfig(focus_windows=(8.0,)))._relative_energies(guide, torch.tensor([0.1]))
    assert energies.max() == 0
    assert energies.mean() > -0.05


def test_attention_is_timm_s() -> None:
    torch.manual_seed(0)
    ours, theirs = SwinBlock(8, 2, 4, shifted=False, mlp_ratio=2.0), WindowAttention(8, (4, 4), 2)
    torch.nn.init.normal_(ours.attn.q_bias)
    theirs.load_state_dict(ours.attn.state_dict())
    x = torch.randn(12, 16, 8)
    torch.testing.assert_close(ours.attn(x), theirs(x), rtol=0, atol=1e-5)


def test_a_block_that_is_not_shifted_is_timm_s() -> None:
    torch.manual_seed(0)
    ours = SwinBlock(8, 2, 4, shifted=False, mlp_ratio=2.0)
    theirs = SwinTransformerV2Block(8, (12, 8), 2, window_size=4, mlp_ratio=2.0)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(3, 12, 8, 8)
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-5)


CONFIGS = [
    NetworkConfig(channels=6, dim=4, heads=1),
    NetworkConfig(channels=6, dim=4, heads=2, depth=1, dilations=(1,)),
    NetworkConfig(channels=6, dim=4, heads=1, depth=3, window=4),
    NetworkConfig(channels=6, dim=4, heads=1, depth=2, window=2, patch=4, dilations=(3, 1)),
    NetworkConfig(channels=6, dim=4, heads=1, depth=2, window=4, patch=1, dilations=(8,)),
    NetworkConfig(channels=6, dim=4, heads=1, depth=1, dilations=(1,), focus_windows=(0.5, 3.0)),
    NetworkConfig(channels=6, dim=4, heads=1, depth=1, dilations=(1, 1), focus_windows=()),
    NetworkConfig(channels=6, dim=4, heads=1, depth=0, window=2, coarse_depth=2),
    NetworkConfig(channels=6, dim=4, heads=1, depth=1, window=4, dilations=(1,), coarse_depth=1),
    NetworkConfig(channels=6, dim=4, heads=1, depth=0, window=2, patch=1, dilations=(1,), coarse_depth=3),
    NetworkConfig(channels=6, dim=4, heads=1, depth=0, window=2, patch=1, coarse_depth=1, coarse_bin=4),
]


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_the_receptive_field_is_exact(config: NetworkConfig) -> None:
    """Gradients vanish just outside the stated distance and, at some phase of the lattice, not just inside."""
    network = opinionated_network(config).double()
    reach, lattice = receptive_field(config), config.lattice
    middle = -(-(reach + 1) // lattice) * lattice
    size = 2 * middle + lattice
    farthest = 0
    for axis, phase in itertools.product((2, 3), range(lattice)):
        guide = torch.randn(1, 2, size, size, dtype=torch.float64, requires_grad=True)
        at = middle + phase
        scores = network(guide, NOISE.double())
        sum(part.select(axis - 4, at).abs().sum() for part in parts(scores)).backward()
        assert guide.grad is not None
        touched = guide.grad.abs().sum(dim=[0, 1, 5 - axis]).nonzero().flatten()
        farthest = max(farthest, int((touched - at).abs().max()))
    assert farthest == reach


def test_the_default_halo_is_two_lattice_cells() -> None:
    assert NetworkConfig().lattice == 16
    assert receptive_field(NetworkConfig()) == 31
    assert NetworkConfig().halo == 32


@pytest.mark.parametrize("level", ["fine", "coarse"])
@pytest.mark.parametrize("depth", [2, 4, 6, 8])
def test_every_block_starts_with_a_gradient_of_the_same_order(level: str, depth: int) -> None:
    torch.manual_seed(0)
    sizes = {"depth": depth} if level == "fine" else {"depth": 0, "coarse_depth": depth}
    network = HybridFusionNet(NetworkConfig(**sizes))
    guide = torch.randn(1, 4, 64, 64)
    fusion_weights(network(guide, NOISE)).mul(guide).sum(dim=1).square().mean().backward()
    norms = []
    for block in network.blocks if level == "fine" else network.coarse.blocks:
        # Not the norms' own: those have a gradient even where they let none through.
        parts = (*block.attn.parameters(), *block.mlp.parameters())
        gradients = [parameter.grad for parameter in parts if parameter.grad is not None]
        norms.append(float(torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt()))
    assert min(norms) > 1e-6
    assert max(norms) / min(norms) < 10


def test_the_last_layer_starts_small_but_not_at_zero() -> None:
    torch.manual_seed(0)
    weight = HybridFusionNet(NetworkConfig(channels=64, dim=32)).head.weight
    assert float(weight.detach().std()) == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize(
    ("sizes", "cure"),
    [
        ({"dim": 32, "heads": 5}, "Choose heads from [1, 2, 4, 8, 16, 32]"),
        ({"window": 7}, "Choose 6 or 8"),
        ({"dilations": ()}, "The default is (1, 2, 4)"),
        ({"dilations": (1, 0)}, "each 1 or more"),
        ({"depth": 0}, "Raise depth"),
        ({"patch": 0}, "Raise patch"),
        ({"focus_windows": (1.0, 0.0)}, "The default is (1.0, 2.0, 4.0, 6.0)"),
        ({"depth": -1, "coarse_depth": 2}, "Raise depth"),
        ({"coarse_bin": 0}, "Raise coarse_bin"),
        ({"mlp_ratio": 0.0}, "The default is 2.0"),
    ],
)
def test_impossible_sizes_fail_at_construction_with_the_cure(sizes: dict, cure: str) -> None:
    with pytest.raises(UserInputError, match=re.escape(cure)):
        NetworkConfig(**sizes)
