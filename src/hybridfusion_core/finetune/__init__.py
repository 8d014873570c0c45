"""Adapt a model to the stacks of one laboratory, which nobody labelled, and say honestly what that changed.

`run` holds it together. `sources`, `crops` and `survey` are the stacks; `laboratory` and `lessons` what is learnt
from; `training` the loop, with `course`, `live`, `painted` and `run_folder`; `evidence`, `blind` and `report` what came
of it.
"""

from hybridfusion_core.finetune.blind import BlindCrop, BlindScore, blind_crops, score_answers
from hybridfusion_core.finetune.request import FinetuneRequest, make_finetune_request
from hybridfusion_core.finetune.run import FinetuneResult, finetune, finetune_steps, with_blind_score
from hybridfusion_core.finetune.training import TrainingProgress

__all__ = [
    "BlindCrop",
    "BlindScore",
    "FinetuneRequest",
    "FinetuneResult",
    "TrainingProgress",
    "blind_crops",
    "finetune",
    "finetune_steps",
    "make_finetune_request",
    "score_answers",
    "with_blind_score",
]
