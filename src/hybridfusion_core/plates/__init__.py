"""Plates and folders of stacks: what they hold, which of it is chosen, and each field as a `Stack`.

Not here: fusing them, and writing the result.
"""

from hybridfusion_core.plates.description import Defect, Field, Frame, Imaging, Plane, Plate, Unit, Well
from hybridfusion_core.plates.layouts import LAYOUTS, Layout
from hybridfusion_core.plates.opening import open_plate
from hybridfusion_core.plates.selection import Selection, failures_csv, read_failures, select
from hybridfusion_core.plates.unit_stack import defects_of, find_channels, open_unit

__all__ = [
    "LAYOUTS",
    "Defect",
    "Field",
    "Frame",
    "Imaging",
    "Layout",
    "Plane",
    "Plate",
    "Selection",
    "Unit",
    "Well",
    "defects_of",
    "failures_csv",
    "find_channels",
    "open_plate",
    "open_unit",
    "read_failures",
    "select",
]
