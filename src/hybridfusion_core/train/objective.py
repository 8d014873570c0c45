"""What a step asks of the network: every loss term by its name, unweighted."""

from __future__ import annotations

import torch
from torch import Tensor

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.model.network import HybridFusionNet
from hybridfusion_core.model.posterior import focus_posterior, fuse_soft, fusion_weights
from hybridfusion_core.train.losses import mask, presets, supervised
from hybridfusion_core.train.patches import Patches
from hybridfusion_core.train.recipe import Recipe
from hybridfusion_core.train.scene_batches import Batch


def loss_terms(network: HybridFusionNet, batch: Batch, offset: tuple[int, int] | None = None) -> dict[str, Tensor]:
    """Every supervised term, unweighted, by its name in `LossWeights`.

    Args:
        network: whatever scores a batch.
        batch: scenes.
        offset: pixels along y and x by which the windows are moved to see what that changes; None leaves
            `lattice` out.
    """
    scores = network(batch.guide, batch.noise)
    posterior = focus_posterior(scores)
    weights = fusion_weights(scores)
    fused = fuse_soft(weights, batch.counts)
    weight = batch.weight[:, None, None]
    # Where nothing is in focus the height is still asked for, lightly: it continues what is sure.
    sure = 0.05 + batch.in_focus * batch.in_focus_weight
    terms = {
        "l1": supervised.l1(fused * weight, batch.truth * weight),
        "gradient": supervised.gradient_l1(fused * weight, batch.truth * weight),
        "cross_entropy": supervised.focus_cross_entropy(scores.focus, batch.height, sure),
        "height": supervised.height_l1(posterior, batch.height, sure),
        "total_variation": mask.total_variation(posterior),
        "local_mean": supervised.local_mean_l1(fused * weight, batch.truth * weight),
        "glow": supervised.glow(fuse_soft(weights, batch.guide), batch.truth_guide, batch.noise),
    }
    if scores.in_focus is not None:
        terms["in_focus"] = supervised.in_focus_cross_entropy(scores.in_focus, batch.in_focus, batch.in_focus_weight)
    return terms if offset is None else {**terms, "lattice": _lattice_term(network, batch, posterior, offset)}


def _lattice_term(network: HybridFusionNet, batch: Batch, posterior: Tensor, offset: tuple[int, int]) -> Tensor:
    """How much the posterior, B Z H W, depends on where the windows fall: asked of half of the scenes."""
    half, lattice = -(-len(batch.noise) // 2), network.config.lattice
    y, x = (slice(start, start - lattice) for start in offset)  # one lattice cell is left for the move
    moved = focus_posterior(network(batch.guide[:half, :, y, x], batch.noise[:half]))
    inner = slice(lattice, -lattice)  # beside a border there is less to see
    return mask.disagreement(moved[..., inner, inner], posterior[:half, :, y, x][..., inner, inner])


def unlabelled_terms(network: HybridFusionNet, patches: Patches, recipe: Recipe) -> dict[str, Tensor]:
    """Every term of the recipe's preset, unweighted, by its name in `TermWeights`.

    The image terms judge what the fusion weights fuse, because that is what a user gets; the weights contain the focus
    scores, which so learn from those terms too.
    """
    scores = network(patches.guide, patches.noise)
    preset = presets.PRESETS[recipe.unlabelled.preset]
    posterior, weights = focus_posterior(scores), fusion_weights(scores)
    return presets.unsupervised_terms(preset, patches.guide, posterior, patches.noise, weights)


def moved_lattice(recipe: Recipe, network: HybridFusionNet) -> int:
    """The lattice by less than which windows are moved; 0 if the recipe does not ask what that changes."""
    lattice = network.config.lattice
    if recipe.weights.lattice and recipe.size < 4 * lattice:
        raise UserInputError(
            f"The recipe {recipe.name!r} asks for the term `lattice` on scenes of {recipe.size} px; expected at least "
            f"{4 * lattice}, four lattice cells, since one moves and two lie beside borders. Raise size."
        )
    return lattice if recipe.weights.lattice else 0


def window_offset(recipe: Recipe, step: int, lattice: int) -> tuple[int, int] | None:
    """By how much windows are moved at a step, y and x in pixels; None if `lattice` is 0."""
    if not lattice:
        return None
    random = torch.Generator().manual_seed((recipe.seed << 32) + step)
    y, x = torch.randint(1, lattice, (2,), generator=random).tolist()
    return y, x
