"""Not for new code: BioImage.IO packages that were exported before 2026-12 name this module."""

from hybridfusion_core.fusion.bioimageio import *  # noqa: F403
