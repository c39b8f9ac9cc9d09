"""When a server is killed: under load at any moment, and in the middle of whatever must not be left half done."""

import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

import grpc

from benchmarks.proof import crash_checks
from benchmarks.proof.crash_clients import Client, Ending
from benchmarks.proof.crash_dreams import Proposal
from benchmarks.proof.crash_facts import MEMORY, Found
from benchmarks.proof.crash_servers import PATIENCE_S, Calls, Server, Servers
from benchmarks.proof.crash_template import SLEEPY
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.dream_service_pb2 import ApproveDreamRequest, RejectDreamRequest, RevertRequest, TriggerRequest

# How long a load lasts, and how long after it began something particular is killed: up to a little more than it takes
# on a machine on which a start takes START_S, on others longer by as much, up to SLOWEST.
LOAD_S, FOLD_S, REVERT_S, REJECT_S, IMPORT_S = 0.12, 0.06, 0.05, 0.01, 0.05
SHUTDOWN_S, DREAM_S, BACKUP_S, START_S = 0.1, 0.3, 0.2, 0.05
SLOWEST = 4.0
# The writer moves its log into the file when nothing came for a fifth of a second.
QUIET_S = (0.19, 0.24)


@dataclass
class Tally:
    """What happened, counted, and what was wrong."""

    counts: Counter[str] = field(default_factory=Counter[str])
    wrong: list[str] = field(default_factory=list[str])

    def add(self, other: "Tally") -> None:
        self.counts.update(other.counts)
        self.wrong += other.wrong

    def note(self, found: Found) -> None:
        self.wrong += found.wrong
        self.counts.update(acked_lost=found.lost, torn=found.torn, digest_mismatches=found.mismatched)


@dataclass
class Begun:
    """The dream that was begun last in the space that is only slept in, by the request that began it."""

    request: TriggerRequest | None = None
    dream_id: str = ""


class Scene(NamedTuple):
    """A server under load, and all that is known of its store."""

    servers: Servers
    server: Server
    calls: Calls
    clients: Sequence[Client]
    ending: Ending
    proposals: Sequence[Proposal]
    begun: Begun
    random: Random
    tally: Tally
    # How much slower this machine is.
    pace: float

    def kill(self, what: str) -> None:
        self.ending.near.set()
        self.server.kill()
        self.tally.counts.update(("kills", "server_kills", f"at: {what}"))

    def moment_s(self, most_s: float) -> float:
        return self.random.uniform(0, most_s * self.pace)

    def wait(self, most_s: float) -> None:
        time.sleep(self.moment_s(most_s))

    def load(self) -> None:
        """Nothing but that, for a while."""
        time.sleep(self.random.uniform(0, LOAD_S))

    def one_in(self, state: int) -> Proposal | None:
        found = [one for one in self.proposals if one.state == state and one.deciding is None]
        return self.random.choice(found) if found else None


def anywhere(scene: Scene) -> None:
    scene.load()
    scene.kill("load")


def importing(scene: Scene) -> None:
    """Every client begins with an import."""
    scene.wait(IMPORT_S)
    scene.kill("import")


def folding(scene: Scene) -> None:
    one = scene.one_in(Dream.STATE_PROPOSED)
    if one is None:
        anywhere(scene)
        return
    request = ApproveDreamRequest(space=one.space, dream_id=one.dream_id, request_id=f"approve {one.space}")
    _decide(scene, "fold", scene.calls.dreams.ApproveDream, request, one, Dream.STATE_SUCCEEDED, FOLD_S)


def reverting(scene: Scene) -> None:
    one = scene.one_in(Dream.STATE_SUCCEEDED)
    if one is None:
        anywhere(scene)
        return
    request = RevertRequest(space=one.space, dream_id=one.dream_id, request_id=f"revert {one.space}")
    _decide(scene, "revert", scene.calls.dreams.Revert, request, one, Dream.STATE_REVERTED, REVERT_S)


