"""What can be done by a key or from the layer list's menu, as soon as anything of the plugin was used in a session.

napari 0.9 heeds neither key bindings in a plugin's manifest nor its entries in the layer list's menu. The keys that are
registered here have their place in *Preferences › Shortcuts*, where every one can be changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from napari.components import ViewerModel
from napari.settings import get_settings
from napari.utils.action_manager import action_manager

if TYPE_CHECKING:
    import napari.viewer

    from napari_hybridfusion.fuse.widget import FuseWidget

PLUGIN, FUSE = "napari-hybridfusion", "Fuse focal stack"


def fuse(viewer: ViewerModel) -> None:
    """Fuse the stack that is selected, as the form says."""
    _dock(viewer).start()


def preview(viewer: ViewerModel) -> None:
    """Switch the preview on or off."""
    dock = _dock(viewer)
    dock.live.value = not dock.live.value


def reveal(viewer: ViewerModel) -> None:
    """Show the slice that the result took the place under the pointer from, or the result again."""
    from napari_hybridfusion.result.probe import attend  # noqa: PLC0415 - a session may never need it

    attend(viewer).toggle(viewer.cursor.position)


def next_slice(viewer: ViewerModel) -> None:
    """Show the next slice of the stack."""
    _step(viewer, 1)


def previous_slice(viewer: ViewerModel) -> None:
    """Show the slice before."""
    _step(viewer, -1)


# Name, what it says in the preferences, what it does, its key, and whether a key that is held down repeats it.
_KEYS: tuple[tuple[str, str, Callable[[ViewerModel], None], str, bool], ...] = (
    ("fuse", "HybridFusion: fuse the stack", fuse, "Shift-Alt-F", False),
    ("preview", "HybridFusion: preview on or off", preview, "Shift-Alt-P", False),
    ("reveal", "HybridFusion: show the slice under the pointer, or the result again", reveal, "Shift-Alt-S", False),
    ("next_slice", "HybridFusion: next slice", next_slice, "Shift-Alt-Right", True),
    ("previous_slice", "HybridFusion: previous slice", previous_slice, "Shift-Alt-Left", True),
)


def activate(_context: Any = None) -> None:
    """Register the keys and the entry of the layer list's menu; called by napari when the plugin is first used."""
    chosen = get_settings().shortcuts.shortcuts
    for name, text, function, key, repeats in _KEYS:
        full = f"{PLUGIN}:{name}"
        action_manager.register_action(full, function, text, ViewerModel, repeats)
        for each in chosen.get(full, [key]):
            action_manager.bind_shortcut(full, each)
    _into_the_menu_of_layers()


def _into_the_menu_of_layers() -> None:
    from app_model.types import Action, MenuRule  # noqa: PLC0415 - of a window alone
    from napari._app_model import get_app_model  # noqa: PLC0415 - there is no public way into this menu
    from napari._app_model.context import LayerListSelectionContextKeys as Keys  # noqa: PLC0415

    app, name = get_app_model(), f"{PLUGIN}.fuse_selected"
    if name not in app.commands:
        app.register_action(
            Action(
                id=name,
                title="Fuse with HybridFusion",
                callback=_fuse_selected,
                menus=[MenuRule(id="napari/layers/context", group="5_split_merge")],
                enablement=Keys.active_layer_type == "image",
            )
        )


def _fuse_selected() -> None:
    import napari  # noqa: PLC0415 - its public part is slow

    if (viewer := napari.current_viewer()) is not None:
        dock = _dock(viewer)
        dock.form.hold.value = False
        dock.form.choose(viewer.layers.selection.active)
        dock.start()


def _dock(viewer: ViewerModel) -> FuseWidget:
    """Return the dock that fuses one stack, opened if it is not."""
    window = cast("napari.viewer.Viewer", viewer).window
    return cast("FuseWidget", window.add_plugin_dock_widget(PLUGIN, FUSE)[1])


def _step(viewer: ViewerModel, by: int) -> None:
    from napari_hybridfusion.result.probe import z_axis  # noqa: PLC0415 - as above

    axis = z_axis(viewer)
    if axis is not None:
        at = viewer.dims.current_step[axis] + by
        viewer.dims.set_current_step(axis, min(max(0, at), int(viewer.dims.nsteps[axis]) - 1))
