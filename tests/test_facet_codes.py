from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamsvc import facet_codes
from dreamsvc.facet_codes import (
    Centroid,
    code_bytes,
    decode_centroid,
    decode_facets,
    encode_centroid,
    encode_facets,
    score_facets,
)

ALL_BITS = (1, 2, 4, 8)
# Share of a bell curve's power that its best levels lose (Max 1960), and for even levels what their width gives.
LOST = {1: 0.3634, 2: 0.1175, 4: 0.0095, 8: 0.0001}


def cluster(seed: int, count: int = 10, dim: int = 384) -> np.ndarray:
    rng = np.random.default_rng(seed)
    around = rng.standard_normal(dim) + 1.2 * rng.standard_normal((count, dim))
    return (around / np.linalg.norm(around, axis=1, keepdims=True)).astype(np.float32)


def kept_centroid(vectors: np.ndarray) -> np.ndarray:
    return decode_centroid(encode_centroid(vectors.mean(axis=0)))


@pytest.mark.parametrize("bits", ALL_BITS)
@pytest.mark.parametrize("dim", [384, 256, 7, 1])
def test_a_facet_takes_its_bits_and_a_scale(bits, dim):
    vectors = cluster(0, dim=dim)
    facets = encode_facets(vectors, kept_centroid(vectors), bits=bits)
    assert facets.codes.shape == (10, code_bytes(dim, bits))
    assert facets.codes.nbytes + facets.scales.nbytes == 10 * (-(-dim * bits // 8) + 2)
    assert decode_facets(facets, kept_centroid(vectors), bits=bits).shape == vectors.shape


def test_four_bits_of_384_numbers_are_192_bytes():
    assert [code_bytes(384, bits) for bits in ALL_BITS] == [48, 96, 192, 384]


@pytest.mark.parametrize("bits", ALL_BITS)
def test_a_code_loses_what_its_levels_must_lose_and_no_more(bits):
    vectors = cluster(1, count=400)
    centroid = kept_centroid(vectors)
    error = np.square(decode_facets(encode_facets(vectors, centroid, bits=bits), centroid, bits=bits) - vectors)
    share = error.sum() / np.square(vectors - centroid).sum()
    # The scale that keeps the length pays lost / (1 - lost), where least squares would pay lost.
    assert share < 1.1 * LOST[bits] / (1 - LOST[bits])


@pytest.mark.parametrize(("bits", "limit"), [(1, 0.04), (2, 0.02), (4, 0.006), (8, 0.0005)])
def test_cosines_with_a_query_are_kept_and_not_drawn_towards_the_centroid(bits, limit):
    vectors = cluster(2, count=300)
    centroid = kept_centroid(vectors)
    rng = np.random.default_rng(3)
    near = vectors + 0.05 * rng.standard_normal(vectors.shape).astype(np.float32)
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    decoded = decode_facets(encode_facets(vectors, centroid, bits=bits), centroid, bits=bits)
    error = (near * (decoded - vectors)).sum(axis=1)
    assert np.abs(error).mean() < limit
    assert abs(error.mean()) < 0.2 * limit


@settings(deadline=None, max_examples=80)
@given(st.integers(0, 2**32 - 1), st.integers(1, 100), st.sampled_from(ALL_BITS), st.floats(1e-3, 100))
def test_any_residual_keeps_its_length_in_its_own_direction(seed, dim, bits, size):
    # Heavy tails: residuals of a few large numbers are where levels made for a bell curve fit worst.
    residual = (np.random.default_rng(seed).standard_cauchy((4, dim)) % 50 - 25).astype(np.float32)
    residual *= np.float32(size) / np.linalg.norm(residual, axis=1, keepdims=True)
    decoded = decode_facets(
        encode_facets(residual, np.zeros(dim, np.float32), bits=bits), np.zeros(dim, np.float32), bits=bits
    )
    along = (decoded * residual).sum(axis=1) / np.square(residual).sum(axis=1)
    np.testing.assert_allclose(along, 1.0, rtol=2e-3)
    assert np.square(decoded - residual).sum() <= (dim + 1) * np.square(residual).sum()


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 64))
def test_eight_bits_are_within_a_step_of_the_truth_whatever_it_is(seed, dim):
    rng = np.random.default_rng(seed)
    residual = (rng.standard_normal((3, dim)) * 10.0 ** rng.integers(-4, 3, (3, dim))).astype(np.float32)
    zero = np.zeros(dim, np.float32)
    decoded = decode_facets(encode_facets(residual, zero, bits=8), zero, bits=8)
    step = np.abs(residual).max(axis=1, keepdims=True) / 127
    assert (np.abs(decoded - residual) <= 1.1 * step).all()


