import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kernels.activation import activate, at_rest, coarse, dequantise, quantise


def test_replayed_memories_wake_to_the_level_and_none_is_put_to_sleep_by_it():
    state = at_rest(8)
    state = state._replace(activation=state.activation.at[2].set(0.9))
    woken = activate(state, jnp.array([1, 2, 8, 8]), level=0.5)
    assert np.asarray(woken.activation).tolist() == np.float32([0, 0.5, 0.9, 0, 0, 0, 0, 0]).tolist()
    assert int(woken.step) == 0


def test_every_level_of_a_checkpoint_comes_back_as_itself():
    levels = np.arange(256, dtype=np.uint8)
    assert (np.asarray(quantise(dequantise(jnp.asarray(levels)))) == levels).all()


def test_what_is_passed_on_from_batch_to_batch_is_the_same_after_a_checkpoint():
    levels = jnp.arange(256, dtype=jnp.uint8)
    kept = coarse(levels)
    assert len(np.unique(np.asarray(kept))) == 128
    assert (np.asarray(coarse(quantise(dequantise(kept)))) == np.asarray(kept)).all()


@settings(deadline=None, max_examples=50)
@given(hnp.arrays(np.float32, 64, elements=st.floats(-1, 2, width=32)))
def test_a_checkpoint_is_off_by_half_a_level_at_most(activation):
    read = np.asarray(dequantise(quantise(jnp.asarray(activation))))
    assert (np.abs(read - np.clip(activation, 0, 1)) <= 0.5 / 255 + 1e-6).all()
