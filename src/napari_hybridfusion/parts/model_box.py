"""The models that can be chosen, in all forms of the window: shipped ones and local ones, a new one at once."""

from __future__ import annotations

from html import escape
from weakref import WeakSet

from magicgui.widgets import ComboBox
from qtpy.compat import isalive

from hybridfusion_core.errors import HybridFusionError

_boxes: WeakSet[ComboBox] = WeakSet()


def model_box(label: str, tooltip: str) -> ComboBox:
    """Return a field to choose a model in, "auto" first; Triton must have been loaded apart before."""
    box = ComboBox(label=label, choices=lambda _: _names(), tooltip=tooltip)
    _boxes.add(box)
    return box


def offer_models() -> None:
    """Offer the models that there are now in every form; a choice that still exists stays."""
    for box in list(_boxes):
        if isalive(box.native):  # what Qt has destroyed may still be referred to, and must not be touched any more
            box.reset_choices()


def card_text(name: str) -> tuple[str, str]:
    """Return what a model is for and where it fails, and the same with how it was made; or why it cannot be used."""
    from hybridfusion_core.model.model_file import load_model  # noqa: PLC0415 - not before Triton is loaded

    try:
        card = load_model(name).card
    except HybridFusionError as error:
        return str(error), ""
    # Qt would take a text with tags in it for HTML, and cards come from untrusted files.
    more = "".join(f"<p>{escape(part)}</p>" for part in (f"Training: {card.training}", f"Limits: {card.limits}"))
    return f"{card.description} Limits: {card.limits}", more


def _names() -> list[str]:
    from hybridfusion_core.model.model_file import local_model_names, model_names  # noqa: PLC0415 - as above

    return ["auto", *model_names(), *local_model_names()]