@pytest.mark.parametrize("bits", ALL_BITS)
def test_what_was_decoded_encodes_to_the_same(bits):
    vectors = cluster(4, count=50)
    centroid = kept_centroid(vectors)
    once = encode_facets(vectors, centroid, bits=bits)
    again = encode_facets(decode_facets(once, centroid, bits=bits), centroid, bits=bits)
    np.testing.assert_array_equal(once.codes, again.codes)
    np.testing.assert_allclose(once.scales.astype(float), again.scales.astype(float), rtol=2e-3)


@pytest.mark.parametrize("bits", ALL_BITS)
def test_a_member_equal_to_the_centroid_comes_back_as_it_is(bits):
    centroid = kept_centroid(cluster(5))
    facets = encode_facets(np.stack([centroid, centroid]), centroid, bits=bits)
    assert facets.scales.tolist() == [0.0, 0.0]
    np.testing.assert_array_equal(decode_facets(facets, centroid, bits=bits), [centroid, centroid])


def test_a_centroid_of_zeros_stays_one():
    kept = encode_centroid(np.zeros(4, np.float32))
    assert kept.scale == 0.0
    assert decode_centroid(kept).tolist() == [0.0] * 4


def test_a_centroid_is_within_half_a_step():
    mean = cluster(6).mean(axis=0)
    kept = encode_centroid(mean)
    assert isinstance(kept, Centroid)
    assert (kept.codes.dtype, np.abs(kept.codes).max()) == (np.int8, 127)
    assert np.abs(decode_centroid(kept) - mean).max() <= kept.scale * 0.5001


@pytest.mark.parametrize("bits", ALL_BITS)
@pytest.mark.parametrize("dim", [384, 5])
def test_scores_need_no_decoded_vectors(bits, dim, monkeypatch):
    monkeypatch.setattr(facet_codes, "SLICE_NUMBERS", 3 * dim)
    vectors = cluster(7, count=20, dim=dim)
    centroids = np.stack([kept_centroid(vectors[:10])] * 10 + [kept_centroid(vectors[10:])] * 10)
    facets = encode_facets(vectors, centroids, bits=bits)
    query = cluster(8, count=1, dim=dim)[0]
    scores = score_facets(query, facets, centroids @ query, bits=bits)
    np.testing.assert_allclose(scores, decode_facets(facets, centroids, bits=bits) @ query, atol=1e-5)


def test_no_facets_are_no_trouble():
    none, centroid = np.zeros((0, 8), np.float32), np.zeros(8, np.float32)
    facets = encode_facets(none, centroid, bits=4)
    assert facets.codes.shape == (0, 4)
    assert decode_facets(facets, centroid, bits=4).shape == (0, 8)
    assert score_facets(centroid, facets, np.zeros(0, np.float32), bits=4).shape == (0,)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e5])
def test_a_number_that_no_scale_can_hold_is_refused(bad):
    with pytest.raises(ValueError, match="residual"):
        encode_facets(np.array([[bad, 0.0]], np.float32), np.zeros(2, np.float32), bits=4)


def test_reading_codes_needs_numpy_and_nothing_else():
    source = Path(facet_codes.__file__).read_text()
    assert [line for line in source.splitlines() if line.startswith(("import ", "from "))] == [
        "from typing import Literal, NamedTuple",
        "import numpy as np",
        "from numpy.typing import NDArray",
    ]
