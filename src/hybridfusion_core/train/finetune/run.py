"""A fine-tuning from stacks to a model and a report: one generator, for command line and widget."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from itertools import starmap
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.fusion.device_settings import torch_threads
from hybridfusion_core.io.create import refuse_input_as_output
from hybridfusion_core.io.disk.atomic import Delivery, explained, write_whole
from hybridfusion_core.model.devices import resolve_device
from hybridfusion_core.model.model_file import Model, ModelCard, load_model, save_model
from hybridfusion_core.model.threads import thread_count
from hybridfusion_core.progress import Progress, run_to_end
from hybridfusion_core.train.calibration import calibrate
from hybridfusion_core.train.field_stream import FieldStream
from hybridfusion_core.train.finetune.blind import BlindScore
from hybridfusion_core.train.finetune.corrections import load_painted
from hybridfusion_core.train.finetune.crops import Crop, field_readers
from hybridfusion_core.train.finetune.evidence import (
    Finding,
    Fuse,
    Verdict,
    fuser,
    height_standard,
    left_out_slices,
    repeats,
    verdict,
)
from hybridfusion_core.train.finetune.imaging_setup import in_words, laboratory
from hybridfusion_core.train.finetune.keeping import Kept, kept
from hybridfusion_core.train.finetune.live_preview import LivePicture
from hybridfusion_core.train.finetune.report import Compared, render
from hybridfusion_core.train.finetune.request import FinetuneRequest
from hybridfusion_core.train.finetune.run_folder import RunFolder
from hybridfusion_core.train.finetune.sources import Source, Sources, find_sources, one_source
from hybridfusion_core.train.finetune.split import Survey, survey
from hybridfusion_core.train.finetune.training import Trained, Training
from hybridfusion_core.train.finetune.training_mix import STARTS, Lessons, Light, lessons
from hybridfusion_core.train.patches import UnlabelledStack

_HELD_BYTES = 512 << 20  # of fields in memory
_MOST_HELD = 16
_EVERY = 20  # steps after which one of them is replaced
_FOR_TRAINING = 0.85  # of the minutes; the rest is for evidence and report
_CALIBRATED_ON = 24  # scenes
_SHOWN = 4  # held-out stacks in the report


@dataclass(frozen=True)
class FinetuneResult:
    """What a fine-tuning gives.

    Attributes:
        model: path of the new model.
        sha256: of its file.
        start: name of the model that it started from.
        trained: how the training ended.
        verdict: what the evidence comes to.
        findings: the evidence.
        report: path of the page.
        warnings: what was left out, and why.
        compared: held-out crops, fused by both models; a blind comparison can be made of them.
        about: settings and estimates, as the report lists them.
    """

    model: Path
    sha256: str
    start: str
    trained: Trained
    verdict: Verdict
    findings: tuple[Finding, ...]
    report: Path
    warnings: tuple[str, ...]
    compared: tuple[Compared, ...]
    about: dict[str, Any]


def finetune(request: FinetuneRequest, progress: Callable[[Progress], None] | None = None) -> FinetuneResult:
    """Adapt a model to stacks without labels; see `finetune_steps`."""
    return run_to_end(finetune_steps(request), progress)


def finetune_steps(request: FinetuneRequest) -> Generator[Progress, None, FinetuneResult]:
    """Adapt a model to stacks without labels, yielding after each step.

    While it trains, `TrainingProgress` says what it shows. Closing the iterator early keeps the state in the folder
    NAME.finetune beside the output; the same request goes on from there. The model appears whole, at the end, under the
    name that was asked for, and nowhere else: it becomes nobody's default.

    Returns:
        (on exhaustion) the `FinetuneResult`.

    Raises:
        UserInputError: the stacks or the request are unfit, or the loss exploded.
        StoredDataError: a file is damaged.
    """
    output, folder = Path(request.output), RunFolder(request.folder)
    delivery = Delivery([output], overwrite=request.overwrite)
    try:
        refuse_input_as_output(folder.path, request.inputs)
        with torch_threads(thread_count(request.threads)):
            yield Progress("looking at the stacks", 0, 1)
            prepared = _prepare(request)
            yield Progress("looking at the stacks", 1, 1)
            with explained(output):
                state = folder.begin(request, prepared.fields())
                yield Progress("looking at the start", 0, 1)
                training = prepared.training(request, folder)
                trained = yield from training.run(state)
                model, trained = _settled(prepared, folder, training, trained)
                result = yield from _evidence(request, prepared, folder, model, trained)
                delivery.part(output).write_bytes(folder.best.read_bytes())
                delivery.publish()
                folder.finish(verdict=result.verdict.word, sha256=model.sha256)
        return result
    finally:
        delivery.discard()


@dataclass(frozen=True)
class _Prepared:
    """Everything that is known before the first step."""

    start: Model
    lessons: Lessons
    sources: Sources
    survey: Survey
    device: torch.device
    card: ModelCard
    about: dict[str, Any]
    beside: tuple[tuple[Source, ...], ...]  # the height standard and the repeats, opened before hours of training

    def fields(self) -> dict[str, Any]:
        """What is trained on and held out, to compare with when it is resumed."""
        return {
            "training": sorted(self.survey.training),
            "held out": sorted(crop.group for crop in self.survey.held_out),
            "start": self.start.sha256,
        }

    def training(self, request: FinetuneRequest, folder: RunFolder) -> Training:
        largest = max(crop.counts.size for crop in (*self.survey.looked_at, *self.survey.held_out))
        hold = max(2, min(_MOST_HELD, _HELD_BYTES // (4 * largest), sum(map(len, self.survey.training.values()))))
        held_out = tuple(UnlabelledStack(crop.name, (crop.field,)) for crop in self.survey.held_out)
        network = self.start.network.to(self.device)
        return Training(
            lessons=self.lessons,
            stream=FieldStream(self.survey.training, request.seed, hold, _EVERY),
            held_out=held_out,
            painted=load_painted(request.corrections, self.sources),
            folder=folder,
            card=self.card,
            live=LivePicture(self.survey.held_out[0], network, self.device),
            device=self.device,
            steps=request.steps,
            seconds=60 * request.minutes * _FOR_TRAINING,
        )


def _prepare(request: FinetuneRequest) -> _Prepared:
    sources = find_sources(request)
    surveyed = survey(sources, request.seed)
    light: Light = request.preset if request.preset != "auto" else "transmitted" if sources.transmitted else "organoid"
    name = STARTS[light] if request.start == "auto" else request.start
    start = load_model(name)
    lab = laboratory(request, sources, surveyed.looked_at)
    model = Path(request.output).stem
    card = ModelCard(
        name=model,
        description=f"{start.card.name}, fine-tuned on {len(surveyed.training)} stacks or wells of one laboratory.",
        training=f"From {start.card.name} (sha256 {start.sha256}), preset {light}, seed {request.seed}.",
        limits="Made for one microscope and kind of specimen; others were not looked at. Its report says what was "
        f"measured. Limits of its start: {start.card.limits}",
        metrics={},
    )
    about = {
        "Microscope": in_words(lab, request, sources),
        "Stacks": {
            "trained on": len(surveyed.training),
            "held out": [crop.name for crop in surveyed.held_out],
        },
        "Made by": {
            "software": f"napari-hybridfusion {version('napari-hybridfusion')}",
            "runtime": f"torch {torch.__version__}",
            "start": f"{start.card.name}, sha256 {start.sha256}",
            **{key: value for key, value in asdict(request).items() if key not in ("inputs", "threads", "overwrite")},
        },
    }
    paths = [(request.height_standard,)] if request.height_standard is not None else []
    beside = tuple(tuple(one_source(Path(each), request) for each in group) for group in (*paths, *request.repeats))
    made = lessons(model, light, name, lab, request.seed)
    return _Prepared(start, made, sources, surveyed, torch.device(resolve_device(request.device)), card, about, beside)


def _settled(prepared: _Prepared, folder: RunFolder, training: Training, trained: Trained) -> tuple[Model, Trained]:
    """Keep what was gained, give it what makes its confidence keep its word, and a card with figures."""
    tuned = load_model(str(folder.best)).network.to(prepared.device)
    end = kept(prepared.start.network, tuned, prepared.lessons, prepared.device)
    network = end.network
    if end.share < 1:
        trained = replace(trained, share=end.share, after=training.validated(network) if end.share else trained.before)
    calibrate(network, prepared.lessons.own, _CALIBRATED_ON, prepared.lessons.lab)
    metrics = {f"{name}, {when}": value for when, found in _figures(trained) for name, value in found.items()}
    made = f"{prepared.card.training} {trained.steps} steps, best after {trained.best_step}; {_kept_in_words(end)}."
    save_model(folder.best, network, replace(prepared.card, training=made, metrics=metrics))
    return load_model(str(folder.best)), trained


def _kept_in_words(end: Kept) -> str:
    if not end.share:
        return "nothing was gained on unseen scenes of the laboratory, so the weights are the start's"
    return (
        f"{end.share:.0%} of the way is kept, {end.gain:+.2f} ± {end.error:.2f} dB on unseen scenes of the laboratory"
    )


def _figures(trained: Trained) -> tuple[tuple[str, dict[str, float]], ...]:
    return ("start", trained.before), ("now", trained.after)


def _evidence(
    request: FinetuneRequest, prepared: _Prepared, folder: RunFolder, model: Model, trained: Trained
) -> Generator[Progress, None, FinetuneResult]:
    """Measure what no loss was trained on, and write the report."""
    before, after = (fuser(name, request.device) for name in (prepared.lessons.own.start, str(folder.best)))
    crops, found = prepared.survey.held_out, []
    measures: list[Callable[[], Finding | None]] = []
    if not prepared.sources.transmitted:
        measures.append(lambda: left_out_slices(crops, before, after))
    standard = prepared.beside[0] if request.height_standard is not None else None
    if standard is not None:
        measures.append(lambda: height_standard(_crop(standard[0], request.seed), before, after))
    pairs = prepared.beside[standard is not None :]
    if pairs:
        measures.append(lambda: repeats(_repeated(pairs, request.seed), before, after))
    total = len(measures) + min(len(crops), _SHOWN)
    for number, measure in enumerate(measures):
        yield Progress("gathering evidence", number, total)
        found.append(measure())
    compared = []
    for number, crop in enumerate(crops[:_SHOWN]):
        yield Progress("gathering evidence", len(measures) + number, total)
        compared.append(_compared(crop, before, after))
    findings = tuple(each for each in found if each is not None)
    weighed = verdict(findings)
    warnings = prepared.survey.warnings
    if not trained.share:
        warnings = (
            "Nothing was gained on scenes of this microscope: the new model has the weights of its start. Keep using "
            f"{prepared.start.card.name}, or train for longer, with the optics stated.",
            *warnings,
        )
    page = render(
        model.card.name,
        weighed,
        findings,
        trained,
        compared,
        prepared.about,
        warnings=warnings,
        curves=folder.path / "curves.png",
    )
    write_whole(folder.report, page.encode())
    yield Progress("gathering evidence", total, total)
    return FinetuneResult(
        Path(request.output),
        model.sha256,
        prepared.start.card.name,
        trained,
        weighed,
        findings,
        folder.report,
        warnings,
        tuple(compared),
        prepared.about,
    )


def with_blind_score(result: FinetuneResult, score: BlindScore) -> FinetuneResult:
    """Weigh the answers to a blind comparison with all other evidence, and write the report anew; the model stays.

    Raises:
        UserInputError: the report cannot be written.
    """
    weighed = verdict(result.findings, score)
    folder = RunFolder(result.report.parent)
    page = render(
        result.model.stem,
        weighed,
        result.findings,
        result.trained,
        result.compared,
        result.about,
        warnings=result.warnings,
        curves=folder.path / "curves.png",
        blind=score,
    )
    with explained(folder.report):
        write_whole(folder.report, page.encode())
        folder.finish(verdict=weighed.word)
    return replace(result, verdict=weighed)


def _compared(crop: Crop, before: Fuse, after: Fuse) -> Compared:
    return Compared(crop, before(crop, slice(None)), after(crop, slice(None)))


def _crop(source: Source, seed: int) -> Crop:
    return field_readers(source)[0].crop(np.random.default_rng([seed, 5]))


def _repeated(pairs: Sequence[tuple[Source, ...]], seed: int) -> list[tuple[Crop, Crop]]:
    """Read the same place of both stacks of each pair."""

    def read(first: Source, second: Source) -> tuple[Crop, Crop]:
        if first.shape[2:] != second.shape[2:]:
            raise UserInputError(
                f"{first.name} and {second.name} have the shapes {first.shape[2:]} and {second.shape[2:]} (Z Y X); "
                "expected two acquisitions of the same field. Name such a pair after --repeat."
            )
        crop = _crop(first, seed)
        slices = slice(0, len(crop.counts))
        counts, statistics = field_readers(second)[0].region(*crop.place)
        return crop, replace(crop, name=second.name, counts=counts[slices], statistics=statistics)

    return list(starmap(read, pairs))
