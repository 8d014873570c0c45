"""Synthetic focal stacks with known truth: scenes, heights, optics and cameras.

Everything random comes from the `torch.Generator` that is handed in, so a seed is a data set. `docs/synthesis.md`
shows the kinds of scenes and says what is true about them.
"""

from hybridfusion_core.synthesis.blur import diffraction_transfer
from hybridfusion_core.synthesis.camera import NOISES, Camera, Noise
from hybridfusion_core.synthesis.draw import Draw, radial_frequency, smooth_field
from hybridfusion_core.synthesis.lab import ANY_LAB, Lab
from hybridfusion_core.synthesis.optics import CONDENSERS, Microscope, likely_objectives
from hybridfusion_core.synthesis.scene import KINDS, Scene, SceneKind, make_scene

__all__ = [
    "ANY_LAB",
    "CONDENSERS",
    "KINDS",
    "NOISES",
    "Camera",
    "Draw",
    "Lab",
    "Microscope",
    "Noise",
    "Scene",
    "SceneKind",
    "diffraction_transfer",
    "likely_objectives",
    "make_scene",
    "radial_frequency",
    "smooth_field",
]
