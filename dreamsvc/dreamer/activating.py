"""How awake the memories are in a replay: the SRC steps of each batch, and the tuner that steers them (REQ-DREAM-014).

A step is compiled for a number of places and takes as long as these, however few it fills. So it is compiled for
several: the tuner may fill three times as many as are configured, and mostly fills a quarter of them. What a step does
depends only on those that it fills.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from dreamsvc.dreamer import tuner
from dreamsvc.dreamer.throttle import Throttle
from dreamsvc.dreamer.tuner import Observed, Rates
from dreamsvc.v1.config_pb2 import DreamConfig
from dreamsvc.v1.dream_pb2 import Tuning
from kernels.activation import activate, coarse, dequantise, quantise
from kernels.arrays import Graph, SrcInfo, SrcState
from kernels.compile_ahead import Call, Sizes, replay_calls
from kernels.padding import capacity
from kernels.src import src_chunk

ACTIVATION_FLOOR = 0.01
REPLAY_LEVEL = 1.0
RANDOM_AMPLITUDE = 1.0
# With a tuner, the largest sparsity is divided by these.
SMALLER = (1, 3, 9)


class Mind(NamedTuple):
    """What a batch begins with, besides the weights."""

    levels: jax.Array  # u8[N], activation in 1/255
    steps: int  # SRC steps taken
    tuning: Tuning


class Learned(NamedTuple):
    """Edges that a batch moved."""

    strengthened: int
    weaker: int  # or pruned


class Woken(NamedTuple):
    """What the SRC steps of a batch did."""

    activation: jax.Array  # f32[N]
    mean_activation: float  # over all living memories, after the last step
    active_share: float  # of them, awake after it
    candidates: int  # memories that were tried, repetitions included


class Activating:
    """The SRC steps of one dream."""

    def __init__(self, config: DreamConfig, key: jax.Array, throttle: Throttle, *, nodes: int) -> None:
        """key: for all draws of the steps. nodes: capacity of the graph."""
        self._src = config.src
        self._tuner = config.tuner
        self._steps = config.nrem.src_steps
        self._key = key
        self._throttle = throttle
        largest = tuner.largest_sparsity(config.src, config.tuner)
        shares = [largest / less for less in SMALLER] if config.tuner.enabled else [largest]
        # Enough for the sparsity at full capacity.
        self._places = sorted({capacity(int(nodes * share) + 1) for share in shares})

    def calls(self, sizes: Sizes, *, learning_rate: float) -> Iterator[Call]:
        """All that a replay of these sizes calls, the step once for each number of places."""
        for number, places in enumerate(self._places):
            made = replay_calls(sizes._replace(slots=places), learning_rate=learning_rate)
            yield from (call for call in made if not number or call.name == "src_chunk")

    def begin(self, levels: jax.Array, steps: int, tuning: Tuning | None) -> Mind:
        """The mind as a checkpoint has it; tuning: None where nothing is tuned yet."""
        return Mind(levels, steps, tuning or tuner.begin(self._src, self._tuner))

    def warm_up(self, mind: Mind, graph: Graph, weight: jax.Array, nobody: jax.Array) -> jax.Array:
        """Takes a step with each number of places; what comes of it, f32[N], is thrown away."""
        state = _resting(mind, nobody)
        for places in self._places:
            state, _ = self._step(graph, weight, state, self._rates(mind), places, 1)
        return state.activation

    def rehearsed(self, mind: Mind, graph: Graph, weight: jax.Array, batches: Sequence[jax.Array]) -> Mind:
        """What the first of these batches begins with: where they are few, the tuner has settled. Raises Stopped."""
        calm = 0
        for number in range(tuner.rehearsals(len(batches)) if self._tuner.enabled else 0):
            woken = self.wake(mind, graph, weight, batches[number % len(batches)])
            seen = Observed(0, int(graph.alive_count), woken.mean_activation, woken.candidates, 0, 0, 0)
            tuning = tuner.rehearsed(mind.tuning, seen, self._tuner)
            calm = calm + 1 if tuning.adjustments == mind.tuning.adjustments else 0
            mind = Mind(coarse(quantise(woken.activation)), mind.steps + self._steps, tuning)
            if calm == tuner.CALM:
                break
        return mind

    def wake(self, mind: Mind, graph: Graph, weight: jax.Array, rows: jax.Array) -> Woken:
        """Wakes memories and takes the SRC steps of a batch, in chunks. Raises Stopped.

        weight: f32[E]. rows: i32[k], N in the empty places.
        """
        living = max(int(graph.alive_count), 1)
        rates = self._rates(mind)
        places = self._places_for(rates.sparsity * living)
        state, left, candidates = _resting(mind, rows), self._steps, 0
        while True:
            count = self._throttle.steps(left)
            work = partial(self._step, graph, weight, state, rates, places, count)
            state, info = self._throttle.run_steps(count, work)
            candidates += int(info.candidates)
            left -= count
            if not left:
                mean = int(info.activation_sum) / 255 / living
                return Woken(state.activation, mean, int(info.active) / living, candidates)

    def after(
        self, mind: Mind, woken: Woken, learned: Learned, rows: NDArray[np.int32], *, batch: int, living: int
    ) -> Mind:
        """What the next batch begins with; rows: those that this one replayed, the `batch`th of the dream."""
        levels = coarse(quantise(woken.activation))
        steps = mind.steps + self._steps
        if not self._tuner.enabled:
            return Mind(levels, steps, mind.tuning)
        visited = tuner.count_visited(
            np.asarray(mind.levels), np.asarray(levels), rows, decay_rate=self._src.decay_rate, steps=self._steps
        )
        seen = Observed(batch, living, woken.mean_activation, woken.candidates, visited, *learned)
        return Mind(levels, steps, tuner.tuned(mind.tuning, seen, self._tuner))

    def _rates(self, mind: Mind) -> Rates:
        return tuner.rates_of(mind.tuning if self._tuner.enabled else self._src)

    def _places_for(self, candidates: float) -> int:
        """The fewest places compiled for that hold so many candidates."""
        return next((places for places in self._places if places > candidates), self._places[-1])

    def _step(
        self, graph: Graph, weight: jax.Array, state: SrcState, rates: Rates, places: int, count: int
    ) -> tuple[SrcState, SrcInfo]:
        done = src_chunk(
            self._key,
            state,
            graph,
            weight,
            count,
            sparsity=rates.sparsity,
            randomness=rates.randomness,
            clustering=rates.clustering,
            decay_rate=self._src.decay_rate,
            amplitude=RANDOM_AMPLITUDE,
            floor=ACTIVATION_FLOOR,
            slots=places,
        )
        jax.block_until_ready(done)
        return done


def _resting(mind: Mind, rows: jax.Array) -> SrcState:
    """The state before the first step: as the last batch left it, and these memories awake."""
    state = SrcState(dequantise(mind.levels), jnp.asarray(mind.steps, jnp.int32))
    return activate(state, rows, level=REPLAY_LEVEL)
