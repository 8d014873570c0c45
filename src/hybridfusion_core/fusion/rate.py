"""How fast this machine is: a benchmark of one small tile, behind what `info` and a dry run expect."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from hybridfusion_core.fusion.api import steps_in_memory
from hybridfusion_core.fusion.job import Job
from hybridfusion_core.progress import run_to_end
from hybridfusion_core.stack import Stack


def measured_rate(job: Job) -> float:
    """Pixels × slices per second that this machine makes with a job's method, from one small tile per decider."""
    size, slices, count = job.geometry.round_up(128), 4, len(job.deciders)
    noise = np.random.default_rng(0).standard_normal((count, slices, size, size)).astype(np.float32)
    stack = Stack.from_array(noise, axes="CZYX")
    deciders = tuple(replace(each, guide=(index,), serves=(index,)) for index, each in enumerate(job.deciders))
    plan = replace(job.plan, tile=size, block=size, z_chunk=min(job.plan.z_chunk, slices))
    trial = replace(job, slices=tuple(range(slices)), channels=tuple(range(count)), deciders=deciders, plan=plan)
    run_to_end(steps_in_memory(trial, stack), None)
    started = time.perf_counter()
    run_to_end(steps_in_memory(trial, stack), None)
    return noise.size / (time.perf_counter() - started)
