import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridfusion_core.fusion.tiles import Geometry, blocks, reflected, spans, tiles

geometries = st.builds(
    lambda lattice, cells: Geometry(lattice, lattice * cells), st.sampled_from([1, 4, 16]), st.integers(0, 3)
)


@given(geometries, st.integers(1, 300), st.integers(1, 5))
def test_cores_cover_an_axis_once_and_in_order(geometry: Geometry, size: int, cells: int) -> None:
    cut = spans(0, size, cells * geometry.lattice, geometry)
    assert np.concatenate([np.arange(span.start, span.stop) for span in cut]).tolist() == list(range(size))


@given(geometries, st.integers(1, 300), st.integers(1, 5))
def test_windows_lie_on_the_lattice_and_hold_a_halo(geometry: Geometry, size: int, cells: int) -> None:
    for span in spans(0, size, cells * geometry.lattice, geometry):
        assert span.low % geometry.lattice == span.high % geometry.lattice == 0
        assert span.low <= span.start - geometry.halo
        assert span.high >= span.stop + geometry.halo
        assert np.arange(span.low, span.high)[span.core_in_window].tolist() == list(range(span.start, span.stop))


@given(geometries, st.integers(1, 200), st.integers(1, 200), st.integers(1, 4), st.integers(1, 3))
def test_tiles_cover_a_plane_once_and_lie_in_their_block(
    geometry: Geometry, height: int, width: int, tile: int, per_block: int
) -> None:
    core = tile * geometry.lattice
    seen = np.zeros((height, width), dtype=int)
    for block in blocks((height, width), core * per_block, geometry):
        inside = np.zeros((block.y.stop - block.y.start, block.x.stop - block.x.start), dtype=int)
        for part in tiles(block, core, geometry):
            seen[part.y.core, part.x.core] += 1
            inside[part.y.core_in(block.y), part.x.core_in(block.x)] += 1
            for own, outer in ((part.y, block.y), (part.x, block.x)):
                window = own.window_in(outer)
                assert 0 <= window.start < window.stop <= outer.high - outer.low
        assert (inside == 1).all()
    assert (seen == 1).all()


@given(st.integers(1, 20), st.integers(0, 50), st.integers(0, 50))
def test_reflection_is_numpy_s(size: int, before: int, after: int) -> None:
    expected = np.pad(np.arange(size), (before, after), mode="reflect" if size > 1 else "edge")
    assert reflected(-before, size + after, size).tolist() == expected.tolist()


def test_off_lattice_cuts_are_a_bug() -> None:
    with pytest.raises(ValueError, match="multiples of the lattice"):
        spans(0, 100, 24, Geometry(16, 32))
    with pytest.raises(ValueError, match="multiples of the lattice"):
        spans(8, 100, 16, Geometry(16, 32))
