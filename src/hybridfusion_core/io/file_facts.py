"""What a user says about a file because the file does not say it, or says it wrongly."""

from __future__ import annotations

from dataclasses import dataclass

from hybridfusion_core.io.zarr.chunk_files import Absent


@dataclass(frozen=True)
class FileFacts:
    """What the options of `open_stack` say to the reader of a format.

    Attributes:
        axes: what the axes are, in stored order: letters of TCZYX.
        series: which image, for a file with several: index or name.
        absent: whether slices of which an OME-Zarr has no chunk are refused or read as the fill value.
        sizes_known: the user gave pixel size or Z step, so that a stored scale that cannot be understood is no reason
            to refuse the image.
    """

    axes: str | None = None
    series: str | int | None = None
    absent: Absent = "refuse"
    sizes_known: bool = False


NO_FACTS = FileFacts()
