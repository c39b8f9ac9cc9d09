"""Looks up what metrics show of this moment: spaces, store, subsystems."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from dreamsvc import __version__
from dreamsvc.clock import Clock
from dreamsvc.dream.dreamers import Dreamers
from dreamsvc.dream.scheduler import Scheduler
from dreamsvc.dream.telling import VitalSigns
from dreamsvc.errors import DreamsvcError
from dreamsvc.memory.journal import Journal
from dreamsvc.memory.store import Store
from dreamsvc.server.health import DISABLED, SERVING
from dreamsvc.telemetry.counts import OTHER, Counts
from dreamsvc.telemetry.gauges import Account, Gauges, SpaceGauges, StoreGauges
from dreamsvc.v1.dream_pb2 import Dream, SleepState
from dreamsvc.v1.health_pb2 import Health


class _Moment(NamedTuple):
    """What is known on the event loop."""

    spaces: dict[str, VitalSigns]
    last: dict[str, Dream]
    health: Health
    dreamers: list[int]
    account: Account


class Vitals:
    """Reads them, half on the event loop and half in a thread: counting a million memories takes a moment."""

    def __init__(
        self,
        store: Store,
        journal: Journal,
        scheduler: Scheduler,
        dreamers: Dreamers,
        look: Callable[[], Health],
        counts: Counts,
        clock: Clock,
    ) -> None:
        self._store = store
        self._journal = journal
        self._scheduler = scheduler
        self._dreamers = dreamers
        self._look = look
        self._counts = counts
        self._started_s = clock.now_us() / 1e6
        # Of spaces whose last night that was applied is of an earlier run; None where there is none.
        self._earlier: dict[str, Dream | None] = {}

    async def read(self) -> Gauges:
        names = self._store.space_names()
        moment = _Moment(
            spaces={name: self._scheduler.telling.vital_signs(name) for name in names},
            last=dict(self._counts.last),
            health=self._look(),
            dreamers=self._dreamers.pids,
            account=self._scheduler.governor.account,
        )
        return await asyncio.to_thread(self._gauges, moment)

    def _gauges(self, moment: _Moment) -> Gauges:
        states = Counter(_word(SleepState.Name(signs.sleep_state), "SLEEP_STATE_") for signs in moment.spaces.values())
        known = [_word(name, "SLEEP_STATE_") for name, number in SleepState.items() if number]
        return Gauges(
            version=__version__,
            started_s=self._started_s,
            spaces=self._spaces(moment),
            sleep_states={state: states[state] for state in known},
            store=self._of_store(),
            subsystems={
                one.name: None if one.state == DISABLED else one.state == SERVING for one in moment.health.subsystems
            },
            dreamers=moment.dreamers,
            account=moment.account,
        )

    def _spaces(self, moment: _Moment) -> dict[str, SpaceGauges]:
        found: dict[str, SpaceGauges] = {}
        for name, signs in moment.spaces.items():
            label = self._counts.spaces.label(name)
            view = self._store.graph(name).view
            last = None if label == OTHER else moment.last.get(label) or self._of_earlier_run(name)
            one = SpaceGauges(
                memories=int(np.count_nonzero(view.findable())),
                edges=int(np.count_nonzero(view.edges_alive[: view.m])),
                news=signs.news,
                since_night_s=signs.since_night_s,
                cooldown_s=signs.cooldown_s,
                activity=signs.activity,
                last=last,
            )
            found[label] = _together(found[label], one) if label in found else one
        return found

    def _of_earlier_run(self, space: str) -> Dream | None:
        if space not in self._earlier:
            try:
                row = self._journal.latest(space, [Dream.STATE_SUCCEEDED])
            except DreamsvcError:
                # A store in trouble is told of elsewhere; it is asked again the next time.
                return None
            self._earlier[space] = None if row is None else row.dream
        return self._earlier[space]

    def _of_store(self) -> StoreGauges:
        database, log = self._store.file_bytes()
        try:
            dreams, checkpoints = self._journal.count_states()
        except DreamsvcError:
            dreams, checkpoints = dict[int, int](), 0
        names = {number: _word(name, "STATE_") for name, number in Dream.State.items() if number}
        return StoreGauges(
            takes_changes=not self._store.database.trouble,
            database_bytes=database,
            log_bytes=log,
            free_bytes=self._store.free_bytes(),
            waiting={priority.name.lower(): number for priority, number in self._store.database.waiting().items()},
            dreams={name: dreams.get(number, 0) for number, name in names.items()},
            checkpoints=checkpoints,
        )


def _together(one: SpaceGauges, other: SpaceGauges) -> SpaceGauges:
    """Two spaces under one label: sums, and of times the longer one."""
    since = [space.since_night_s for space in (one, other) if space.since_night_s is not None]
    return SpaceGauges(
        memories=one.memories + other.memories,
        edges=one.edges + other.edges,
        news=one.news or other.news,
        since_night_s=max(since, default=None),
        cooldown_s=max(one.cooldown_s, other.cooldown_s),
        activity=one.activity + other.activity,
        last=None,
    )


def _word(name: str, prefix: str) -> str:
    return name.removeprefix(prefix).lower()
