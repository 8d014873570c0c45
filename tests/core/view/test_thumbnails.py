import numpy as np
import pytest

from hybridfusion_core.io.result_spec import ResultSpec
from hybridfusion_core.stack import Axis, Channel, Stack
from hybridfusion_core.view.thumbnails import Thumbnails, shrink, slice_thumbnail, thumbnail_bin


@pytest.mark.parametrize(("plane", "expected"), [((1, 1), 1), ((1024, 30), 1), ((1025, 30), 2), ((9000, 4096), 16)])
def test_the_bin_brings_a_plane_to_at_most_1024(plane: tuple[int, int], expected: int) -> None:
    assert thumbnail_bin(plane) == expected


def test_shrinking_averages_counts_and_takes_labels() -> None:
    counts = np.arange(42, dtype=np.uint16).reshape(6, 7)
    assert shrink(counts, 2).tolist() == [[4, 6, 8], [18, 20, 22], [32, 34, 36]]
    assert set(shrink(counts, 2, labels=True).ravel()) <= set(counts.ravel())


def test_blocks_pass_on_and_leave_a_copy_that_does_not_know_how_they_were_cut() -> None:
    spec = ResultSpec("x", (1, 1, 2100, 1500), np.dtype(np.uint16), (Channel("0"),), z=Axis())
    image = np.random.default_rng(0).integers(0, 1000, (2100, 1500)).astype(np.uint16)
    copies = []
    for block in (256, 1024, 4096):
        target = {"fused": np.zeros((1, 1, 1, 2100, 1500), np.uint16)}
        thumbnails = Thumbnails(target, spec)
        for y in range(0, 2100, block):
            for x in range(0, 1500, block):
                rows, columns = slice(y, min(y + block, 2100)), slice(x, min(x + block, 1500))
                thumbnails.arrays["fused"][0, 0, 0, rows, columns] = image[rows, columns]
        np.testing.assert_array_equal(target["fused"][0, 0, 0], image)
        copies.append(thumbnails.copies["fused"][0])
    for copy in copies[:2]:
        np.testing.assert_array_equal(copy, copies[2])
    np.testing.assert_array_equal(copies[0], shrink(image, thumbnails.bin)[: copies[0].shape[0]])
    np.testing.assert_array_equal(slice_thumbnail(Stack(image[None], "ZYX"), 0, 0), copies[0])
