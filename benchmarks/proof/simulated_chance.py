"""Chance in the simulated world: how long things take, how dreamers behave, how the service is configured."""

from random import Random

from benchmarks.proof.scripted_dreamer import Temper, nonsense
from dreamsvc import contract
from dreamsvc.config import defaults
from dreamsvc.dreamer.v1.dreamer_service_pb2 import RunDreamResponse
from dreamsvc.v1.config_pb2 import Config

KINDS = ("dies", "wedges", "deaf", "nonsense", "fails", "fails silently", "breaks", "leaves", "gives up", "nothing")


class Chance:
    """Draws everything from one seed."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        # Nothing is drawn any more: all is well, and nothing is slow.
        self.good = False
        # The disk and the threads are slow for a while; writes fail for a while, and where.
        self.slow = False
        self.failing = ""

    def thread_delay_s(self) -> float:
        return self._delay_s(0.001)

    def write_delay_s(self) -> float:
        return self._delay_s(0.003)

    def _delay_s(self, usual_s: float) -> float:
        if self.good:
            return usual_s
        drawn = self.random.random()
        if self.slow and drawn < 0.3:
            return self.random.uniform(0.1, 3)
        return self.random.uniform(0, 2 * usual_s) if drawn < 0.97 else self.random.uniform(0.01, 0.5)

    def spawn_s(self) -> float:
        if self.good or self.random.random() < 0.9:
            return 0.4
        return self.random.choice((0.01, 4.0, 30.0))

    def temper(self) -> Temper:
        random = self.random
        if self.good:
            return Temper()
        return Temper(
            kind="well" if random.random() < 0.65 else random.choice(KINDS),
            after=random.choice((0, 1, 2, 5, 9, 20)),
            pause_s=random.choices((0.02, 0.3, 3.0, 40.0), (4, 6, 3, 1))[0],
            stop_s=random.choices((0.001, 0.02, 0.09, 5.0), (6, 2, 1, 1))[0],
            load_s=random.choices((0.05, 1.0, 20.0), (5, 3, 1))[0],
            funeral_s=random.choices((0.0005, 0.01, 0.7, 8.0), (8, 2, 1, 1))[0],
        )

    def nonsense(self) -> RunDreamResponse:
        return nonsense(self.random)

    def config(self) -> Config:
        """Of a run of the service."""
        random, config = self.random, defaults()
        dream = config.dream
        dream.max_parallel = random.choice((1, 1, 2))
        dream.propose = random.random() < 0.1
        dream.trigger.automatic = random.random() < 0.95
        dream.trigger.idle_duration_minutes = random.choice((0.1, 1, 10))
        dream.trigger.cooldown_minutes = random.choice((0, 1, 30, 120))
        dream.trigger.min_cycle_gap_minutes = random.choice((0, 0, 10, 60))
        dream.trigger.cooldown_for_manual = random.random() < 0.2
        dream.trigger.activity_threshold = random.choice((0.01, 10.0)) if random.random() < 0.3 else 0.15
        dream.resources.wake_latency_ms = random.choice((10, 100, 100, 1000))
        dream.resources.dreamer_idle_seconds = random.choice((0, 5, 60, 3600))
        dream.resources.dreamer_start_seconds = random.choice((5, 25, 120))
        dream.resources.checkpoint_seconds = random.choice((0.05, 1, 30))
        dream.fault.recovery_strategy = random.choice(("abort", "retry", "skip", "rollback"))
        dream.fault.max_retries = random.choice((0, 1, 3))
        dream.fault.silence_seconds = random.choice((5, 60))
        dream.hold_spaces.extend(["home"] if random.random() < 0.1 else [])
        config.store.restore_days = random.choice((1, 30))
        contract.check(config)
        return config
