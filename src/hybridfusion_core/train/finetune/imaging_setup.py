"""The laboratory's imaging, from what was typed, what the files say, and the noise in the pixels.

Distances come from metadata, and so does the aperture where OME-XML states it; else it is drawn among the objectives
that usually go with the pixel size. Noise is that of `intensity`, in units of each stack's own full scale.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.scenes.camera import Camera
from hybridfusion_core.scenes.lab import Lab
from hybridfusion_core.scenes.objective import refractive_index
from hybridfusion_core.scenes.optics import CONDENSERS, Microscope, likely_objectives
from hybridfusion_core.train.finetune.crops import Crop
from hybridfusion_core.train.finetune.request import LARGEST_NA, LEAST_NA, FinetuneRequest
from hybridfusion_core.train.finetune.sources import Sources

_WAVELENGTHS = (0.46, 0.52, 0.60, 0.67)  # µm, of the usual dyes
_WHITE = 0.998  # quantile of the counts that is taken for full scale
_NOISELESS = 1e7  # photons where no shot noise was found
_LEAST_READ = 1e-4  # of full scale


def laboratory(request: FinetuneRequest, sources: Sources, looked_at: Sequence[Crop]) -> Lab:
    """Put together what is known of the microscope.

    Args:
        request: what was given.
        sources: whose headers say distances.
        looked_at: crops, for the noise.

    Raises:
        UserInputError: an aperture was given, and no pixel size is known that it could be drawn on.
    """
    pixels = [each.pixel_um for each in sources.stacks if each.pixel_um]
    steps = [each.z_step_um for each in sources.stacks if each.z_step_um]
    pixel = float(np.median(pixels)) if pixels else None
    if pixel is None and request.na is not None:
        raise UserInputError(
            f"The aperture is given as {request.na:g}, and no file says how large its pixels are; expected both or "
            "none. Give --pixel-size."
        )
    na = request.na or _stated(sources)
    return Lab(
        microscopes=() if pixel is None else _microscopes(na, request.wavelength_nm, pixel, sources.transmitted),
        # In units of pixels a step means nothing without their size.
        z_step=float(np.median(steps)) if steps and pixels else None,
        slices=max(2, round(float(np.median([each.shape[2] for each in sources.stacks])))),
        cameras=tuple(_camera(crop) for crop in looked_at),
        phase_contrast=request.phase_contrast,
    )


def in_words(lab: Lab, request: FinetuneRequest, sources: Sources) -> dict[str, Any]:
    """Say what scenes are drawn with, for people; plain JSON values."""
    return {
        "numerical aperture": sorted({each.na for each in lab.microscopes}) or "drawn as for any microscope",
        "aperture from": _origin(request, sources),
        "pixel size, µm": sorted({each.pixel for each in lab.microscopes}) or "not stated",
        "z step, µm": "not stated" if lab.z_step is None else round(lab.z_step, 4),
        "wavelength, µm": sorted({each.wavelength for each in lab.microscopes}) or "drawn",
        "photons at full scale": [round(each.photons) for each in lab.cameras],
        "read noise, parts of full scale": [round(each.read, 5) for each in lab.cameras],
        "phase contrast": {None: "not stated", True: "yes", False: "no"}[lab.phase_contrast],
    }


def _origin(request: FinetuneRequest, sources: Sources) -> str:
    if request.na:
        return "given"
    return "the files" if _stated(sources) else "objectives that usually go with the pixel size"


def _stated(sources: Sources) -> float | None:
    """Aperture that all files agree on; one beyond any lens is a mistake."""
    found = {each.na for each in sources.stacks}
    na = found.pop() if len(found) == 1 else None
    return na if na is not None and LEAST_NA <= na <= LARGEST_NA else None


def _microscopes(
    na: float | None, wavelength_nm: float | None, pixel: float, transmitted: bool
) -> tuple[Microscope, ...]:
    objectives = likely_objectives(pixel) if na is None else ((na, refractive_index(na)),)
    waves = _WAVELENGTHS if wavelength_nm is None else (wavelength_nm / 1000,)
    condensers = CONDENSERS if transmitted else (1.0,)
    return tuple(
        Microscope(aperture, index, wave, pixel, condenser)
        for (aperture, index), wave, condenser in itertools.product(objectives, waves, condensers)
    )


def _camera(crop: Crop) -> Camera:
    """Noise of a stack in units of its full scale: variance = read² + light / photons, with light above background."""
    model = crop.statistics.models[0]
    full = max(float(np.quantile(crop.counts, _WHITE)) - model.low, np.sqrt(model.variance), 1e-12)
    photons = min(full / model.gain, _NOISELESS) if model.gain > 0 else _NOISELESS
    return Camera(photons, max(float(np.sqrt(model.variance)) / full, _LEAST_READ))
