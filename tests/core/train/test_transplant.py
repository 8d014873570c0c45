import pytest
import torch
from conftest import opinionated_network

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.model.config import NetworkConfig
from hybridfusion_core.train.transplant import transplanted

FINE = NetworkConfig(channels=4, dim=8, heads=2)
COARSE = NetworkConfig(channels=4, dim=8, heads=2, depth=0, coarse_depth=2)
BOTH = NetworkConfig(channels=4, dim=8, heads=2, coarse_depth=2)
NOISE = torch.tensor([0.2])


def test_a_level_beside_what_there_is_begins_by_changing_little() -> None:
    old, guide = opinionated_network(FINE), torch.randn(1, 3, 64, 64)
    torch.manual_seed(1)
    new = transplanted(old, BOTH).eval()
    before, after = old(guide, NOISE), new(guide, NOISE)
    assert (before.focus - after.focus).abs().mean() < 0.15 * before.focus.std()
    assert after.in_focus is not None


def test_tokens_that_all_say_the_same_say_it_from_the_coarse_level_too() -> None:
    """Where there is one value everywhere, a coarse token is told what each of its fine ones was."""
    old = opinionated_network(FINE)
    with torch.no_grad():  # every pixel of a patch is told the same
        for part in (old.expand.weight.view(4, 4, -1), old.expand.bias.view(4, 4, 1)):
            part[:] = part.mean(dim=1, keepdim=True)
    new = transplanted(old, COARSE).eval()
    with torch.no_grad():
        new.coarse.embed_cells.weight.zero_()
        new.coarse.expand.weight[-2:] = 0  # both scores' own words begin at random
        for mixer in new.coarse.mixers:
            mixer.weight.zero_()
    guide = torch.tensor([0.5, -1.0, 2.0])[None, :, None, None].expand(1, 3, 192, 192)
    inner = (..., slice(80, 112), slice(80, 112))  # beyond the reach of the borders' zeros
    for before, after in zip(old(guide, NOISE)[:2], new(guide, NOISE)[:2], strict=True):
        torch.testing.assert_close(before[inner], after[inner], rtol=0, atol=1e-5)


def test_other_sizes_are_refused() -> None:
    with pytest.raises(UserInputError, match="expected the same sizes but for depth"):
        transplanted(opinionated_network(FINE), NetworkConfig(channels=8, dim=8, heads=2))
