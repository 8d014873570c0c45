"""The light of a scene before any camera, and what is true about it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hybridfusion_core.scenes.contrast import neighbourhood_maximum
from hybridfusion_core.scenes.focus import Focus

MARGIN = 16  # px computed around the scene and dropped, because FFTs wrap


@dataclass(frozen=True)
class Light:
    """Noise-free light on the camera, full scale about 1, and what is true about it.

    Attributes:
        image: Z Y X.
        sharp: Y X, the all-in-focus image where there is structure; None: the image at the object's own height.
        even: Y X, the same where there is none; None: the mean of the image over z.
        height: Y X in slices, not clipped.
        detail: Y X, local contrast of what stands in focus there, in units of the image.
        overlap: Y X, bool, a second layer is in focus at another height, about as bright.
        contrast: of the brightest structures, in units of the image.
        focus: what is in focus and what glows around it, of light that adds up; None: of surfaces, which are in
            focus wherever they can be seen.
        everywhere: something is in focus in some slice at every pixel, whether it shows or not.
    """

    image: Tensor
    sharp: Tensor | None
    even: Tensor | None
    height: Tensor
    detail: Tensor
    overlap: Tensor
    contrast: float = 1.0
    focus: Focus | None = None
    everywhere: bool = False

    def at_height(self) -> Tensor:
        """Y X, the all-in-focus image where there is structure."""
        return at_height(self.image, self.height) if self.sharp is None else self.sharp

    def truth(self, structure: Tensor, least: Tensor | float = 1e-3) -> Tensor:
        """Y X: sharp where there is structure (0 … 1), else even, or beside a structure the light of its own slice.

        Args:
            structure: Y X.
            least: light around structures that no longer matters, Y X or a number > 0.
        """
        if self.focus is not None:
            even = (self.focus.choice(least) * self.image).sum(dim=0)
        else:
            even = self.image.mean(dim=0) if self.even is None else self.even
        return structure * self.at_height() + (1 - structure) * even

    def scaled(self, gain: float | Tensor, offset: float = 0.0) -> Light:
        """Multiply all light by a gain (a number, or Y X), and add an even offset."""
        typical = float(gain.mean()) if isinstance(gain, Tensor) else gain
        return replace(
            self,
            image=self.image * gain + offset,
            sharp=None if self.sharp is None else self.sharp * gain + offset,
            even=None if self.even is None else self.even * gain + offset,
            detail=self.detail * gain,
            contrast=self.contrast * typical,
            focus=None if self.focus is None else self.focus.scaled(gain),
        )

    def plus(self, light: Tensor) -> Light:
        """Add structureless light, Z Y X.

        Only a choice of slices can be asked for: with detail comes the light of its own slice, and where there
        is none the mean of all is the one estimate that no slice biases.
        """
        return replace(
            self,
            image=self.image + light,
            sharp=None if self.sharp is None else self.sharp + at_height(light, self.height),
            even=None if self.even is None else self.even + light.mean(dim=0),
        )

    def without(self, index: int) -> Light:
        """Put a slice's neighbour in its place: what is left to choose from when that slice is lost."""
        image = self.image.clone()
        image[index] = image[index - 1 if index else 1]
        return replace(self, image=image)

    def by_slice(self, gains: Tensor) -> Light:
        """Multiply each slice by a number of its own (Z)."""
        own = at_height(gains[:, None, None].expand_as(self.image), self.height)
        return replace(
            self,
            image=self.image * gains[:, None, None],
            sharp=None if self.sharp is None else self.sharp * own,
            even=None if self.even is None else self.even * gains.mean(),
        )


def crop(field: Tensor) -> Tensor:
    """Drop the margin. … y x -> … Y X."""
    return field[..., MARGIN:-MARGIN, MARGIN:-MARGIN]


def at_height(light: Tensor, height: Tensor) -> Tensor:
    """Z Y X at a height Y X, interpolated between slices."""
    last = light.shape[0] - 1
    position = height.clamp(0, last)
    below = position.long().clamp(max=max(last - 1, 0))
    share = position - below
    lower, upper = light.gather(0, below[None])[0], light.gather(0, (below + 1).clamp(max=last)[None])[0]
    return lower * (1 - share) + upper * share


def near_step(height: Tensor) -> Tensor:
    """Within 8 px of a jump of more than one slice. Y X -> Y X, bool."""
    jump = torch.zeros_like(height, dtype=torch.bool)
    jump[1:] |= (height[1:] - height[:-1]).abs() > 1
    jump[:, 1:] |= (height[:, 1:] - height[:, :-1]).abs() > 1
    return neighbourhood_maximum(jump.float(), 17) > 0


def white_level(image: Tensor) -> float:
    """Brightness that 0.2 % of the pixels exceed, at least 1e-3."""
    return float(image.flatten().kthvalue(max(1, int(0.998 * image.numel()))).values.clamp(min=1e-3))
