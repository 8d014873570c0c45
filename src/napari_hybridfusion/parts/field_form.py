"""Forms whose fields can each have a message under them."""

from __future__ import annotations

from typing import Any

from magicgui.widgets import CheckBox, Container, Label
from napari.utils.notifications import notification_manager, show_error
from qtpy.QtCore import QEvent, QObject, QSize, Qt
from qtpy.QtWidgets import QFrame, QScrollArea, QSizePolicy, QWidget

from hybridfusion_core.errors import HybridFusionError
from napari_hybridfusion.job.task import FieldError
from napari_hybridfusion.parts.ink import inks


class FieldForm(Container):  # type: ignore[misc]
    """Fields with their labels, and room for a message under each."""

    def __init__(self) -> None:
        super().__init__(labels=True)
        self._messages: dict[str, Label] = {}
        self._folds: list[tuple[CheckBox, Container]] = []

    def say(self, error: FieldError | None) -> None:
        """Show a message under the field that it is about, unfolded, and none under all others."""
        for field, label in self._messages.items():
            wrong = error is not None and error.field == field
            label.native.setStyleSheet(f"color: {inks().error}" if wrong else "")
            label.value = str(error) if wrong else ""
            label.visible = wrong
            for box, inside in self._folds:
                if wrong and any(label is each for each in inside):
                    box.value = True

    def explain(self, error: Exception) -> None:
        """Show any error where people look for it: beside its field, or as a notification."""
        if isinstance(error, FieldError):
            self.say(error)
        elif isinstance(error, HybridFusionError):
            show_error(str(error))
        else:
            notification_manager.receive_error(type(error), error, error.__traceback__)

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields that can have a message."""
        return tuple(self._messages)

    def message(self, field: str) -> str:
        """Return what is said about a field."""
        return str(self._messages[field].value)

    def _add(self, into: Any = None, **fields: Any) -> None:
        for name, widget in fields.items():
            target = self if into is None else into
            target.append(widget)
            self._messages[name] = text_label("")
            target.append(self._messages[name])
            self._messages[name].visible = False

    def _folded(self, box: CheckBox) -> Container:
        """Add a box that shows and hides a part of the form, hidden at first, and return that part."""
        inside = Container(labels=True)
        inside.margins = (0, 0, 0, 0)
        self.append(box)
        self.append(inside)
        inside.visible = False
        box.changed.connect(lambda: setattr(inside, "visible", box.value))
        self._folds.append((box, inside))
        return inside


def text_label(text: str) -> Label:
    """Return a label that shows a text as it is, in as many lines as it takes."""
    label = Label(value=text)
    # magicgui's own would keep a long text narrow, however wide the form is.
    label.native.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
    label.native.setWordWrap(True)
    label.native.setTextFormat(Qt.TextFormat.PlainText)
    return label


class _Upright(QScrollArea):  # type: ignore[misc]
    """Scrolls up and down only, and is never narrower than what it shows: Qt's own would cut off its right side."""

    def minimumSizeHint(self) -> QSize:
        """Return the width of the widget inside, and of the bar beside it."""
        hint = super().minimumSizeHint()
        bar = self.verticalScrollBar()
        # A style may make it wider than it hints at.
        beside = self.width() - self.viewport().width() if bar.isVisible() else bar.sizeHint().width()
        return QSize(max(hint.width(), self.widget().minimumSizeHint().width() + beside), hint.height())

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Heed that the widget inside was unfolded; Qt lets a scroll area watch it."""
        if event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return bool(super().eventFilter(watched, event))


def scroll_area(inside: QWidget) -> QScrollArea:
    """Return what scrolls a widget up and down. In magicgui's own no widget ever hears that the dock is closed."""
    scroll = _Upright()
    scroll.setWidget(inside)
    scroll.setWidgetResizable(True)
    scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    scroll.setFrameShape(QFrame.Shape.NoFrame)
    return scroll
