"""A real dreamer that hears nonsense on its seam: it says how that ended, lives, and dreams honestly after it."""

import threading
import time
from collections.abc import Iterator
from random import Random

import grpc

from benchmarks.dreamer_alone import DreamerAlone
from benchmarks.proof import acts, fuzz_world
from benchmarks.proof.fuzz_changes import change
from benchmarks.proof.fuzz_draws import Draws, nested
from benchmarks.proof.fuzz_watch import Broken, Watch, resident_mb
from benchmarks.proof.jumping_clock import BEGINNING_US, JumpingClock
from benchmarks.proof.opened import SPACE, Opened
from dreamsvc import checkpoints, config, contract, snapshot_files
from dreamsvc.dreamer.v1.dreamer_service_pb2 import Checkpoint, RunDreamRequest, RunDreamResponse, Start, Stop
from dreamsvc.dreamer.v1.operations_pb2 import Operations
from dreamsvc.errors import InvalidFields
from dreamsvc.v1 import dream_pb2

METHOD = "/dreamsvc.dreamer.v1.DreamerService/RunDream"
START_S = 60.0
# A case that is not over by then is told to stop, and has to.
CASE_S, STOP_S = 10.0, 45.0
HONEST_EVERY = 25
MOST_GROWN_MB = 400.0
PHASES = (dream_pb2.DREAM_PHASE_NREM, dream_pb2.DREAM_PHASE_REM, dream_pb2.DREAM_PHASE_FULL_CYCLE)


class DreamerTarget:
    name = "dreamer"
    size = 75

    def __init__(self) -> None:
        self._world = fuzz_world.World(suspended=False)
        opened = Opened(self._world.copy(), JumpingClock())
        self._snapshot = self._world.home / "snapshot"
        snapshot_files.write(self._snapshot, *opened.store.dream_snapshot(SPACE))
        self._journal = acts.made_parts(opened, Random(1))
        opened.abandon()
        self._dreamer = DreamerAlone(self._world.home / "dreamer.sock")
        # Bytes go as they are.
        self._run = self._dreamer.channel.stream_stream(METHOD, request_serializer=bytes, response_deserializer=bytes)
        self._honest()
        self._at_first_mb = resident_mb(self._dreamer.process.pid)

    def close(self) -> None:
        self._dreamer.close()
        self._world.close()

    def batch(self, watch: Watch, cases: int) -> None:
        draws = Draws(f"dreamer {watch.seed}")
        while watch.cases < cases:
            bodies = self._drawn(draws)
            with watch.case("nonsense", b"\n--\n".join(bodies)[:200_000]):
                watch.ended(self._says(bodies))
                self._require_alive()
            if watch.cases % HONEST_EVERY == 0 or watch.cases == cases - 1:
                with watch.case("honest"):
                    self._honest()
                    watch.ended("dreamt")
        with watch.case("afterwards"):
            grown = resident_mb(self._dreamer.process.pid) - self._at_first_mb
            if grown > MOST_GROWN_MB:
                raise Broken(f"the dreamer has grown by {grown:.0f} MB")

    def _require_alive(self) -> None:
        if self._dreamer.process.poll() is not None:
            raise Broken(f"the dreamer ended with {self._dreamer.process.returncode}")

    def _says(self, bodies: list[bytes]) -> str:
        """How the call ended, in a word."""
        over = threading.Event()

        def requests() -> Iterator[bytes]:
            yield from bodies
            if not over.wait(CASE_S):
                yield RunDreamRequest(stop=Stop()).SerializeToString()
                over.wait(STOP_S)

        last = RunDreamResponse()
        call = self._run(requests(), timeout=STOP_S)
        try:
            for body in call:
                last = RunDreamResponse.FromString(body)
                if last.WhichOneof("message") == "operations":
                    last.operations.SerializeToString()
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                raise Broken("the dreamer did not stop when it was told to") from error
            return error.code().name.lower()
        finally:
            over.set()
        if last.WhichOneof("message") != "ended":
            return "no last word"
        return dream_pb2.EndReason.Name(last.ended.reason).removeprefix("END_REASON_").lower()

    def _honest(self) -> None:
        end = time.monotonic() + START_S
        while True:
            said = self._says([RunDreamRequest(start=self._start(PHASES[0])).SerializeToString()])
            if said in ("converged", "budget"):
                return
            # The dream before may still hold the device, as compiling cannot be stopped.
            if time.monotonic() > end:
                raise Broken(f"an honest dream ended: {said}")

    def _start(self, phase: "dream_pb2.DreamPhase.ValueType") -> Start:
        settings = config.defaults()
        return Start(
            dream_id="01890a5d-ac96-774b-bcce-b302099a8057",
            phase=phase,
            seed=3,
            budget_seconds=0.5,
            snapshot=str(self._snapshot),
            config=settings.dream,
            now_us=BEGINNING_US,
            recall=settings.recall,
        )

    def _drawn(self, draws: Draws) -> list[bytes]:
        start = self._start(draws.choice(PHASES))
        staged = [
            Operations.FromString(part.SerializeToString()) for part in draws.sample(self._journal, draws.randrange(6))
        ]
        for number, part in enumerate(staged):
            part.part = number
        start.staged_parts = len(staged)
        if staged or draws.maybe(0.3):
            start.checkpoint.CopyFrom(
                Checkpoint(format=checkpoints.FORMAT, seed=3, next_part=len(staged), round=1, batch=1)
            )
        requests = [RunDreamRequest(start=start), *(RunDreamRequest(staged=part) for part in staged)]
        if draws.maybe(0.2):
            requests.append(RunDreamRequest(stop=Stop()))
        match draws.randrange(8):
            case 0:
                return [draws.randbytes(draws.randrange(100)) for _ in range(draws.randrange(3))]
            case 1:
                return [nested(draws.randrange(1, 4), draws.choice((50, 101, 5000)))]
            case 2:
                return [draws.damaged(request.SerializeToString()) for request in requests]
            case 3:
                draws.shuffle(requests)
            case 4:
                requests[0].start.staged_parts = draws.choice((0, 1, 7, 2**32 - 1))
            case 5:
                requests[0].start.checkpoint.activation = draws.choice((b"x", b"\x78\x9c\x03\x00", bytes(40)))
                requests[0].start.checkpoint.batch = draws.choice((0, 1, 2**63))
            case _:
                _change(draws, draws.choice(requests))
        return [request.SerializeToString() for request in requests]


def _change(draws: Draws, request: RunDreamRequest) -> None:
    """Anything but a configuration that the server would not have taken itself."""
    kept = RunDreamRequest.FromString(request.SerializeToString())
    change(draws, request, draws.choice((1, 1, 2)))
    # It would dream, or compile, for as long as it is told to.
    request.start.budget_seconds = min(request.start.budget_seconds, 2.0)
    try:
        contract.check(request.start)
    except InvalidFields:
        request.CopyFrom(kept)
