"""How a result was made, for people: what its provenance says, and a sentence for their Methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QDialog, QHBoxLayout, QPlainTextEdit, QPushButton, QVBoxLayout, QWidget

from hybridfusion_core.errors import printable
from hybridfusion_core.fusion.methods import METHODS

_SIZE = (640, 520)  # px
_WORDS = {"soft": "averages of slices that agree", "hard": "copies from single slices"}


def methods_sentence(provenance: Mapping[str, Any]) -> str:
    """Return a sentence on how a result was made, as a paper's Methods would have it."""
    settings = provenance.get("settings") or {}
    method = str(settings.get("method") or "network")
    models = [f"{each.get('name')} (sha256 {str(each.get('sha256'))[:12]})" for each in _models(provenance)]
    by = f"the model {' and '.join(models)}" if models else METHODS[method].title if method in METHODS else method
    slices = settings.get("z")
    count = len(slices) if isinstance(slices, Sequence) and not isinstance(slices, str) else provenance.get("slices")
    pixels = f", with pixels that are {_WORDS[settings['select']]}" if settings.get("select") in _WORDS else ""
    corrected = " Decisions were corrected by hand in places." if "corrections" in provenance else ""
    said = f"Focal stacks of {count} slices were fused by {by}{pixels} ({provenance.get('software')})."
    return printable(said + corrected)


def about_text(provenance: Mapping[str, Any]) -> str:
    """Return all that is known of how a result was made, a line each."""
    lines = [("made by", provenance.get("software")), ("algorithm", provenance.get("algorithm_version"))]
    for model in _models(provenance):
        lines += [("model", model.get("name")), ("sha256", model.get("sha256"))]
    for each in provenance.get("input") or []:
        lines.append(("input", ", ".join(f"{name} {value}" for name, value in dict(each).items())))
    lines += [(name.replace("_", " "), value) for name, value in (provenance.get("settings") or {}).items()]
    lines += [("run by", provenance.get("runtime")), *(("warning", each) for each in provenance.get("warnings") or [])]
    lines += [("corrections", provenance[name]) for name in ("corrections",) if name in provenance]
    said = [f"{name}: {_plain(value)}" for name, value in lines if value is not None]
    return "\n".join(map(printable, ["For your Methods:", methods_sentence(provenance), "", "In full:", *said]))


class AboutResult(QDialog):  # type: ignore[misc]
    """Shows how a result was made, to be read and copied.

    Args:
        parent: the window that it belongs to.
        name: of the result.
        provenance: as the result's layers have it.
    """

    def __init__(self, parent: QWidget, name: str, provenance: Mapping[str, Any]) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle(f"About {printable(name)}")
        self.text = QPlainTextEdit(about_text(provenance))
        self.text.setReadOnly(True)
        self.copy, close = QPushButton("Copy"), QPushButton("Close")
        self.copy.clicked.connect(lambda: QApplication.clipboard().setText(self.text.toPlainText()))
        close.clicked.connect(self.close)
        row, layout = QHBoxLayout(), QVBoxLayout(self)
        row.addWidget(self.copy)
        row.addWidget(close)
        layout.addWidget(self.text)
        layout.addLayout(row)
        self.resize(*_SIZE)


def _models(provenance: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    known = provenance.get("model")
    return [each for each in (known if isinstance(known, list) else [known]) if isinstance(each, Mapping)]


def _plain(value: Any) -> str:
    if isinstance(value, list) and value and all(isinstance(each, int) for each in value):
        run = value == list(range(value[0], value[-1] + 1))
        return f"{value[0]} to {value[-1]}" if run and len(value) > 2 else ", ".join(map(str, value))
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
