"""What the simulated service has promised its users: memories, edges, and that what is forgotten can come back."""

from collections.abc import Iterator, Sequence

from benchmarks.proof import simulated_checks as checks
from benchmarks.proof.ledger import Ledger
from benchmarks.proof.simulated_service import Service
from benchmarks.proof.virtual_time import VirtualClock
from dreamsvc import entropy
from dreamsvc.v1.config_pb2 import Config
from dreamsvc.v1.memory_service_pb2 import RememberRequest

SECONDS_A_DAY = 86_400


class Promises:
    """Goes on over all runs of the service."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        # By space and key.
        self.ledger = Ledger()
        self._ids: dict[str, str] = {}
        # By the ids of their ends.
        self._edges: set[tuple[str, str]] = set()
        # In seconds that passed.
        self._forgotten_s: dict[str, float] = {}
        # The fewest that a run had.
        self._restore_days = 3650
        self._clock_was_ahead = False

    def run_begins(self, config: Config) -> None:
        self._restore_days = min(self._restore_days, config.store.restore_days)

    def clock_is_ahead(self) -> None:
        """From here on the store may believe that more time has passed than did."""
        self._clock_was_ahead = True

    def stored(self, request: RememberRequest, ids: Sequence[str]) -> None:
        """Memories and edges were acknowledged."""
        space = request.space
        self._ids.update((f"{space}/{memory.key}", uid) for memory, uid in zip(request.memories, ids, strict=True))
        for edge in request.edges:
            ends = (self._ids.get(f"{space}/{edge.source}"), self._ids.get(f"{space}/{edge.target}"))
            if ends[0] and ends[1]:
                self._edges.add((ends[0], ends[1]))

    def forgotten(self, key: str) -> None:
        self._forgotten_s[key] = self._clock.passed_s

    def let_go(self, service: Service, key: str) -> bool:
        """Whether a memory was purged, and not too early; nothing is expected of it any more."""
        space, _, name = key.partition("/")
        uid = self._ids.get(key) or entropy.uuid_for(space, name)
        gone = checks.is_purged(service, uid) and self._may_be_purged(key)
        if gone:
            self.ledger.acked.pop(key, None)
        return gone

    def _may_be_purged(self, key: str) -> bool:
        """What stands behind another memory is no user's business, nor when it goes."""
        state = self.ledger.acked.get(key)
        if state is None or state.alive or self._clock_was_ahead:
            return True
        return self._clock.passed_s - self._forgotten_s.get(key, 0.0) >= self._restore_days * SECONDS_A_DAY

    def broken(self, service: Service) -> Iterator[str]:
        """What is not as it was promised; what calls in flight made of memories is promised from then on."""
        yield from checks.of_ledger(service, self.ledger, self._ids, lambda key: self.let_go(service, key))
        yield from checks.of_edges(service, self._edges)
