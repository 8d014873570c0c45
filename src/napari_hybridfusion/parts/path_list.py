"""A list of files and folders that people add to, one kind after the other: no dialog of Qt offers both at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from magicgui.widgets import Container, PushButton
from qtpy.QtWidgets import QAbstractItemView, QFileDialog, QListWidget

_ROWS = 4


class PathList(Container):  # type: ignore[misc]
    """Files and folders in the order in which they were added.

    Args:
        label: of the field.
        tooltip: of the list.
        more: a further source of paths: text and tooltip of its button, and what gives the paths.
    """

    def __init__(self, label: str, tooltip: str, more: tuple[str, str, Callable[[], Iterable[str]]] | None = None):
        super().__init__(labels=False, label=label, tooltip=tooltip)
        self.margins = (0, 0, 0, 0)
        self.list = QListWidget()
        self.list.setToolTip(tooltip)
        self.list.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.list.setFixedHeight(_ROWS * (self.list.fontMetrics().height() + 4))
        self.files = PushButton(text="Files…", tooltip="Add files.")
        self.folder = PushButton(text="Folder…", tooltip="Add a folder: of stacks, a plate, or an OME-Zarr.")
        self.remove = PushButton(text="Remove", tooltip="Take the selected ones off the list, or all if none is.")
        buttons = [self.files, self.folder, self.remove]
        if more is not None:
            text, explained, paths = more
            self.more = PushButton(text=text, tooltip=explained)
            self.more.changed.connect(lambda: self.add(paths()))
            buttons.insert(2, self.more)
        for pair in (buttons[:2], buttons[2:]):  # four in a row are wider than a laptop has room for
            row = Container(widgets=pair, layout="horizontal", labels=False)
            row.margins = (0, 0, 0, 0)
            self.append(row)
        self.native.layout().insertWidget(0, self.list)
        self.files.changed.connect(self._ask_for_files)
        self.folder.changed.connect(self._ask_for_folder)
        self.remove.changed.connect(self._remove)

    @property
    def paths(self) -> tuple[str, ...]:
        """What is on the list."""
        return tuple(self.list.item(row).text() for row in range(self.list.count()))

    def add(self, paths: Iterable[str]) -> None:
        """Put paths at the end of the list; none is there twice."""
        for path in paths:
            if path not in self.paths:
                self.list.addItem(path)
        self.changed.emit(self)

    def _ask_for_files(self) -> None:
        self.add(QFileDialog.getOpenFileNames(self.native, self.label)[0])

    def _ask_for_folder(self) -> None:
        if chosen := QFileDialog.getExistingDirectory(self.native, self.label):
            self.add([chosen])

    def _remove(self) -> None:
        selected = self.list.selectedItems() or [self.list.item(row) for row in range(self.list.count())]
        for item in selected:
            self.list.takeItem(self.list.row(item))
        self.changed.emit(self)
