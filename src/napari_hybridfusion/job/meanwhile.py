"""Something that takes seconds and whose caller waits: the window is drawn meanwhile, and says what it waits for."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_LOOK = 30  # ms between two looks whether it is done


def meanwhile(function: Callable[[], T], what: str) -> T:
    """Run a function beside the window and wait for it; without a window, or outside its thread, simply run it.

    Args:
        function: must not touch the window.
        what: stands beside the bar in the activity dock.
    """
    if "qtpy" not in sys.modules or threading.current_thread() is not threading.main_thread():
        return function()
    from napari.utils import progress  # noqa: PLC0415 - slow, and useless without a window
    from qtpy.QtCore import QEventLoop, Qt, QTimer  # noqa: PLC0415
    from qtpy.QtWidgets import QApplication  # noqa: PLC0415

    if QApplication.instance() is None:
        return function()
    found: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            found.append(function())
        except BaseException as error:  # raised again for the one who waits
            errors.append(error)

    thread, loop, timer = threading.Thread(target=work, daemon=True), QEventLoop(), QTimer()
    timer.timeout.connect(lambda: None if thread.is_alive() else loop.quit())
    QApplication.setOverrideCursor(Qt.CursorShape.WaitCursor)
    try:
        with progress(total=0, desc=what):
            thread.start()
            timer.start(_LOOK)
            # What is clicked meanwhile waits: the caller is in the midst of something.
            loop.exec(QEventLoop.ProcessEventsFlag.ExcludeUserInputEvents)
    finally:
        timer.stop()
        QApplication.restoreOverrideCursor()
    if errors:
        raise errors[0]
    return found[0]
