"""Nights of the real dreamer, in which it is killed, stopped for good, woken, and its server killed, in every part.

Each night dreams the same dream of the same store, and whatever happened in it, it has to end as an uninterrupted one.
Clients write to another space meanwhile.
"""

import itertools
import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

import grpc

from benchmarks.proof import crash_checks, crash_dreams, crash_template
from benchmarks.proof.crash_aims import Tally
from benchmarks.proof.crash_clients import Client, Ending
from benchmarks.proof.crash_servers import PATIENCE_S, Calls, Server, ServerHangs, Servers, Tables, processes
from benchmarks.proof.crash_template import BUSY, SETTINGS, SLEEPY, Template
from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.dream_pb2 import Dream, SubPhase
from dreamsvc.v1.dream_service_pb2 import AbortRequest, GetDreamRequest, TriggerRequest

# So slow that each part lasts for a while.
SLOWLY: Tables = SETTINGS | {
    "dream": SETTINGS["dream"] | {"resources": SETTINGS["dream"]["resources"] | {"max_gpu_usage": 0.4}}
}
NIGHT_S = 240.0
LOOK_S = 0.003
# An attack comes when a part of the dream is told of, or up to so much later.
LATER_S = 0.08
# The parts of a night in their order; the probes come once more, after the links of REM.
_UNKNOWN, _NREM, _REM = dream_pb2.DREAM_PHASE_UNSPECIFIED, dream_pb2.DREAM_PHASE_NREM, dream_pb2.DREAM_PHASE_REM
PARTS = (
    (_UNKNOWN, dream_pb2.SUB_PHASE_UNSPECIFIED),
    (_NREM, dream_pb2.SUB_PHASE_HEBBIAN_REPLAY),
    (_NREM, dream_pb2.SUB_PHASE_SHORTCUTS),
    (_NREM, dream_pb2.SUB_PHASE_REDUNDANCY_ELIMINATION),
    (_NREM, dream_pb2.SUB_PHASE_CONSOLIDATION),
    (_NREM, dream_pb2.SUB_PHASE_SCHEMA_EXTRACTION),
    (_NREM, dream_pb2.SUB_PHASE_PROBES),
    (_REM, dream_pb2.SUB_PHASE_LINKING),
    (_REM, dream_pb2.SUB_PHASE_INDEX_CONSOLIDATION),
    (_REM, dream_pb2.SUB_PHASE_PROBES),
    (_REM, dream_pb2.SUB_PHASE_POSITIONS),
    (_REM, dream_pb2.SUB_PHASE_SYNTHETIC_QUERIES),
    (_REM, dream_pb2.SUB_PHASE_BLIND_SPOTS),
)
KILL, STOP, SERVER, WAKE = "kill", "stop", "server", "wake"
_OVER = (Dream.STATE_FOLDING, Dream.STATE_SUCCEEDED)


class Attack(NamedTuple):
    # Place among PARTS.
    part: int
    what: str


def attacks(nights: int, each: int, phase: int, random: Random) -> list[list[Attack]]:
    """For each night, in the order of the parts: every part of the phase comes equally often, and so does each kind."""
    known = [place for place, (of, _) in enumerate(PARTS) if of in (_UNKNOWN, _NREM) or phase != _NREM]
    parts = itertools.cycle(random.sample(known, len(known)))
    kinds = itertools.cycle((KILL, STOP, KILL, SERVER, KILL, WAKE))
    return [sorted(Attack(next(parts), next(kinds)) for _ in range(each)) for _ in range(nights)]


