"""Boxes for what is wanted besides the fused image; the same in every form."""

from __future__ import annotations

from magicgui.widgets import CheckBox, Container

_TEXTS = {
    "decision": ("decision", "The slice that each pixel mostly comes from."),
    "height": ("height", "Where along Z the sharp surface lies."),
    "confidence": ("confidence", "How sure the network is, to within one slice; from 0 to 1."),
    "noise_gain": ("noise gain", "Noise of the fused image over that of one slice."),
}
USUAL = ("decision", "height", "confidence")


class ProductBoxes:
    """A box for each product, two in a row.

    Attributes:
        boxes: by the name of the product.
        shown: what holds them.
    """

    def __init__(self, label: str) -> None:
        self.boxes = {
            name: CheckBox(text=text, value=name in USUAL, tooltip=tip) for name, (text, tip) in _TEXTS.items()
        }
        boxes = list(self.boxes.values())
        rows = [Container(widgets=pair, layout="horizontal", labels=False) for pair in (boxes[:2], boxes[2:])]
        self.shown = Container(widgets=rows, labels=False, label=label)
        for each in (*rows, self.shown):
            each.margins = (0, 0, 0, 0)

    @property
    def wanted(self) -> tuple[str, ...]:
        """Names of the products that are ticked."""
        return tuple(name for name, box in self.boxes.items() if box.value)

    def enable(self, enabled: bool) -> None:
        """Let them be ticked, or not: a projection has none of them."""
        for box in self.boxes.values():
            box.enabled = enabled
