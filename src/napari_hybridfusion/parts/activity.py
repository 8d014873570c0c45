"""The bar of a job in napari's activity dock."""

from __future__ import annotations

from napari.utils import cancelable_progress


class Activity:
    """A bar that is there while a job runs.

    Args:
        title: of the bar until a stage has begun.
        parts: that a full bar has.
    """

    def __init__(self, title: str, parts: int) -> None:
        self._title, self._parts = title, parts
        self._bar: cancelable_progress | None = None

    def open(self) -> None:
        """Show an empty bar."""
        self._bar = cancelable_progress(total=self._parts, desc=self._title)

    def show(self, stage: str, parts: int) -> bool:
        """Fill the bar; nothing may follow that the end of the job would not allow.

        Args:
            stage: what is being done.
            parts: how much of it is done.

        Returns:
            Whether the bar's own button was pressed to cancel the job.
        """
        bar = self._bar
        if bar is None:
            return False
        canceled = bool(bar.is_canceled)
        # In both calls napari handles other events, the end of the job among them.
        if not bar.desc.startswith(stage):
            bar.set_description(stage)
            if self._bar is not None:
                bar.reset()  # with its clock
        if self._bar is not None:
            bar.update(parts - bar.n)
        if self._bar is not None:
            bar.refresh()  # tqdm writes its text now and then only
        return canceled

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
