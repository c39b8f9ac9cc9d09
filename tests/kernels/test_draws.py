import jax
import jax.numpy as jnp
import numpy as np

from kernels.draws import below, chance, words

PLACES, EACH = 2**16, 8


def drawn() -> np.ndarray:
    return np.stack(words(jax.random.key(4), PLACES, EACH), axis=1)


def test_every_bit_of_every_word_is_a_fair_coin_and_none_follows_another():
    bits = np.unpackbits(drawn().view(np.uint8), axis=1).astype(np.float64)
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 5 * 0.5 / np.sqrt(PLACES)
    correlation = np.corrcoef(bits, rowvar=False) - np.eye(32 * EACH)
    assert np.abs(correlation).max() < 5.5 / np.sqrt(PLACES)


def test_words_fall_evenly_into_256_boxes():
    for word in drawn().T:
        for boxes in (word >> 24, word & 255):
            counts = np.bincount(boxes, minlength=256)
            chi_square = ((counts - PLACES / 256) ** 2 / (PLACES / 256)).sum()
            assert 255 - 5 * np.sqrt(510) < chi_square < 255 + 5 * np.sqrt(510)


def test_a_place_draws_the_same_however_many_there_are():
    few, many = words(jax.random.key(1), 100, 3), words(jax.random.key(1), 1000, 3)
    for a, b in zip(few, many, strict=True):
        np.testing.assert_array_equal(a, b[:100])


def test_chance_never_happens_at_0_always_at_1_and_as_often_as_asked_between():
    bits = words(jax.random.key(2), PLACES, 1)[0]
    bits = jnp.concatenate([bits, jnp.array([0, 2**32 - 1], jnp.uint32)])
    assert not chance(bits, 0.0).any()
    assert chance(bits, 1.0).all()
    assert abs(float(chance(bits, 0.3).mean()) - 0.3) < 0.01


def test_below_covers_its_range_and_is_0_where_there_is_none():
    bits = words(jax.random.key(3), PLACES, 1)[0]
    counts = np.bincount(np.asarray(below(bits, jnp.int32(7))))
    assert len(counts) == 7
    assert np.abs(counts / PLACES - 1 / 7).max() < 0.01
    assert not below(bits, jnp.int32(0)).any()
