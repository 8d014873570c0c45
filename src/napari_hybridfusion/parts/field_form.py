"""Forms whose fields can each have a message under them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from weakref import ref

from magicgui.widgets import CheckBox, Container, Label, PushButton
from napari.utils.notifications import notification_manager, show_error
from qtpy.QtCore import QEvent, QObject, QSize, Qt
from qtpy.QtWidgets import QComboBox, QFrame, QScrollArea, QSizePolicy, QWidget

from hybridfusion_core.errors import HybridFusionError
from napari_hybridfusion.job.task import FieldError, in_this_window
from napari_hybridfusion.parts.ink import inks
from napari_hybridfusion.parts.settings import recalled, remember

_LETTERS = 12  # of a choice that are seen at least


class FieldForm(Container):  # type: ignore[misc]
    """Fields with their labels, and room for a message under each."""

    def __init__(self) -> None:
        super().__init__(labels=True)
        self.margins = (0, 0, 0, 0)  # what stands around it has some
        self._messages: dict[str, Label] = {}
        self._folds: list[tuple[CheckBox, Container]] = []
        self._name = ""
        self._lasting: dict[str, Any] = {}
        self._defaults: dict[str, Any] = {}
        self.native.installEventFilter(_LinesUp(self))

    def line_up(self) -> None:
        """Let all fields begin at one place; magicgui has measured their labels in a font that is not the window's."""
        parts = [self, *(inside for _, inside in self._folds)]
        labels = [lines._label_widget for part in parts for each in part if (lines := each._labeled_widget())]
        width = max((each.native.sizeHint().width() for each in labels), default=0)
        for each in labels:
            each.min_width = width

    def say(self, error: FieldError | None, *, hint: bool = False) -> None:
        """Show a message under the field that it is about, unfolded, and none under all others.

        Args:
            error: what to say.
            hint: nobody has asked for anything yet: what is missing is said, but nothing is wrong.
        """
        for field, label in self._messages.items():
            wrong = error is not None and error.field == field
            label.native.setStyleSheet(f"color: {inks().plain if hint else inks().error}" if wrong else "")
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
            show_error(in_this_window(str(error)))
        else:
            notification_manager.receive_error(type(error), error, error.__traceback__)

    def remember(self) -> None:
        """Let the next form of this kind begin with what is chosen now, as far as it is no matter of one stack."""
        remember(self._name, {name: field.value for name, field in self._lasting.items()})

    def restore(self) -> None:
        """Choose what was chosen when the form was new to this computer."""
        self._choose(self._defaults)

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields that can have a message."""
        return tuple(self._messages)

    def message(self, field: str) -> str:
        """Return what is said about a field."""
        return str(self._messages[field].value)

    def _add(self, into: Any = None, **fields: Any) -> None:
        for name, widget in fields.items():
            if isinstance(widget.native, QComboBox):  # a long name of a layer would make the window as wide as itself
                widget.native.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
                widget.native.setMinimumContentsLength(_LETTERS)
            target = self if into is None else into
            target.append(widget)
            self._messages[name] = text_label("")
            target.append(self._messages[name])
            self._messages[name].visible = False

    def _last(self, name: str, into: Container, **fields: Any) -> None:
        """Begin with what fields were when a job was last started, and add a button that restores their defaults.

        Args:
            name: of the form.
            into: gets the button.
            **fields: that do not depend on a stack; by the names that they are written down under.
        """
        self._name, self._lasting = name, fields
        self._defaults = {each: field.value for each, field in fields.items()}
        self._choose(recalled(name))
        button = PushButton(text="Restore defaults", tooltip="Choose what a new user finds; stacks and files stay.")
        button.changed.connect(self.restore)
        into.append(button)

    def _choose(self, values: Mapping[str, Any]) -> None:
        for name, field in self._lasting.items():
            value, usual = values.get(name), self._defaults[name]
            if isinstance(value, type(usual)) or (isinstance(value, int) and isinstance(usual, float)):
                with suppress(ValueError, TypeError):  # a model or a device that is gone
                    field.value = value

    def _folded(self, box: CheckBox) -> Container:
        """Add a box that shows and hides a part of the form, hidden at first, and return that part."""
        inside = Container(labels=True)
        inside.margins = (0, 0, 0, 0)
        self.append(box)
        self._labels = False  # a label without words would move all of it to the right
        self.append(inside)
        self._labels = True
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


class _LinesUp(QObject):  # type: ignore[misc]
    """Lines up a form whenever its font may have become another."""

    def __init__(self, form: FieldForm) -> None:
        super().__init__(form.native)
        self._form = ref(form)

    def eventFilter(self, _watched: QObject, event: QEvent) -> bool:
        """Heed that it is shown, or has another style."""
        form = self._form()
        if form is not None and event.type() in (QEvent.Type.Show, QEvent.Type.StyleChange, QEvent.Type.FontChange):
            form.line_up()
        return False


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
