"""What a fine-tuning learns from, by preset: the laboratory's scenes, the start's own, and the real stacks.

Nothing here is trained from: these are the recipes that the loop draws its batches by.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from hybridfusion_core.scenes.lab import Lab
from hybridfusion_core.scenes.scene import SceneKind
from hybridfusion_core.train.losses.presets import PresetName
from hybridfusion_core.train.recipe import LossWeights, Recipe, Unlabelled

Light = Literal["organoid", "natural", "transmitted"]

STARTS: dict[Light, str] = {"organoid": "fluorescence", "natural": "natural", "transmitted": "transmitted"}
_SLICES, _SIZE, _DEEPEST = 12, 96, 12  # of a step's scenes
_DEEPEST_PATCH = 6
_FAMILIAR = 0.5  # slices of the start's own scenes for each of the laboratory's
_OWN_WEIGHT = 0.01  # of the unsupervised loss, as in the recipe of `fluorescence`
_RATE = 1e-3
_AVERAGE = 0.99  # decay of the average of the weights that becomes the model

_LOSSES: dict[Light, LossWeights] = {
    "organoid": LossWeights(height=0.06, total_variation=0.02, local_mean=1.0),
    "natural": LossWeights(local_mean=0.5),
    "transmitted": LossWeights(cross_entropy=0.2, total_variation=0.02, local_mean=0.5),
}
# Kinds of scenes that show the laboratory's optics, or at least its noise; and those of the shipped models' recipes.
_OWN: dict[Light, dict[SceneKind, float]] = {
    "organoid": {"volume": 0.6, "isolated": 0.15, "crowded": 0.1, "layers": 0.15},
    "natural": {"photographic": 0.7, "layers": 0.3},
    "transmitted": {"transmitted": 1.0},
}
_BEFORE: dict[Light, dict[SceneKind, float]] = {
    "organoid": {"layers": 0.3, "photographic": 0.25, "volume": 0.2, "isolated": 0.13, "crowded": 0.12},
    "natural": {"photographic": 0.7, "layers": 0.3},
    "transmitted": {"transmitted": 0.9, "layers": 0.1},
}
_UNSUPERVISED: dict[Light, PresetName | None] = {"organoid": "organoid", "natural": "natural", "transmitted": None}


@dataclass(frozen=True)
class Lessons:
    """What every step is drawn from.

    Attributes:
        own: scenes as the laboratory's microscope shows them; its unsupervised loss, if any, is for the real stacks.
        familiar: scenes as the start was trained on, against forgetting.
        lab: of `own`.
    """

    own: Recipe
    familiar: Recipe
    lab: Lab

    @property
    def patches(self) -> Recipe:
        """What patches of real stacks are cut by: shallow ones, which cost a step less than its scenes do."""
        return replace(self.own, depth=(2, max(2, min(self.own.depth[1], _DEEPEST_PATCH))))

    @property
    def unsupervised(self) -> bool:
        """Real stacks are learnt from, not only described."""
        return bool(self.own.unlabelled.weight)


def lessons(name: str, light: Light, start: str, lab: Lab, seed: int) -> Lessons:
    """Choose recipes for a fine-tuning.

    Args:
        name: of the new model.
        light: what its stacks are.
        start: name or path of the model that it starts from.
        lab: its microscope.
        seed: of everything random.
    """
    preset = _UNSUPERVISED[light]
    own = Recipe(
        name,
        start=start,
        seed=seed,
        slices=_SLICES,
        size=_SIZE,
        depth=(2, max(2, min(lab.slices, _DEEPEST))),
        learning_rate=_RATE,
        weight_decay=0.0,  # the pull is to the start, not to zero
        ema=_AVERAGE,
        haze=0.2,
        scenes=_OWN[light],
        weights=_LOSSES[light],
        unlabelled=Unlabelled() if preset is None else Unlabelled(preset, _OWN_WEIGHT, ("stacks of the laboratory",)),
    )
    familiar = replace(
        own,
        seed=seed + 1,
        slices=round(_FAMILIAR * _SLICES),
        depth=(2, _DEEPEST),
        scenes=_BEFORE[light],
        unlabelled=Unlabelled(),
    )
    return Lessons(own, familiar, lab)
