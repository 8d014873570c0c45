"""Measures of a fused image and of the maps that explain it: pure functions on arrays."""

from hybridfusion_core.metrics.agreement import edge_preservation, luminance, mutual_information
from hybridfusion_core.metrics.calibration import Reliability, auroc, reliability
from hybridfusion_core.metrics.interval import Gain, paired_gain
from hybridfusion_core.metrics.traces import dark_ring, speckle, window_edges
from hybridfusion_core.metrics.truth import body_bias, boundary_band, height_error, psnr, ssim, textured

__all__ = [
    "Gain",
    "Reliability",
    "auroc",
    "body_bias",
    "boundary_band",
    "dark_ring",
    "edge_preservation",
    "height_error",
    "luminance",
    "mutual_information",
    "paired_gain",
    "psnr",
    "reliability",
    "speckle",
    "ssim",
    "textured",
    "window_edges",
]
