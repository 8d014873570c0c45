"""`hybridfusion models`: what there is, and how files of others come in."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hybridfusion_core.errors import HybridFusionError, printable
from hybridfusion_core.model.model_file import Model, import_model, load_model, local_model_names, model_names
from hybridfusion_core.model.model_folder import local_path, models_folder

Answer = tuple[dict[str, Any], str]


def listing(_: argparse.Namespace) -> Answer:
    """List shipped and local models with their cards; a damaged file hides no other."""
    found = [_described(load_model(name)) for name in model_names()]
    broken = []
    for name in local_model_names():
        try:
            found.append(_described(load_model(name)) | {"path": str(local_path(name))})
        except HybridFusionError as error:
            broken.append(str(error))
    text = [_shown(each) for each in found]
    text += [f"cannot be used: {each}" for each in broken]
    text.append(f"Local models are in {models_folder()}.")
    return {"models": found, "broken": broken, "folder": str(models_folder())}, "\n\n".join(text)


def importing(options: argparse.Namespace) -> Answer:
    """Copy a model into the user's folder."""
    model = import_model(Path(options.file), options.name, overwrite=options.overwrite)
    name = model.card.name
    about = _described(model) | {"path": str(local_path(name))}
    return {"model": about}, f"{_shown(about)}\n\nUse it with --model {name}."


def exporting(options: argparse.Namespace) -> Answer:
    """Write a model as a package for other programs."""
    from hybridfusion_core.fusion.bioimageio import export_bioimageio

    export_bioimageio(options.name, Path(options.bioimageio), overwrite=options.overwrite)
    text = f"{options.bioimageio}: {options.name} as a BioImage.IO package"
    return {"model": options.name, "package": options.bioimageio}, text


ACTIONS: dict[str | None, Callable[[argparse.Namespace], Answer]] = {
    None: listing,
    "list": listing,
    "import": importing,
    "export": exporting,
}


def _described(model: Model) -> dict[str, Any]:
    return {**asdict(model.card), "sha256": model.sha256}


def _shown(about: dict[str, Any]) -> str:
    """Lay out a card; those of local models are untrusted."""
    local = f"  local: {about['path']}\n" if "path" in about else ""
    name, description, training, limits = (
        printable(about[key]) for key in ("name", "description", "training", "limits")
    )
    return (
        f"{name}  sha256 {about['sha256'][:12]}…\n{printable(local.rstrip())}{chr(10) if local else ''}"
        f"  {description}\n  training: {training}\n  limits: {limits}"
    )
