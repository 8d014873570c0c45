"""The guide by which a colour image decides is the same in training, in fine-tuning and in fusing."""

import numpy as np
import pytest
from conftest import textured_stack

from hybridfusion_core.fusion.block import guide_planes, read_planes
from hybridfusion_core.fusion.job import resolve
from hybridfusion_core.fusion.loop import measure
from hybridfusion_core.fusion.request import make_request
from hybridfusion_core.fusion.tiles import blocks
from hybridfusion_core.model.noise import luminance
from hybridfusion_core.progress import run_to_end
from hybridfusion_core.stack import Channel, Stack
from hybridfusion_core.train.finetune.crops import FieldReader
from hybridfusion_core.train.finetune.sources import Source
from hybridfusion_core.train.patches import _read

SIZE = 64


@pytest.fixture
def colours() -> Stack:
    planes = np.stack([textured_stack((3, SIZE, SIZE), "uint8", seed) for seed in range(3)])
    return Stack(planes, "CZYX", channels=tuple(map(Channel, ("red", "green", "blue"))), rgb=True)


def fused_guide(stack: Stack) -> np.ndarray:
    """What a fusion decides by, Z Y X."""
    job = resolve(make_request(method="tenengrad"), stack)
    ((statistics,),) = run_to_end(measure(job, stack), None)
    (core,) = blocks((SIZE, SIZE), SIZE, job.geometry)
    planes = read_planes(job, stack, 0, job.deciders[0], core, job.slices, with_halo=False)
    return statistics.guide(guide_planes(stack, job.deciders[0], planes))


def test_fine_tuning_sees_the_guide_of_fusing(colours: Stack) -> None:
    source = Source("s", ("s",), "s", lambda: colours, colours.shape, ((0, 1, 2),), None, None, None, None)
    counts, statistics = FieldReader(source, 0, (0, 1, 2)).region(slice(0, SIZE), slice(0, SIZE))
    np.testing.assert_array_equal(statistics.guide([counts]), fused_guide(colours))


def test_training_sees_the_brightness_of_fusing(colours: Stack) -> None:
    counts = np.asarray(colours.array)
    np.testing.assert_array_equal(_read(colours, 0, (0, 1, 2)), luminance(counts))
    assert not np.array_equal(luminance(counts), np.rint(luminance(counts)))  # rounding would look like noise


def test_brightness_weighs_colours_as_the_eye_does() -> None:
    assert luminance(np.float64([[1], [0], [0]])) == pytest.approx(0.2125)
    assert luminance(np.float64([[1], [1], [1]])) == pytest.approx(1.0)
