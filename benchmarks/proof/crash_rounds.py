"""The life of one store: a server is started, used and killed, again and again, and all is checked after every kill.

A round is: start (and sometimes a kill in the middle of that), check, ask again what was asked before the kill, load by
several clients, something particular beside them or not, kill, sometimes check the files as they lie.
"""

import threading
import time
from collections import Counter
from pathlib import Path
from random import Random

import grpc

from benchmarks.proof import crash_aims, crash_checks, crash_dreams, crash_template
from benchmarks.proof.crash_aims import AIMS, SLOWEST, START_S, Begun, Scene, Tally
from benchmarks.proof.crash_clients import Client, Ending
from benchmarks.proof.crash_servers import PATIENCE_S, Calls, Server, ServerHangs, Servers
from benchmarks.proof.crash_template import BUSY, SETTINGS, SLEEPY, Template
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.dream_service_pb2 import AbortRequest, TriggerRequest

CLIENTS = 3
# Of starts, how many are killed; of other kills, how many are followed by a look at the files as they lie.
STARTS_KILLED, FILES_LOOKED_AT = 0.15, 0.5
ANSWERS_COMPARED = 0.1


class Rounds:
    """All of it draws from a seed; when a kill strikes depends on the machine as well."""

    def __init__(self, template: Template, directory: Path, seed: str, *, sabotage: str = "") -> None:
        self.tally = Tally()
        self._proposals = crash_template.copied(template, directory)
        # Also where dreams are folded and taken back, beside those.
        self._spaces = [BUSY, *(one.space for one in self._proposals[:2])]
        self._sleepy = template.night.before
        self._servers = Servers(directory, SETTINGS, sabotage=sabotage)
        self._random = Random(seed)
        self._clients = [Client(number, seed, [BUSY, *self._spaces]) for number in range(CLIENTS)]
        self._begun = Begun()
        # Since the last kill: whether the doctor was there, and what the next start has to say a word about.
        self._examined = False
        self._left: list[str] = []
        self._shutdowns = 0
        # How long the last start took that was not killed.
        self._start_s = START_S

    def run(self, kills: int) -> Tally:
        """Until so many kills, or until something is wrong."""
        try:
            while self.tally.counts["kills"] < kills and not self.tally.wrong:
                self._round()
            if not self.tally.wrong:
                self._last_look()
        except (ServerHangs, grpc.RpcError) as error:
            self.tally.wrong.append(str(error))
        finally:
            self._servers.close()
        return self.tally

    def _round(self) -> None:
        began_s = time.perf_counter()
        server = self._servers.start()
        if self._random.random() < STARTS_KILLED:
            time.sleep(self._random.uniform(0, 1.2 * self._start_s))
            server.kill()
            self.tally.counts.update(("kills", "server_kills", "at: start"))
            self._examined = False
            self._look_at_files()
            return
        calls = self._serving(server)
        self._start_s = time.perf_counter() - began_s
        try:
            self._after_a_start(server, calls)
            if not self.tally.wrong:
                self._load(server, calls)
        finally:
            server.kill()
            calls.close()
        self._examined = False
        if not self.tally.wrong and self._random.random() < FILES_LOOKED_AT:
            self._look_at_files()

    def _serving(self, server: Server) -> Calls:
        port = server.port()
        if port is None:
            raise ServerHangs(f"a server did not start; {server.tail()}")
        return Calls(port)

    def _load(self, server: Server, calls: Calls) -> None:
        ending = Ending()
        aim = self._random.choice(AIMS)
        first = "import" if aim is crash_aims.importing else ""
        threads = [threading.Thread(target=client.work, args=(calls, ending, first)) for client in self._clients]
        for thread in threads:
            thread.start()
        scene = Scene(
            servers=self._servers,
            server=server,
            calls=calls,
            clients=self._clients,
            ending=ending,
            proposals=self._proposals,
            begun=self._begun,
            random=self._random,
            tally=self.tally,
            pace=min(max(1.0, self._start_s / START_S), SLOWEST),
        )
        try:
            aim(scene)
        finally:
            ending.near.set()
            ending.over.set()
            server.kill()
            for thread in threads:
                thread.join(PATIENCE_S)
        self._count_clients()

    # ── after a kill ────────────────────────────────────────────────────────────

    def _look_at_files(self) -> None:
        """As the killed server left them; what the next start must say a word about is noted."""
        self._check(recovered=False)
        self._left = crash_dreams.unfinished_in(self._servers.store)

    def _after_a_start(self, server: Server, calls: Calls) -> None:
        self._check(recovered=True)
        told = server.logged()
        self.tally.wrong += [f"the start does not tell of {left}: {told!r}" for left in self._left if left not in told]
        self._left = []
        if self.tally.wrong:
            return
        for client in self._clients:
            self.tally.counts["replayed"] += client.replay(calls)
        if self._begun.request is not None:
            self._end_begun(calls, self._begun.request)
        # What was left in good order is what this server began with, instead of the rows.
        from_snapshot = self.tally.counts["shutdowns"] > self._shutdowns
        self._shutdowns = self.tally.counts["shutdowns"]
        self.tally.counts["starts_from_snapshots"] += from_snapshot
        if from_snapshot or self._random.random() < ANSWERS_COMPARED:
            self._compare_answers(calls)
        self._count_clients()

    def _check(self, *, recovered: bool) -> None:
        ledgers = [client.ledger for client in self._clients]
        looked_at = [one for one in self._proposals if one.deciding]
        if self._proposals:
            looked_at.append(self._random.choice(self._proposals))
        self.tally.note(crash_checks.check(self._servers.store, ledgers, looked_at, recovered=recovered))
        if not self._examined:
            self.tally.wrong += crash_checks.examined(self._servers.store, recovered=recovered)
            self._examined = True
        if self._begun.request is not None:
            self.tally.note(crash_dreams.check_unchanged(self._servers.store, SLEEPY, self._sleepy))
        self.tally.counts["checks"] += 1

    def _end_begun(self, calls: Calls, request: TriggerRequest) -> None:
        """The request that began a dream is answered as before; the dream can be given up, and nothing came of it."""
        dream_id = self._begun.dream_id
        again = calls.dreams.Trigger(request, timeout=PATIENCE_S).dream
        if again.id != dream_id:
            self.tally.wrong.append(f"the request that began dream {dream_id} is answered with {again.id}")
        self.tally.counts["replayed"] += 1
        if self._random.random() < 0.5:
            given_up = calls.dreams.Abort(AbortRequest(space=SLEEPY, discard=True), timeout=PATIENCE_S).dream
            if given_up.id != dream_id or given_up.state != Dream.STATE_DISCARDED:
                self.tally.wrong.append(f"dream {dream_id} was not given up, but {given_up}")
            self.tally.counts["acked_writes"] += 1
            self._begun.request = None

    def _compare_answers(self, calls: Calls) -> None:
        self.tally.wrong += crash_checks.check_answers(self._servers.store, calls, self._spaces, self._random)
        self.tally.counts["answers_compared"] += len(self._spaces)

    def _count_clients(self) -> None:
        """Takes over what the clients counted and found."""
        for client in self._clients:
            self.tally.counts.update(acked_writes=client.ledger.writes, recalls=client.recalls)
            client.ledger.writes = client.recalls = 0
            self.tally.wrong += client.wrong
            client.wrong.clear()

    def _last_look(self) -> None:
        """Everything once more, from a start to a shutdown in good order."""
        server = self._servers.start()
        calls = self._serving(server)
        try:
            self._after_a_start(server, calls)
            ledgers = [client.ledger for client in self._clients]
            self.tally.note(crash_checks.check(self._servers.store, ledgers, self._proposals, recovered=True))
            self.tally.wrong += crash_checks.examined(self._servers.store, recovered=True)
            self.tally.note(crash_dreams.check_unchanged(self._servers.store, SLEEPY, self._sleepy))
            self._compare_answers(calls)
            crash_template.stop(server, calls)
            crash_aims.ended_well(self._servers, server, self.tally)
        finally:
            server.kill()
        self.tally.wrong += [*self._servers.left_over(), *self._servers.errors()]
        states = Counter(one.state for one in self._proposals)
        reverted = states[Dream.STATE_REVERTED]
        self.tally.counts.update(dreams_folded=states[Dream.STATE_SUCCEEDED] + reverted, dreams_reverted=reverted)
