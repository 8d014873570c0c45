"""A plate drawn as a plate: one cell for each well, filled as far as its fields have come."""

from __future__ import annotations

from html import escape
from typing import Any

from qtpy.QtCore import QEvent, QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QFontMetricsF, QPainter, QPen
from qtpy.QtWidgets import QSizePolicy, QStyle, QToolTip, QWidget

from hybridfusion_core.plates.well_names import row_letters
from napari_hybridfusion.plate.states import LEFT, STATUSES, PlateStates, Status, WellState

# Fused, failed and waiting as in the report.
COLORS: dict[Status, str] = {
    "failed": "#c0392b",
    "flagged": "#e0a030",
    "fused": "#4c9a5f",
    "running": "#3f7fbf",
    "waiting": "#c8c8c8",
    "left": "#808080",
}
LEGEND: dict[Status, str] = {
    "left": LEFT,
    "waiting": "waiting",
    "running": "running",
    "fused": "fused",
    "flagged": "flagged",
    "failed": "failed",
}
_LARGEST_CELL, _SMALLEST_CELL = 40.0, 4.0  # px
_CROSSED_FROM = 7.0  # px: a failure shows by its shape too
_LARGEST_PLATE = (48, 72)  # of others only the rows and columns with images are drawn
_MARGIN = 4.0