def rejecting(scene: Scene) -> None:
    one = scene.one_in(Dream.STATE_PROPOSED)
    if one is None:
        anywhere(scene)
        return
    request = RejectDreamRequest(space=one.space, dream_id=one.dream_id, request_id=f"reject {one.space}")
    _decide(scene, "reject", scene.calls.dreams.RejectDream, request, one, Dream.STATE_DISCARDED, REJECT_S)


def _decide(
    scene: Scene, what: str, method: Any, request: Any, proposal: Proposal, leads_to: int, most_s: float
) -> None:
    """Asks for something to be done with a dream, and kills the server while it does that."""
    scene.wait(0.02)
    proposal.deciding = leads_to
    answer = method.future(request, timeout=PATIENCE_S)
    scene.wait(most_s)
    scene.kill(what)
    try:
        answer.result(PATIENCE_S)
    except grpc.RpcError:
        return
    proposal.state, proposal.deciding = leads_to, None
    scene.tally.counts["acked_writes"] += 1


def shutting_down(scene: Scene) -> None:
    scene.load()
    scene.ending.near.set()
    scene.server.send(signal.SIGTERM)
    if scene.server.ended(scene.moment_s(SHUTDOWN_S)):
        ended_well(scene.servers, scene.server, scene.tally)
    else:
        scene.kill("shutdown")


def ending_well(scene: Scene) -> None:
    """No kill: it leaves its live graphs for the next start, and they are what a full load gives."""
    scene.load()
    scene.ending.near.set()
    scene.server.send(signal.SIGTERM)
    ended_well(scene.servers, scene.server, scene.tally)


def ended_well(servers: Servers, server: Server, tally: Tally) -> None:
    """What must be true of a server that was asked to end and does."""
    if server.exit_code():
        tally.wrong.append(f"a shutdown ended with {server.exit_code()}; {server.tail()}")
    count, wrong = crash_checks.check_snapshots(servers.store)
    tally.counts.update(shutdowns=1, graphs_compared=count)
    tally.wrong += wrong
    if not count:
        tally.wrong.append(f"a shutdown left no snapshot; {server.tail()}")


def quiet(scene: Scene) -> None:
    """While the log is moved into the file."""
    scene.load()
    scene.ending.over.set()
    time.sleep(scene.random.uniform(*QUIET_S))
    scene.kill("checkpoint")


def backing_up(scene: Scene) -> None:
    """Kills the server beside a backup, and the backup where it is not made by then; it is whole or not there."""
    promised = {fact for client in scene.clients for fact in dict(client.ledger.acked) if fact[0] == MEMORY}
    target = scene.servers.store.with_name(f"backup-{scene.tally.counts['at: backup']}")
    copying = scene.servers.back_up(target)
    try:
        scene.wait(BACKUP_S)
        scene.kill("backup")
        patience_s = scene.random.choice((scene.moment_s(BACKUP_S), PATIENCE_S))
        if copying.ended(patience_s) and copying.exit_code():
            scene.tally.wrong.append(f"a backup failed; {scene.server.tail()}")
    finally:
        copying.kill()
    scene.tally.counts.update(backups_killed=int(copying.exit_code() != 0), backups_made=int(target.exists()))
    scene.tally.wrong += crash_checks.check_backup(target, promised)


def dreaming(scene: Scene) -> None:
    """With a dream that has just begun: its dreamer is not ready yet, and must end with the server."""
    number = scene.tally.counts["at: dream"]
    request = TriggerRequest(space=SLEEPY, request_id=f"sleep {number}", seed=number)
    answer = scene.calls.dreams.Trigger(request, timeout=PATIENCE_S)
    scene.tally.counts["acked_writes"] += 1
    scene.begun.request, scene.begun.dream_id = request, answer.dream.id
    scene.wait(DREAM_S)
    scene.kill("dream")


type Aim = Callable[[Scene], None]
_OFTEN: tuple[tuple[int, Aim], ...] = (
    (16, anywhere),
    (10, folding),
    (10, reverting),
    (2, rejecting),
    (6, importing),
    (6, shutting_down),
    (2, ending_well),
    (2, quiet),
    # Each costs seconds of a processor.
    (1, backing_up),
    (1, dreaming),
)
AIMS = [aim for often, aim in _OFTEN for _ in range(often)]
