"""Synthetic focal stacks with known truth: scenes, heights, optics and cameras.

Everything random comes from the `torch.Generator` that is handed in, so a seed is a data set. `docs/synthesis.md`
shows the kinds of scenes and says what is true about them.
"""

from hybridfusion_core.synthesis.blur import diffraction_transfer
from hybridfusion_core.synthesis.camera import NOISES, Noise
from hybridfusion_core.synthesis.draw import Draw, radial_frequency, smooth_field
from hybridfusion_core.synthesis.scene import KINDS, Scene, SceneKind, make_scene

__all__ = [
    "KINDS",
    "NOISES",
    "Draw",
    "Noise",
    "Scene",
    "SceneKind",
    "diffraction_transfer",
    "make_scene",
    "radial_frequency",
    "smooth_field",
]
