"""The documentation of the window, which the package brings along: a form links to its chapter."""

from __future__ import annotations

import re
from html import escape
from importlib.resources import files

from qtpy.QtCore import QEvent, Qt
from qtpy.QtWidgets import QDialog, QLabel, QTextBrowser, QVBoxLayout

from napari_hybridfusion.parts.ink import inks

_SIZE = (720, 640)  # px


def help_link(chapter: str) -> QLabel:
    """Return a line with a link that opens a chapter of the documentation in a window of its own.

    Args:
        chapter: its heading, without the number.
    """
    link = _Link(chapter)
    link.setAlignment(Qt.AlignmentFlag.AlignRight)
    link.setTextInteractionFlags(Qt.TextInteractionFlag.LinksAccessibleByMouse)
    link.setAccessibleName(f"Help: {chapter}")
    link.linkActivated.connect(lambda _: show_text(link, "HybridFusion", chapter_text(chapter)))
    return link


class _Link(QLabel):  # type: ignore[misc]
    """A link that can be read on the theme, also after the theme was changed."""

    def __init__(self, chapter: str) -> None:
        super().__init__()
        self._chapter = chapter
        self.setTextFormat(Qt.TextFormat.RichText)
        self._draw()

    def changeEvent(self, event: QEvent) -> None:
        """Take the theme's colour; Qt's own are those of the system."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.StyleChange:
            self._draw()

    def _draw(self) -> None:
        self.setText(f'<a href="#" style="color: {inks().plain}">Help: {escape(self._chapter)}</a>')


def chapter_text(chapter: str) -> str:
    """Return a chapter of the documentation and those that follow it, as Markdown without pictures."""
    whole = files("napari_hybridfusion").joinpath("help.md").read_text(encoding="utf-8")
    found = re.search(rf"^## [\d. ]*{re.escape(chapter)}$", whole, re.MULTILINE)
    text = whole[found.start() :] if found else whole
    text = re.sub(r"^!\[.*?\]\(.*?\)\n", "", text, flags=re.MULTILINE)
    return re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text)  # what they lead to is not here


def show_text(beside: QLabel, title: str, markdown: str) -> QDialog:
    """Show a text in a window of its own, which goes with the one that it belongs to."""
    window = QDialog(beside.window())
    window.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    window.setWindowTitle(title)
    text = QTextBrowser()
    text.setMarkdown(markdown)
    layout = QVBoxLayout(window)
    layout.addWidget(text)
    window.resize(*_SIZE)
    window.show()
    return window
