"""A fine-tuning as the widget's form describes it: the request that the command line builds, run by its function.

Its own imports bring the network's libraries: not to be imported before Triton is loaded.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hybridfusion_core.model.devices import resolve_device
from hybridfusion_core.model.model_file import load_model, new_model_path
from hybridfusion_core.progress import Progress
from hybridfusion_core.train.finetune.blind import BlindCrop, BlindScore, blind_crops
from hybridfusion_core.train.finetune.corrections import load_painted
from hybridfusion_core.train.finetune.imaging_setup import laboratory
from hybridfusion_core.train.finetune.request import FinetuneRequest, make_finetune_request
from hybridfusion_core.train.finetune.run import FinetuneResult, finetune_steps, with_blind_score
from hybridfusion_core.train.finetune.sources import find_sources, one_source
from napari_hybridfusion.job.task import FieldError, blame
from napari_hybridfusion.job.worker import Steps

_LOOKING = "looking at the stacks"  # what the core calls everything before the first weights are needed


@dataclass(frozen=True)
class FinetuneChoices:
    """What the form says.

    Attributes:
        inputs: stacks, folders and plates.
        name: of the new model, in the folder of local models.
        file: to write in its place.
        standard: stack of a flat standard; of several one too many.
        repeats: stacks of which every two follow each other in time.
        options: further fields of `FinetuneRequest`.
    """

    inputs: tuple[str, ...] = ()
    name: str = ""
    file: Path | None = None
    standard: tuple[str, ...] = ()
    repeats: tuple[str, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()


def finetuning(choices: FinetuneChoices) -> Generator[Progress, None, FinetuneResult]:
    """Fine-tune, yielding after each step; closed early it keeps its state, and the same choices go on from there.

    Raises:
        FieldError: something cannot be done, and which field says so; nothing was trained.
        UserInputError: the training had to be stopped.
    """
    request = _request(choices)
    yield Progress(_LOOKING, 0, 1)
    _check(request)
    steps, about = finetune_steps(request), _output_field(choices)
    try:
        while True:
            try:
                with blame(about):
                    step = next(steps)
            except StopIteration as end:
                result: FinetuneResult = end.value
                return result
            yield step
            if step.stage != _LOOKING:
                return (yield from steps)
            # What is left to be found wrong is pixels until they are looked at, and then another run of this name.
            about = "inputs" if step.done == 0 else _output_field(choices)
    finally:
        steps.close()


def crops_of(result: FinetuneResult) -> tuple[BlindCrop, ...]:
    """Return what to compare blind, in an order that nobody knows."""
    pairs = [(_plane(each.before.fused), _plane(each.after.fused)) for each in result.compared]
    return blind_crops(pairs, np.random.default_rng())


def writing_score(result: FinetuneResult, score: BlindScore) -> Steps:
    """Weigh a blind comparison, and write it into the report.

    Returns:
        (on exhaustion) the result with its new verdict.
    """
    yield Progress("writing the report", 0, 1)
    return with_blind_score(result, score)


def _request(choices: FinetuneChoices) -> FinetuneRequest:
    if not choices.inputs:
        raise FieldError(
            "inputs", "There are no stacks to learn from; expected two at least. Add files, a folder, or a plate."
        )
    for field, value in choices.options:
        with blame(field):
            make_finetune_request(inputs=(), output="any.safetensors", **{field: value})
    options = dict(choices.options)
    with blame("device"):
        resolve_device(options["device"])
    if len(choices.standard) > 1:
        raise FieldError(
            "standard", f"{len(choices.standard)} stacks are chosen; expected one flat standard. Remove the others."
        )
    if len(choices.repeats) % 2:
        raise FieldError(
            "repeats", f"{len(choices.repeats)} stacks are chosen; expected pairs of the same field. Add the other one."
        )
    with blame(_output_field(choices)):
        output = choices.file or new_model_path(choices.name)
        request = make_finetune_request(
            inputs=choices.inputs,
            output=str(output),
            height_standard=next(iter(choices.standard), None),
            repeats=tuple(zip(choices.repeats[::2], choices.repeats[1::2], strict=True)),
            **options,
        )
    if choices.file is None:
        output.parent.mkdir(parents=True, exist_ok=True)
    return request


def _check(request: FinetuneRequest) -> None:
    """Find out what is wrong with one field after the other, so that each is told; headers are read, few pixels."""
    if request.start != "auto":
        with blame("start"):
            load_model(request.start)
    with blame("inputs"):
        sources = find_sources(request)
    with blame("na"):
        laboratory(request, sources, ())
    with blame("corrections"):
        load_painted(request.corrections, sources)
    with blame("standard"):
        if request.height_standard is not None:
            one_source(Path(request.height_standard), request)
    with blame("repeats"):
        for path in (each for pair in request.repeats for each in pair):
            one_source(Path(path), request)


def _output_field(choices: FinetuneChoices) -> str:
    return "name" if choices.file is None else "file"


def _plane(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return array.reshape(array.shape[-2:])  # T C 1 Y X of one channel -> Y X