class Night:
    """One dream with attacks on it, from its trigger to what came of it."""

    def __init__(self, template: Template, directory: Path, seed: str, *, sabotage: str = "") -> None:
        self.tally = Tally()
        crash_template.copied(template, directory)
        self._wanted = template.night
        self._servers = Servers(directory, SLOWLY, sabotage=sabotage)
        self._random = Random(seed)
        self._client = Client(0, seed, [BUSY])
        self._triggers = 0
        self._dream_id = ""

    def run(self, attacks: Sequence[Attack]) -> Tally:
        """Until the dream is over, or until something is wrong."""
        try:
            server, calls = crash_template.started(self._servers)
            for attack in attacks:
                ending, thread = self._begin(calls)
                before = calls
                try:
                    over = self._until_part(calls, attack.part)
                    if not over:
                        server, calls = self._attack(attack.what, server, calls, ending)
                finally:
                    ending.near.set()
                    ending.over.set()
                    thread.join(PATIENCE_S)
                if calls is not before:
                    before.close()
                self._look(calls)
                if over or self.tally.wrong:
                    break
            if not self.tally.wrong:
                self._end(server, calls)
            calls.close()
            server.kill()
            if not self.tally.wrong:
                self.tally.wrong += self._servers.left_over()
        except (ServerHangs, grpc.RpcError) as error:
            self.tally.wrong.append(str(error))
        finally:
            self._servers.close()
        return self.tally

    # ── the dream ───────────────────────────────────────────────────────────────

    def _begin(self, calls: Calls) -> tuple[Ending, threading.Thread]:
        self._sleep(calls)
        ending = Ending()
        thread = threading.Thread(target=self._client.work, args=(calls, ending, "", 0.02))
        thread.start()
        return ending, thread

    def _sleep(self, calls: Calls) -> Dream:
        """Sees to it that the dream runs, unless it is over; what it does not survive is dreamed anew."""
        if self._dream_id:
            dream = self._dream(calls)
            if dream.state == Dream.STATE_RUNNING or dream.state in _OVER:
                return dream
        self._triggers += 1
        number = self._triggers
        request = TriggerRequest(
            space=SLEEPY, phase=self._wanted.phase, seed=self._wanted.seed, request_id=f"night {number}"
        )
        request.abort_on_query = False
        began: Dream = calls.dreams.Trigger(request, timeout=PATIENCE_S).dream
        self.tally.counts["resumed"] += began.id == self._dream_id
        self._dream_id = began.id
        return began

    def _until_part(self, calls: Calls, part: int) -> bool:
        """Waits until the dream has come so far; True where it is over."""
        until_s = time.monotonic() + NIGHT_S
        while time.monotonic() < until_s:
            dream = self._sleep(calls)
            if dream.state in _OVER:
                return True
            if _has_come(_place(dream), part):
                time.sleep(self._random.uniform(0, LATER_S))
                return False
            time.sleep(LOOK_S)
        raise ServerHangs(f"the dream does not come to {_name(part)} within {NIGHT_S:.0f} s")

    def _dream(self, calls: Calls) -> Dream:
        return calls.dreams.GetDream(GetDreamRequest(space=SLEEPY, dream_id=self._dream_id), timeout=PATIENCE_S).dream

    # ── attacks ─────────────────────────────────────────────────────────────────

    def _attack(self, what: str, server: Server, calls: Calls, ending: Ending) -> tuple[Server, Calls]:
        part = _name(_place(self._dream(calls)))
        match what:
            case "server":
                ending.near.set()
                server.kill()
                self.tally.counts.update(("kills", "server_kills", f"in {part}: {what}"))
                return crash_template.started(self._servers)
            case "kill" | "stop":
                dreamers = processes(lambda parent, command: parent == server.pid and " dreamer " in command)
                for pid in dreamers:
                    os.kill(pid, signal.SIGKILL if what == KILL else signal.SIGSTOP)
                if not dreamers:
                    return server, calls
                self.tally.counts.update(("kills", "dreamer_kills", f"in {part}: {what}"))
                if what == STOP:
                    self._wake(calls, part)
            case _:
                self.tally.counts[f"in {part}: {what}"] += 1
                self._wake(calls, part)
        return server, calls

    def _wake(self, calls: Calls, part: str) -> None:
        answer = calls.dreams.Abort(AbortRequest(space=SLEEPY), timeout=PATIENCE_S)
        self.tally.counts["wakes_killed"] += answer.killed
        if answer.was_dreaming and answer.dream.state not in (Dream.STATE_SUSPENDED, *_OVER):
            state = Dream.State.Name(answer.dream.state)
            self.tally.wrong.append(f"a wake in {part} left the dream {state}: {answer.dream.message}")

    # ── looking ─────────────────────────────────────────────────────────────────

    def _look(self, calls: Calls) -> None:
        """Nothing is lost, and nothing of the dream is applied unless it is over."""
        found = crash_checks.check(self._servers.store, [self._client.ledger], [], recovered=True)
        # Who looks beside a server may see a dream that is sealed and being folded.
        found.wrong += crash_checks.examined(self._servers.store, recovered=False)
        unchanged = crash_dreams.check_unchanged(self._servers.store, SLEEPY, self._wanted.before)
        if self._dream(calls).state not in _OVER:
            found.wrong += unchanged.wrong
            found.mismatched += unchanged.mismatched
        self.tally.note(found)
        self.tally.counts["acked_writes"] += self._client.ledger.writes
        self._client.ledger.writes = 0
        self.tally.wrong += self._client.wrong

    def _end(self, server: Server, calls: Calls) -> None:
        """The dream as it ends in the end, and what it made of the store."""
        until_s = time.monotonic() + NIGHT_S
        while (dream := self._sleep(calls)).state != Dream.STATE_SUCCEEDED:
            if time.monotonic() > until_s:
                raise ServerHangs(f"the dream is {Dream.State.Name(dream.state)} and does not end; {server.tail()}")
            time.sleep(LOOK_S)
        self._look(calls)
        wanted = self._wanted
        self.tally.counts["nights"] += 1
        self.tally.counts["dreams_folded"] += 1
        given = wanted._replace(
            after=crash_dreams.contents_of(self._servers.store, SLEEPY), journal=dream.report.journal_digest
        )
        if given != wanted:
            self.tally.counts["digest_mismatches"] += 1
            self.tally.wrong.append(f"undisturbed the night ends as {wanted}, with these attacks as {given}")


def _has_come(place: int, part: int) -> bool:
    # The probes come between other parts too.
    return place == part or (place > part and PARTS[place][1] != dream_pb2.SUB_PHASE_PROBES)


def _place(dream: Dream) -> int:
    """Among PARTS; 0 until it has told of one."""
    at = dream.progress.phase, dream.progress.sub_phase
    return PARTS.index(at) if at in PARTS else 0


def _name(place: int) -> str:
    phase, part = PARTS[place]
    if not part:
        return "preparing"
    name = SubPhase.Name(part).removeprefix("SUB_PHASE_").lower().replace("_", " ")
    return f"{name} of REM" if phase == _REM and part == dream_pb2.SUB_PHASE_PROBES else name