class PlateMap(QWidget):  # type: ignore[misc]
    """Shows `PlateStates`, and says which well was clicked.

    Attributes:
        clicked: emitted with the name of a well, and whether Ctrl was held.
    """

    clicked = Signal(str, bool)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._states: PlateStates | None = None
        self._fitted = 0  # width in pixels that the height was last made for
        self._rows: list[int] = []
        self._columns: list[int] = []
        self._names: dict[tuple[int, int], str] = {}
        self._hovered: str | None = None
        self.opened: str | None = None
        self.setMouseTracking(True)
        self.setAccessibleName("Plate map")
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._fit()

    def show_states(self, states: PlateStates | None) -> None:
        """Show a plate, or nothing."""
        self._states, self._hovered = states, None
        self._names = {} if states is None else {(each.row, each.column): each.name for each in states.wells()}
        self.opened = self.opened if self.opened in self._names.values() else None
        plate = None if states is None else states.plate
        if plate is None:
            self._rows, self._columns = [], []
        elif plate.rows > _LARGEST_PLATE[0] or plate.columns > _LARGEST_PLATE[1]:
            self._rows, self._columns = (sorted({place[axis] for place in self._names}) for axis in (0, 1))
        else:
            self._rows, self._columns = list(range(plate.rows)), list(range(plate.columns))
        self._fit()
        self.update()

    def cell(self, well: str) -> QRectF:
        """Return where a well is drawn."""
        place = next(place for place, name in self._names.items() if name == well)
        return self._rect(self._rows.index(place[0]), self._columns.index(place[1]))

    def well_at(self, point: QPointF) -> str | None:
        """Return the name of the well at a point, if it has images."""
        left, top, side = self._grid()
        column, row = int((point.x() - left) // side), int((point.y() - top) // side)
        if not (0 <= row < len(self._rows) and 0 <= column < len(self._columns)):
            return None
        return self._names.get((self._rows[row], self._columns[column]))

    def sizeHint(self) -> QSize:
        """Return the wish of a dock of usual width."""
        return QSize(360, self.minimumHeight())

    def paintEvent(self, _event: Any) -> None:
        """Draw the map."""
        if self._states is None:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, self._grid()[2] > _CROSSED_FROM)
        text = self.palette().color(self.foregroundRole())
        self._draw_names(painter, text)
        faint = QColor(text)
        faint.setAlphaF(0.25)
        for row, row_index in enumerate(self._rows):
            for column, column_index in enumerate(self._columns):
                rect = self._rect(row, column)
                name = self._names.get((row_index, column_index))
                if name is None:
                    side = max(rect.width() / 6, 1.0)
                    painter.fillRect(
                        QRectF(rect.center().x() - side / 2, rect.center().y() - side / 2, side, side), faint
                    )
                else:
                    self._draw_well(painter, rect, self._states.well(name), text)
        painter.end()

    def resizeEvent(self, _event: Any) -> None:
        """Keep cells square; but a scroll bar that comes beside a taller map would go beside a lower one, and so on."""
        bar = self.style().pixelMetric(QStyle.PixelMetric.PM_ScrollBarExtent)
        if abs(self.width() - self._fitted) > 2 * bar:
            self._fit()

    def mouseMoveEvent(self, event: Any) -> None:
        """Mark the well under the pointer."""
        self._hover(self.well_at(event.position() if hasattr(event, "position") else event.localPos()))

    def leaveEvent(self, _event: Any) -> None:
        """Mark no well."""
        self._hover(None)

    def mouseReleaseEvent(self, event: Any) -> None:
        """Say which well was clicked."""
        well = self.well_at(event.position() if hasattr(event, "position") else event.localPos())
        if well is not None and event.button() == Qt.MouseButton.LeftButton:
            self.clicked.emit(well, bool(event.modifiers() & Qt.KeyboardModifier.ControlModifier))

    def event(self, event: Any) -> bool:
        """Explain the well under the pointer."""
        if event.type() != QEvent.Type.ToolTip:
            return bool(super().event(event))
        well = self.well_at(QPointF(event.pos()))
        if well is None or self._states is None:
            QToolTip.hideText()
        else:
            # Names and reasons come from untrusted files.
            lines = escape(self._states.well(well).describe()).replace("\n", "<br>")
            QToolTip.showText(event.globalPos(), f"<qt>{lines}</qt>", self)
        return True

    def _fit(self) -> None:
        self._fitted = self.width()
        _, top, side = self._grid_of_width()
        height = round(top + side * len(self._rows) + _MARGIN) if self._rows else 0
        if self.minimumHeight() != height or self.maximumHeight() != height:
            self.setFixedHeight(height)

    def _grid(self) -> tuple[float, float, float]:
        """Return the left and upper border of the cells, and their side, for which there is room."""
        left, top, side = self._grid_of_width()
        return left, top, min(side, max((self.height() + 0.5 - top - _MARGIN) / max(len(self._rows), 1), 1.0))

    def _grid_of_width(self) -> tuple[float, float, float]:
        metrics = QFontMetricsF(self.font())
        left = _MARGIN + metrics.horizontalAdvance("AA")
        room = self.width() - left - _MARGIN
        side = min(max(room / max(len(self._columns), 1), _SMALLEST_CELL), _LARGEST_CELL)
        return left, _MARGIN + metrics.height(), side

    def _rect(self, row: int, column: int) -> QRectF:
        left, top, side = self._grid()
        gap = min(side / 10, 1.5)
        return QRectF(left + column * side + gap, top + row * side + gap, side - 2 * gap, side - 2 * gap)

    def _draw_names(self, painter: QPainter, color: QColor) -> None:
        left, top, side = self._grid()
        metrics = QFontMetricsF(self.font())
        painter.setPen(color)
        # As many as there is room for.
        every = _step(metrics.horizontalAdvance("00") + 3, side)
        for column in range(0, len(self._columns), every):
            box = QRectF(left + column * side, _MARGIN / 2, side, metrics.height())
            _draw_text(painter, box, str(self._columns[column] + 1))
        every = _step(metrics.height(), side)
        for row in range(0, len(self._rows), every):
            _draw_text(painter, QRectF(0, top + row * side, left, side), row_letters(self._rows[row]))

    def _draw_well(self, painter: QPainter, rect: QRectF, well: WellState, text: QColor) -> None:
        total = sum(well.counts.values())
        bottom = rect.bottom()
        for status in STATUSES:
            height = rect.height() * well.counts.get(status, 0) / total
            if status != "left":
                painter.fillRect(QRectF(rect.left(), bottom - height, rect.width(), height), QColor(COLORS[status]))
            bottom -= height
        marked = well.name in (self._hovered, self.opened)
        painter.setPen(QPen(text if marked else QColor(COLORS["left"]), 2.0 if well.name == self.opened else 1.0))
        if marked or well.counts.get("left") == total:
            painter.drawRect(rect)
        if well.counts.get("failed") and rect.width() >= _CROSSED_FROM:
            painter.setPen(QPen(QColor("white"), max(rect.width() / 12, 1.0)))
            inner = rect.adjusted(*(rect.width() * part for part in (0.3, 0.3, -0.3, -0.3)))
            painter.drawLine(inner.topLeft(), inner.bottomRight())
            painter.drawLine(inner.topRight(), inner.bottomLeft())

    def _hover(self, well: str | None) -> None:
        if well != self._hovered:
            self._hovered = well
            self.setCursor(Qt.CursorShape.ArrowCursor if well is None else Qt.CursorShape.PointingHandCursor)
            self.update()


def legend_text() -> str:
    """Return the legend as rich text."""
    signs = {status: "□" if status == "left" else "■" for status in LEGEND}
    names = {status: name.replace(" ", "&nbsp;") for status, name in LEGEND.items()}
    return " &nbsp;".join(
        f'<span style="color: {COLORS[each]}">{signs[each]}</span>&nbsp;{names[each]}' for each in LEGEND
    )


def _step(needed: float, side: float) -> int:
    return next(step for step in (1, 2, 4, 5, 10, 20, 50, 1000) if step * side >= needed)


def _draw_text(painter: QPainter, box: QRectF, text: str) -> None:
    """Write in the middle of a box, also over its borders."""
    painter.drawText(box.adjusted(-20, -20, 20, 20), int(Qt.AlignmentFlag.AlignCenter), text)
