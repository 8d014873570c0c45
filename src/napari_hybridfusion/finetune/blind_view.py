"""A blind comparison: two crops of the same place at a time, for a person to choose the better one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_hybridfusion.parts.picture import PictureView

if TYPE_CHECKING:
    from hybridfusion_core.train.finetune.blind import Answer, BlindCrop

_ANSWERS: dict[Answer, tuple[str, str]] = {
    "left": ("Left", "The left one shows the specimen better."),
    "same": ("Same", "Neither is better. This counts for neither."),
    "right": ("Right", "The right one shows the specimen better."),
}
_KEYS: dict[Answer, str] = {"left": "1", "same": "2", "right": "3"}


class BlindView(QWidget):  # type: ignore[misc]
    """Shows pairs one after the other and collects the answers; which model made which is shown nowhere.

    Args:
        done: is told the answers, one for each crop, when all are given.

    Attributes:
        answers: so far.
        buttons: by answer.
    """

    def __init__(self, done: Callable[[Sequence[BlindCrop], Sequence[Answer]], None]) -> None:
        super().__init__()
        self._done = done
        self._crops: Sequence[BlindCrop] = ()
        self.answers: list[Answer] = []
        self.question = QLabel()
        self.question.setWordWrap(True)
        self.left, self.right = PictureView("Left", largest=3), PictureView("Right", largest=3)
        self.buttons = {answer: QPushButton(f"{text} ({_KEYS[answer]})") for answer, (text, _) in _ANSWERS.items()}
        pictures, row = QHBoxLayout(), QHBoxLayout()
        pictures.addWidget(self.left)
        pictures.addWidget(self.right)
        for answer, button in self.buttons.items():
            button.setToolTip(_ANSWERS[answer][1])
            button.clicked.connect(lambda _=False, answer=answer: self._take(answer))
            button.setShortcut(_KEYS[answer])
            row.addWidget(button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.question)
        layout.addLayout(pictures)
        layout.addLayout(row)
        self.stop()

    def ask(self, crops: Sequence[BlindCrop]) -> None:
        """Begin with the first pair."""
        self._crops, self.answers = crops, []
        self._show_next()
        self.setVisible(True)

    def stop(self) -> None:
        """Ask no more, and forget what was answered."""
        self._crops, self.answers = (), []
        self.setVisible(False)

    def _take(self, answer: Answer) -> None:
        self.answers.append(answer)
        if len(self.answers) < len(self._crops):
            self._show_next()
            return
        crops, answers = self._crops, self.answers
        self.stop()
        self._done(crops, answers)

    def _show_next(self) -> None:
        crop = self._crops[len(self.answers)]
        self.left.show_pixels(crop.left)
        self.right.show_pixels(crop.right)
        self.question.setText(f"{len(self.answers) + 1} of {len(self._crops)}: which one shows the specimen better?")
