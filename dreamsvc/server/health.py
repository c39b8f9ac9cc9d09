"""What of the service does its work, part by part: one that fails leaves the others running (API-3, API-5)."""

from collections.abc import Iterator
from typing import NamedTuple

from dreamsvc import __version__
from dreamsvc.clock import Clock, to_timestamp
from dreamsvc.config import InForce
from dreamsvc.dream.dreamers import Dreamers
from dreamsvc.memory.embedding import TextEmbedding
from dreamsvc.memory.store import Store
from dreamsvc.reloading import Reloading
from dreamsvc.v1 import health_pb2
from dreamsvc.v1.health_pb2 import Health, HealthState, Subsystem

SERVING = health_pb2.HEALTH_STATE_SERVING
PARTIAL = health_pb2.HEALTH_STATE_PARTIAL
NOT_SERVING = health_pb2.HEALTH_STATE_NOT_SERVING
DISABLED = health_pb2.HEALTH_STATE_DISABLED
MEMORY, STORE, EMBEDDER, DREAMER, SIMULATOR = "memory", "store", "embedder", "dreamer", "simulator"
CONFIGURATION = "configuration"
SUBSYSTEMS = (MEMORY, STORE, EMBEDDER, DREAMER, SIMULATOR, CONFIGURATION)


class _Found(NamedTuple):
    state: HealthState.ValueType
    message: str = ""
    hint: str = ""


_GOOD = _Found(SERVING)


class HealthOfAll:
    """Looks at each part and remembers since when it is as it is."""

    def __init__(
        self,
        store: Store,
        embedding: TextEmbedding,
        dreamers: Dreamers,
        config: InForce,
        reloading: Reloading,
        clock: Clock,
    ) -> None:
        self._store = store
        self._embedding = embedding
        self._dreamers = dreamers
        self._config = config
        self._reloading = reloading
        self._clock = clock
        self._closing = False
        began_us = clock.now_us()
        self._known: dict[str, tuple[HealthState.ValueType, int]] = dict.fromkeys(SUBSYSTEMS, (SERVING, began_us))

    def close(self) -> None:
        """From now on nothing is served any more."""
        self._closing = True

    def look(self) -> Health:
        """How it is now; to be asked every now and then, since `since` is when a change was seen."""
        subsystems = [self._noted(name, found) for name, found in self._parts()]
        states = {subsystem.name: subsystem.state for subsystem in subsystems}
        status = SERVING
        if states[MEMORY] == NOT_SERVING:
            status = NOT_SERVING
        elif NOT_SERVING in states.values():
            status = PARTIAL
        return Health(
            status=status,
            subsystems=subsystems,
            mesh_available=states[MEMORY] == SERVING,
            simulator_available=states[SIMULATOR] == SERVING,
            version=__version__,
        )

    def _noted(self, name: str, found: _Found) -> Subsystem:
        state, since_us = self._known[name]
        if state != found.state:
            since_us = self._clock.now_us()
            self._known[name] = found.state, since_us
        since = to_timestamp(since_us)
        return Subsystem(name=name, state=found.state, since=since, message=found.message, hint=found.hint)

    def _parts(self) -> Iterator[tuple[str, _Found]]:
        if self._closing:
            for name in SUBSYSTEMS:
                yield name, _Found(NOT_SERVING, "the service is shutting down", "connect again in a moment")
            return
        yield MEMORY, _GOOD
        yield STORE, self._of_store()
        yield EMBEDDER, self._of_embedder()
        dreamer = self._of_dreamer()
        yield DREAMER, dreamer
        yield SIMULATOR, self._of_simulator(dreamer)
        yield CONFIGURATION, self._of_configuration()

    def _of_configuration(self) -> _Found:
        last = self._reloading.last
        if last is None or last.ok:
            # New values that wait for a restart are told and trouble nobody.
            return _Found(SERVING, self._reloading.notice)
        return _Found(NOT_SERVING, self._reloading.notice, "mend it: it is read again by itself, or by `config reload`")

    def _of_store(self) -> _Found:
        trouble, damage = self._store.database.trouble, self._store.database.damage
        if trouble:
            return _Found(NOT_SERVING, trouble, "recalls go on; changes are taken again when the disk takes them")
        if damage:
            return _Found(NOT_SERVING, damage, "run dreamsvc doctor; whatever does not need the damaged part goes on")
        return _GOOD

    def _of_embedder(self) -> _Found:
        embedding, kind = self._embedding, self._config.embedder.kind
        if kind == "none":
            return _Found(DISABLED, "no embedder is configured", "set embedder.kind, or send vectors")
        if not embedding.opened or not embedding.notice:
            return _Found(SERVING, embedding.notice)
        if kind == "auto" and embedding.id == "none":
            return _Found(DISABLED, embedding.notice, "memories are found by their words and edges")
        return _Found(NOT_SERVING, embedding.notice, "memories are found by their words meanwhile")

    def _of_simulator(self, dreamer: _Found) -> _Found:
        if not self._config.features.simulate_enabled:
            return _Found(DISABLED, "simulating is switched off", "set features.simulate_enabled")
        return dreamer

    def _of_dreamer(self) -> _Found:
        if not self._config.dream.enabled:
            return _Found(DISABLED, "dreaming is switched off", "set dream.enabled")
        if self._dreamers.trouble:
            return _Found(NOT_SERVING, self._dreamers.trouble, "queries go on; the next Trigger tries again")
        return _GOOD
