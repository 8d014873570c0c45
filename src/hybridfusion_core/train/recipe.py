"""What a training depends on: one frozen recipe, which a TOML file holds."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, NonNegativeFloat, TypeAdapter, ValidationError, with_config

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.model.config import NetworkConfig
from hybridfusion_core.scenes.scene import KINDS, SceneKind
from hybridfusion_core.train.losses.presets import PresetName

# Weights beside the recipes, by the names that they had before 0.2.0: recipes of users may start from them.
_RENAMED = {
    "first": "basic",
    "second": "less_haze",
    "third": "depth_12",
    "fourth": "more_slices",
    "fifth": "transmitted_start",
    "sixth": "lonely_and_crowded",
}


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class LossWeights:
    """How much each term of `losses` counts.

    `lattice` costs another half of a step and is left out at 0; `in_focus` is asked of networks that say it.
    """

    l1: float = 1.0
    gradient: float = 1.0
    cross_entropy: float = 0.1
    height: float = 0.02
    total_variation: float = 0.01
    local_mean: float = 0.0
    lattice: float = 0.0
    in_focus: float = 0.2
    glow: float = 0.05


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class Unlabelled:
    """Real stacks without truth that a training learns from beside its scenes.

    Attributes:
        preset: name of the unsupervised loss.
        weight: of that loss as a whole; 0 leaves it out.
        stacks: file names of the stacks that may be trained on; their folder is told to `train`.
    """

    preset: PresetName = "organoid"
    weight: NonNegativeFloat = 0.0
    stacks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        named = all(re.fullmatch(r"[^/\\]+", name) and name not in (".", "..") for name in self.stacks)
        if not named or len(set(self.stacks)) < len(self.stacks):
            raise UserInputError(
                f"Recipe: unlabelled stacks are {', '.join(map(repr, self.stacks))}; expected different file names "
                "without folders. Give the folder with --stacks."
            )
        if self.weight and not self.stacks:
            raise UserInputError(
                f"Recipe: the unsupervised loss has weight {self.weight} and no stacks; expected the file names of "
                "those that may be trained on. Name them in [unlabelled] stacks, or set its weight to 0."
            )


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class Recipe:
    """Everything that a training depends on.

    Attributes:
        name: of the model.
        description: one sentence for its card.
        limits: what the model is not for.
        start: name or path of the model whose weights are started from; "" starts at random.
        seed: of weights and scenes.
        steps: optimiser steps.
        slices: about how many slices of `size` × `size` pixels a step sees.
        size: of a scene, pixels.
        depth: fewest and most slices of a stack.
        learning_rate: after the warm-up.
        schedule: of the learning rate: a cosine to zero, or constant.
        weight_decay: of AdamW.
        clip: largest gradient norm.
        ema: decay of the exponential moving average of the weights that becomes the model; 0 takes the last weights.
        haze: probability of haze in a scene that has none by nature.
        scenes: share of each kind of scene; they are made to sum to one.
        network: sizes; None takes those of `start`, or the default ones if there is no start. Other levels than those
            of `start` take over what fits (`transplant`).
        weights: of the loss terms.
        unlabelled: real stacks to learn from too.
    """

    name: str
    description: str = ""
    limits: str = ""
    start: str = ""
    seed: int = 0
    steps: int = 5_000
    slices: int = 16
    size: int = 96
    depth: tuple[int, int] = (2, 10)
    learning_rate: float = 2e-3
    schedule: Literal["cosine", "constant"] = "cosine"
    weight_decay: float = 1e-4
    clip: float = 1.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    haze: float = 0.35
    scenes: dict[SceneKind, float] = field(default_factory=lambda: {"layers": 1.0})
    network: NetworkConfig | None = None
    weights: LossWeights = field(default_factory=LossWeights)
    unlabelled: Unlabelled = field(default_factory=Unlabelled)

    def __post_init__(self) -> None:
        if not self.scenes or min(self.scenes.values()) < 0 or sum(self.scenes.values()) <= 0:
            raise UserInputError(
                f"Recipe: scenes are {self.scenes}; expected a share > 0 of at least one of {', '.join(KINDS)}. "
                "Compare it with recipes/general.toml."
            )
        object.__setattr__(self, "start", _found_under_its_name(self.start))
        if self.network is None and not self.start:
            object.__setattr__(self, "network", NetworkConfig())


def _found_under_its_name(start: str) -> str:
    """Return the path of weights that are started from, also where a recipe has their former name."""
    path = Path(start)
    renamed = path.with_stem(_RENAMED[path.stem]) if path.suffix == ".safetensors" and path.stem in _RENAMED else path
    return str(renamed) if not path.exists() and renamed.is_file() else start


def load_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Raises:
        UserInputError: no such file, not TOML, or a field that is unknown or impossible.
    """
    try:
        return TypeAdapter(Recipe).validate_python(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise UserInputError(f"No recipe {str(path)!r}. Give the path of a TOML file as in recipes/.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserInputError(
            f"{path.name}: not a TOML file ({error}). Compare it with recipes/general.toml."
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserInputError(
            f"{path.name}: {where}: {first['msg']}, found {first['input']!r}. Compare it with recipes/general.toml."
        ) from error
