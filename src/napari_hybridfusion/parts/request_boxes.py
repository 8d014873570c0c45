"""Advanced choices about a fusion; the same in every form."""

from __future__ import annotations

from typing import Any

from magicgui.widgets import ComboBox, FloatSpinBox, LineEdit, SpinBox
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
            "match_light": ComboBox(
                label="slices' light",
                choices=[("leave pixels as they are", False), ("match where slices flicker", True)],
                tooltip="Make slices that bleach or flicker as bright as the others. The decision is made so anyway.",
            ),
            "surface_from": ComboBox(
                label="surface",
                choices=[
                    ("each place for itself", "none"),
                    ("one smooth surface", "posterior"),
                    ("the top one of several", "top"),
                    ("the bottom one of several", "bottom"),
                    ("the brightest one of several", "brightest"),
                ],
                tooltip="Fuse along one smooth surface, which is found through the whole field first.\n"
                "Where something is in focus at several heights, one of them can be preferred.",
            ),
            "smooth": FloatSpinBox(
                label="smoothness",
                value=1.0,
                min=0,
                max=1e6,
                step=0.5,
                tooltip="How smooth that surface is: 1 is usual, 0 follows every 4 × 4 pixels.",
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
                tooltip="What to do about NaN or infinite pixels, as stitching leaves them.",
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

        self.fields["surface_from"].changed.connect(self._on_surface)
        self._on_surface()

    def options(self) -> dict[str, Any]:
        """Return what was chosen, for `napari_hybridfusion.job.task.checked_request`."""
        found: dict[str, Any] = {
            name: (field.value.strip() if isinstance(field.value, str) else field.value) or None
            for name, field in self.fields.items()
        }
        found |= {"match_light": bool(found["match_light"])}
        return found | self._surface() | {"memory": found["memory"] and found["memory"] * 2**20}

    def _surface(self) -> dict[str, Any]:
        """Return which surface is looked for, as `FuseRequest` says it."""
        wanted = self.fields["surface_from"].value
        if wanted == "none":
            return {"surface_from": "none", "smooth": 1.0}
        prefer = "none" if wanted == "posterior" else wanted
        return {"surface_from": "posterior", "prefer": prefer, "smooth": self.fields["smooth"].value}

    def _on_surface(self) -> None:
        self.fields["smooth"].enabled = self.fields["surface_from"].value != "none"
