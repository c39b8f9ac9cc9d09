"""What follows an error in a dream: it is tried again, goes back, leaves something out, or ends (REQ-DREAM-025).

An error is recoverable unless it leaves the dream nothing to stand on: an unreadable snapshot, a damaged store,
nonsense from the dreamer. A dreamer that died or fell silent, a failed step, a disk that takes no write: try again.
"""

import logging
from collections.abc import Awaitable, Callable

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    retry_if_result,
    stop_after_attempt,
    wait_exponential,
)

from dreamsvc.dreamer.v1.dreamer_service_pb2 import Checkpoint, Ended
from dreamsvc.errors import StoreUnavailable
from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.config_pb2 import FaultConfig
from dreamsvc.v1.dream_pb2 import Dream, Fault

logger = logging.getLogger(__name__)
ABORT, RETRY, SKIP, ROLLBACK = "abort", "retry", "skip", "rollback"
# Pauses before another try, each twice the one before.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 10.0
PREPARING, REPLAY, WRITING = "preparing", "replay", "writing"


class Recovery:
    """Counts the errors of one dream and decides what follows each; what it got over stands in the dream's report."""

    def __init__(self, dream: Dream, config: FaultConfig) -> None:
        self._dream = dream
        self._config = config
        # Of the steps after the replay, by number over the whole dream.
        self.left_out: list[int] = []
        self.leaves_out_replay = False
        # Whatever the strategy, what failed now is not tried again.
        self._leaves_out_next = False

    async def dreaming(
        self,
        attempt: Callable[[], Awaitable[Ended]],
        *,
        reached: Callable[[], Checkpoint | None],
        prepared: Callable[[], bool],
        pause: Callable[[float], Awaitable[None]],
        renew: Callable[[], None],
    ) -> Ended:
        """How a dream ends that is tried as often as the configuration says.

        reached: the last checkpoint, from which it goes on. prepared: whether the last try came to dream at all.
        renew: sees to it that the next try has a new dreamer process.
        """

        def before_another(state: RetryCallState) -> None:
            ended = _result(state)
            self._follow(ended.message, reached(), prepared(), state.attempt_number)
            if self._config.recovery_strategy == ROLLBACK:
                renew()

        retrying = AsyncRetrying(
            stop=stop_after_attempt(1 + self._tries),
            wait=wait_exponential(multiplier=FIRST_PAUSE_S, max=LONGEST_PAUSE_S),
            retry=retry_if_result(is_recoverable),
            before_sleep=before_another,
            sleep=pause,
            retry_error_callback=_result,
        )
        return await retrying(attempt)

    async def writing[T](self, write: Callable[[], Awaitable[T]]) -> T:
        """The result of a write, tried again where the store did not take it; raises what it says in the end."""

        def before_another(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            self._note(str(error), WRITING, RETRY, state.attempt_number)

        retrying = AsyncRetrying(
            stop=stop_after_attempt(1 + self._tries),
            wait=wait_exponential(multiplier=FIRST_PAUSE_S, max=LONGEST_PAUSE_S),
            retry=retry_if_exception_type(StoreUnavailable),
            before_sleep=before_another,
            reraise=True,
        )

        # What tenacity does not see to be a coroutine function it does not await.
        async def once() -> T:
            return await write()

        return await retrying(once)

    def leave_out_next(self) -> None:
        """The next error is followed by leaving out the step that it came in."""
        self._leaves_out_next = True

    @property
    def _tries(self) -> int:
        return 0 if self._config.recovery_strategy == ABORT else self._config.max_retries

    def _follow(self, what: str, reached: Checkpoint | None, prepared: bool, tries: int) -> None:
        place, recovery = self._place(reached, prepared), self._config.recovery_strategy
        if self._leaves_out_next:
            recovery, self._leaves_out_next = SKIP, False
        if recovery == SKIP:
            if not prepared:
                # There is nothing yet that could be left out.
                recovery = RETRY
            elif place == REPLAY:
                self.leaves_out_replay = True
            else:
                self.left_out.append(reached.steps_done if reached is not None else 0)
        self._note(what, place, recovery, tries)

    def _place(self, reached: Checkpoint | None, prepared: bool) -> str:
        if not prepared:
            return PREPARING
        if self._dream.phase != dream_pb2.DREAM_PHASE_REM and not (reached is not None and reached.replay_ended):
            return REPLAY
        name = dream_pb2.SubPhase.Name(self._dream.progress.sub_phase)
        return name.removeprefix("SUB_PHASE_").replace("_", " ").lower()

    def _note(self, what: str, place: str, recovery: str, tries: int) -> None:
        dream = self._dream
        dream.report.faults.append(Fault(what=what, place=place, recovery=recovery))
        logger.warning(
            'dream %s of space "%s", %s: %s; what follows: %s, %d of %d',
            *(dream.id, dream.space, place, what, recovery, tries, self._tries),
        )


def is_recoverable(ended: Ended) -> bool:
    """Whether a dream ended by an error that another try may not meet."""
    return ended.reason == dream_pb2.END_REASON_FAILED and not ended.unrecoverable


def _result(state: RetryCallState) -> Ended:
    assert state.outcome is not None
    return state.outcome.result()
