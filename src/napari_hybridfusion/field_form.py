"""Forms whose fields can each have a message under them."""

from __future__ import annotations

from typing import Any

from magicgui.widgets import Container, Label
from qtpy.QtCore import Qt

from napari_hybridfusion.prepare import FieldError

_ERROR = "color: #e8604c"  # readable on napari's dark and light themes


class FieldForm(Container):  # type: ignore[misc]
    """Fields with their labels, and room for a message under each."""

    def __init__(self) -> None:
        super().__init__(labels=True)
        self._messages: dict[str, Label] = {}

    def say(self, error: FieldError | None) -> None:
        """Show a message under the field that it is about, and none under all others."""
        for field, label in self._messages.items():
            wrong = error is not None and error.field == field
            label.value = str(error) if wrong else ""
            label.visible = wrong

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
            self._messages[name] = text_label("", _ERROR)
            target.append(self._messages[name])
            self._messages[name].visible = False


def text_label(text: str, style: str = "") -> Label:
    """Return a label that shows a text as it is, in as many lines as it takes."""
    label = Label(value=text)
    label.native.setWordWrap(True)
    label.native.setTextFormat(Qt.TextFormat.PlainText)
    label.native.setStyleSheet(style)
    return label
