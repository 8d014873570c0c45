"""Boxes for what is wanted besides the fused image; the same in every form."""

from __future__ import annotations

from magicgui.widgets import CheckBox, Container

from hybridfusion_core.fusion.products import PRODUCTS

_TIP = "What is made besides the fused image; each explains or measures it."


class ProductBoxes:
    """A box for each product, two in a row.

    Attributes:
        boxes: by the name of the product.
        shown: what holds them.
    """

    def __init__(self, label: str) -> None:
        self.boxes = {
            name: CheckBox(text=product.title, value=product.default, tooltip=product.tip)
            for name, product in PRODUCTS.items()
            if product.kind != "image"
        }
        boxes = list(self.boxes.values())
        pairs = (boxes[at : at + 2] for at in range(0, len(boxes), 2))
        rows = [Container(widgets=pair, layout="horizontal", labels=False) for pair in pairs]
        self.shown = Container(widgets=rows, labels=False, label=label, tooltip=_TIP)
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
