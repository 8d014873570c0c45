"""What is known of one laboratory's imaging, so that scenes can be drawn as its microscope would show them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hybridfusion_core.scenes.camera import Camera
from hybridfusion_core.scenes.draw import Draw
from hybridfusion_core.scenes.optics import Microscope

_SPREAD = 1.05  # of pixel and step: metadata are rounded
_NOISE_SPREAD = 1.3  # of photons and read noise: they are estimated
_NEIGHBOURS = 0.6  # share of the scenes whose slices are neighbours in a stack of the laboratory


@dataclass(frozen=True)
class Lab:
    """Optics, distances and noise; what is empty or None is drawn as for any microscope.

    Attributes:
        microscopes: one of them is drawn for each scene.
        z_step: between two neighbouring slices, in µm.
        slices: Z of its stacks; scenes of fewer slices are also spread over the same depth.
        cameras: noise in units of a stack's own full scale, above the background, whose noise is part of `read`;
            one of them is drawn for each scene.
        phase_contrast: transmitted light passes a phase ring: always, never, or as ever.
    """

    microscopes: tuple[Microscope, ...] = ()
    z_step: float | None = None
    slices: int = 2
    cameras: tuple[Camera, ...] = ()
    phase_contrast: bool | None = None

    def draw_microscope(self, draw: Draw) -> Microscope:
        """Draw one of the microscopes, its pixels within 5 %. There must be one."""
        microscope = draw.choice(self.microscopes)
        return replace(microscope, pixel=microscope.pixel * draw.log_uniform(1 / _SPREAD, _SPREAD))

    def draw_step(self, draw: Draw, slices: int, microscope: Microscope) -> float | None:
        """Draw the distance between the slices of a scene in pixels; None if the step is not known.

        Most are neighbours in the laboratory's stacks, within 5 %; the others several steps apart, as when every
        other slice is fused.
        """
        if self.z_step is None:
            return None
        widest = max(1, (self.slices - 1) // (slices - 1))
        apart = 1 if draw.chance(_NEIGHBOURS) else draw.integer(1, widest)
        return apart * self.z_step * draw.log_uniform(1 / _SPREAD, _SPREAD) / microscope.pixel

    def draw_camera(self, draw: Draw) -> Camera:
        """Draw one of the cameras, its noise within 30 %. There must be one."""
        camera = draw.choice(self.cameras)
        return replace(
            camera,
            photons=camera.photons * draw.log_uniform(1 / _NOISE_SPREAD, _NOISE_SPREAD),
            read=camera.read * draw.log_uniform(1 / _NOISE_SPREAD, _NOISE_SPREAD),
        )


ANY_LAB = Lab()
