"""Advanced choices about a fusion; the same in every form."""

from __future__ import annotations

from typing import Any

from magicgui.widgets import ComboBox, LineEdit, SpinBox
from magicgui.widgets.bases import ValueWidget


class RequestBoxes:
    """Which slices, which camera, and what of the machine.

    Attributes:
        fields: by the name of the field of `FuseRequest`.
    """

    def __init__(self, *, threads: str) -> None:
        """Make the fields.

        Args:
            threads: how many are used when none are chosen.
        """
        self.fields: dict[str, ValueWidget] = {
            "z": LineEdit(
                label="slices",
                tooltip="Counted as the slider counts, from 0: 2:20 without the 20 itself, or 0:40:2 for every 2nd.\n"
                "Empty: all.",
            ),
            "align": ComboBox(
                label="align",
                choices=[
                    ("leave slices where they are", "none"),
                    ("shift", "shift"),
                    ("shift, scale, angle", "similarity"),
                ],
                tooltip="Take back how slices drift sideways, where that makes them agree better.\n"
                "Measured on the channel that decides, applied to all channels.",
            ),
            "align_from": LineEdit(
                label="transforms",
                tooltip="Path of an X.transforms.json of an earlier fusion, to align as it did. Empty: measured.",
            ),
            "flat_field": LineEdit(
                label="flat field",
                tooltip="Path of a picture of how evenly the field is lit; for a plate also auto. Empty: none.",
            ),
            "dark": LineEdit(
                label="dark frame",
                tooltip="Path of a picture of what the camera counts in the dark; for a plate also auto. Empty: none.",
            ),
            "camera": LineEdit(
                label="camera",
                tooltip="Its noise, if you know it: counts per electron, offset and read noise in counts,\n"
                "such as 0.46,100,1.6. Empty: estimated from the stack.",
            ),
            "nan": ComboBox(
                label="NaN pixels",
                choices=[("refuse the stack", "refuse"), ("leave such pixels out", "ignore")],
                tooltip="What to do about NaN and infinite pixels, as stitching leaves them.",
            ),
            "precision": ComboBox(
                label="precision",
                choices=[("float32", "auto"), ("bfloat16", "bfloat16")],
                tooltip="bfloat16 is less exact, and faster on some devices.",
            ),
            "tile": SpinBox(
                label="tile (px)",
                min=0,
                max=8192,
                step=64,
                tooltip="Side of the square that is computed at a time. 0: as large as the memory allows.",
            ),
            "memory": SpinBox(
                label="memory (MiB)",
                min=0,
                max=2**21,
                step=256,
                tooltip="How much may be used at most. 0: as much as is sensible of what is free.",
            ),
            "threads": SpinBox(
                label="threads", min=0, max=256, tooltip=f"Of the processor, that compute. 0: {threads}."
            ),
        }

    def options(self) -> dict[str, Any]:
        """Return what was chosen, for `napari_hybridfusion.job.task.checked_request`."""
        found: dict[str, Any] = {
            name: (field.value.strip() if isinstance(field.value, str) else field.value) or None
            for name, field in self.fields.items()
        }
        return found | {"memory": found["memory"] and found["memory"] * 2**20}
