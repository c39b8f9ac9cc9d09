"""The forward pass of a BERT encoder in numpy, mean-pooled: the whole of what all-MiniLM-L6-v2 computes.

Arrays in, arrays out. B texts of L tokens, H numbers a token, A heads; a batch travels as (B*L, H) so that every
matrix product is one call of BLAS. Post-norm encoder as in Devlin et al. 2019, without dropout.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

type Floats = NDArray[np.float32]

# A block of activations that stays in a core's second-level cache through the ten passes of `gelu`.
_GELU_BLOCK = 32_768


class Linear(NamedTuple):
    """x -> x @ weight.T + bias."""

    weight: Floats  # (out, in)
    bias: Floats  # (out,)


class Norm(NamedTuple):
    """Layer normalisation over the last axis."""

    scale: Floats  # (H,)
    shift: Floats  # (H,)


class Layer(NamedTuple):
    """One block: attention, then two dense steps, each added to its input and normalised."""

    query_key_value: Linear  # H -> 3H
    attended: Linear  # H -> H
    attended_norm: Norm
    widen: Linear  # H -> F
    narrow: Linear  # F -> H
    narrow_norm: Norm


class Bert(NamedTuple):
    """The weights, and the two numbers that no shape tells."""

    words: Floats  # (vocabulary, H)
    places: Floats  # (longest text in tokens, H), the row of token type 0 already added
    embedding_norm: Norm
    layers: tuple[Layer, ...]
    heads: int  # divides H
    norm_epsilon: float


def mean_token(bert: Bert, ids: NDArray[np.integer], real: NDArray[np.bool_]) -> Floats:
    """The mean of the last layer's real tokens, (B, H).

    ids: (B, L) rows of `bert.words`, L <= len(bert.places). real: (B, L), False at padding; each row has a True.
    """
    batch, length = ids.shape
    hidden = (bert.words[ids] + bert.places[:length]).reshape(batch * length, -1)
    hidden = _normalise(hidden, bert.embedding_norm, bert.norm_epsilon)
    # Added to the scores (B, A, L, L): no token attends to padding.
    penalty = None if real.all() else np.where(real, 0.0, -np.inf).astype(np.float32)[:, None, None, :]
    for layer in bert.layers:
        hidden = _block(hidden, layer, bert, penalty, batch)
    weight = real.astype(np.float32)[:, None, :]
    return (weight @ hidden.reshape(batch, length, -1))[:, 0, :] / weight.sum(axis=2)


def gelu(x: Floats) -> None:
    """x -> x * Phi(x) in place, Phi the normal distribution function; x is C-contiguous.

    Phi comes from erfc by Abramowitz & Stegun 7.1.26, absolute error 1.5e-7: with a = |x|,
    x * Phi(x) = max(x, 0) - a/2 * erfc(a / sqrt(2)). numpy has no erf, and scipy's import costs more than this pass.
    """
    flat = x.reshape(-1)
    for start in range(0, flat.size, _GELU_BLOCK):
        block = flat[start : start + _GELU_BLOCK]
        magnitude = np.abs(block)
        t = 1.0 / (1.0 + np.float32(0.3275911 / np.sqrt(2.0)) * magnitude)
        tail = np.full_like(t, 1.061405429)
        for coefficient in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
            tail *= t
            tail += np.float32(coefficient)
        tail *= t
        np.square(block, out=t)
        t *= np.float32(-0.5)
        tail *= np.exp(t, out=t)
        tail *= magnitude
        tail *= np.float32(0.5)
        np.maximum(block, 0.0, out=block)
        block -= tail


def _block(hidden: Floats, layer: Layer, bert: Bert, penalty: Floats | None, batch: int) -> Floats:
    mixed = _linear(_attend(_linear(hidden, layer.query_key_value), bert.heads, penalty, batch), layer.attended)
    mixed += hidden
    mixed = _normalise(mixed, layer.attended_norm, bert.norm_epsilon)
    wide = _linear(mixed, layer.widen)
    gelu(wide)
    dense = _linear(wide, layer.narrow)
    dense += mixed
    return _normalise(dense, layer.narrow_norm, bert.norm_epsilon)


def _attend(projected: Floats, heads: int, penalty: Floats | None, batch: int) -> Floats:
    """Scaled dot-product attention: (B*L, 3H) of query, key, value -> (B*L, H)."""
    tokens, width = projected.shape
    parts = projected.reshape(batch, tokens // batch, 3, heads, width // (3 * heads))
    query, key, value = parts.transpose(2, 0, 3, 1, 4)  # each (B, A, L, H/A)
    scores = query @ key.swapaxes(-1, -2)
    scores *= np.float32(1.0 / np.sqrt(query.shape[-1]))
    if penalty is not None:
        scores += penalty
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    return (scores @ value).transpose(0, 2, 1, 3).reshape(tokens, width // 3)


def _linear(x: Floats, step: Linear) -> Floats:
    out = x @ step.weight.T
    out += step.bias
    return out


def _normalise(x: Floats, norm: Norm, epsilon: float) -> Floats:
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = np.square(centred).mean(axis=-1, keepdims=True)
    centred /= np.sqrt(variance + np.float32(epsilon))
    centred *= norm.scale
    centred += norm.shift
    return centred
