"""Channels that are in focus at other heights than the one that decides."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import hybridfusion_core as hf
from hybridfusion_core.fusion.channel_offset import ChannelOffset, combined

FUSING = {"method": "tenengrad", "device": "cpu", "focus_from": "0"}


@pytest.fixture(scope="module")
def shifted() -> hf.Stack:
    """Two channels of one flat specimen, of which the second is in focus 1.5 µm (3 slices) above the first."""
    texture = np.random.default_rng(0).uniform(0, 4000, (192, 192))
    planes = [[gaussian_filter(texture, 0.3 + 0.8 * abs(z - at)) for z in range(11)] for at in (3, 6)]
    noise = np.random.default_rng(1).normal(200, 5, (2, 11, 192, 192))
    counts = np.clip(np.array(planes) + noise, 0, 65_535).astype(np.uint16)
    return hf.Stack(counts, "CZYX", z_positions_um=tuple(0.5 * np.arange(11)))


def test_an_offset_is_measured_and_its_own_slice_is_read(shifted: hf.Stack) -> None:
    found = hf.fuse(shifted, channel_offset=("auto",), select="hard", **FUSING)
    measured = found.spec.provenance["settings"]["channel_offset_um"]["1"]
    assert measured["um"] == pytest.approx(1.5, abs=0.1)
    assert measured["spread_um"] < 0.2
    assert any("1.5" in said for said in found.warnings)
    np.testing.assert_array_equal(found.fused[0, 0, 0], shifted.array[0, 3])
    np.testing.assert_array_equal(found.fused[0, 1, 0], shifted.array[1, 6])


def test_a_given_offset_of_nothing_changes_nothing(shifted: hf.Stack) -> None:
    plain = hf.fuse(shifted, **FUSING).arrays["fused"]
    np.testing.assert_array_equal(hf.fuse(shifted, channel_offset=("1:0",), **FUSING).arrays["fused"], plain)


def test_what_cannot_be_meant_is_refused(shifted: hf.Stack) -> None:
    for options, said in (
        ({"channel_offset": ("auto",), "focus_from": "joint"}, "--focus-from NAME"),
        ({"channel_offset": ("GFP:1",)}, "no channel"),
        ({"channel_offset": ("much",)}, "NAME:UM"),
    ):
        with pytest.raises(hf.UserInputError, match=said):
            hf.fuse(shifted, **{**FUSING, **options})


def test_a_plate_takes_the_median_over_its_fields() -> None:
    fields = [{1: ChannelOffset(um, 0.3, 30)} for um in (0.5, 0.6, 9.0)] + [{}]
    assert combined(fields)[1] == ChannelOffset(0.6, pytest.approx(0.1483, abs=1e-3), 90)
