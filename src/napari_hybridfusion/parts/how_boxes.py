"""Fields about how to fuse that the forms of a stack, of a plate and of a fine-tuning share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from magicgui.widgets import ComboBox, FloatSpinBox

from hybridfusion_core.fusion.methods import METHODS
from hybridfusion_core.model.devices import available

FOCUS: list[tuple[str, Any]] = [
    ("auto: all fluorescence together", "auto"),
    ("each for itself", "each"),
    ("all together", "joint"),
]


def pixels_box() -> ComboBox:
    """Return the choice between averages and copies."""
    return ComboBox(
        label="pixels",
        choices=[("average where slices agree", "soft"), ("copy from one slice", "hard")],
        tooltip="Average (soft): slices that agree are averaged, which lowers noise.\n"
        "Copy (hard): each pixel is one that was measured, bit for bit; choose it to measure noise.",
    )


def method_box() -> ComboBox:
    """Return the choice between the network and classical methods."""
    return ComboBox(
        label="method",
        choices=[(method.title, name) for name, method in METHODS.items()],
        tooltip="The network, or a classical method to compare it with.",
    )


def focus_box(choices: Callable[[Any], list[tuple[str, Any]]]) -> ComboBox:
    """Return the choice of who decides; `choices` gives it the channels too."""
    return ComboBox(
        label="focus from",
        choices=choices,
        tooltip="The channel that decides which slice is in focus.\n"
        "With one decision for all channels, what lies at one height stays together.",
    )


def device_box(what: str) -> ComboBox:
    """Return the choice of a device of this machine.

    Args:
        what: happens there.
    """
    devices = [(each.title, each.name) for each in available()]
    return ComboBox(label="device", choices=devices, tooltip=f"The processor that {what}. auto: the fastest one.")


def length_box(label: str, *, step: float, most: float = 1e4, decimals: int = 3, tooltip: str) -> FloatSpinBox:
    """Return a field for a length; its 0 means that the files or layers say it."""
    box = FloatSpinBox(label=label, min=0, max=most, step=step, tooltip=tooltip)
    box.native.setDecimals(decimals)
    return box
