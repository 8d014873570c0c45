"""A picture as wide as there is room for, in its own proportions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QRect
from qtpy.QtGui import QImage, QPainter
from qtpy.QtWidgets import QSizePolicy, QWidget


class PictureView(QWidget):  # type: ignore[misc]
    """Shows pixels; nothing, and in no room, before it has some.

    Args:
        name: what it is called for those who cannot see it.
        largest: times that a pixel is enlarged at most.
    """

    def __init__(self, name: str, largest: int = 2) -> None:
        super().__init__()
        self.image = QImage()
        self._largest = largest
        self.setAccessibleName(name)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)

    def show_pixels(self, pixels: NDArray[np.uint8] | None) -> None:
        """Show an image, Y X or Y X 3, or none."""
        self.image = QImage()
        if pixels is not None:
            form = QImage.Format.Format_RGB888 if pixels.ndim == 3 else QImage.Format.Format_Grayscale8
            data, (height, width) = np.ascontiguousarray(pixels), pixels.shape[:2]
            self.image = QImage(data.tobytes(), width, height, data.strides[0], form).copy()
        self.setVisible(pixels is not None)
        self._fit()
        self.update()

    def resizeEvent(self, event: Any) -> None:
        """Keep the proportions."""
        super().resizeEvent(event)
        self._fit()

    def paintEvent(self, _event: Any) -> None:
        """Draw."""
        if self.image.isNull():
            return
        width = self._shown_width()
        shown = QRect((self.width() - width) // 2, 0, width, self.height())
        painter = QPainter(self)
        # Enlarged pixels stay pixels; a reduced picture is averaged.
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, width < self.image.width())
        painter.drawImage(shown, self.image)
        painter.end()

    def _fit(self) -> None:
        """Take the height that goes with the width; a scroll area asks nobody for a height that depends on it."""
        if not self.image.isNull():
            self.setFixedHeight(self.image.height() * self._shown_width() // self.image.width())

    def _shown_width(self) -> int:
        return min(int(self.width()), self._largest * int(self.image.width()))
