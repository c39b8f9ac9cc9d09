"""What every call passes, whichever door it came through, in this order:

1. its trace: that of a valid `traceparent`, else a new one;
2. who calls: `access`, which refuses with UNAUTHENTICATED;
3. how often: a bucket for each caller and kind of call, which refuses with RATE_LIMITED;
4. what the caller may: PERMISSION_DENIED for a missing scope;
5. the size, before anything is made of the bytes; the message; its space, which is NOT_FOUND where it is not the
   caller's; the contract.

So whoever is nobody has no message read, and guesses at scopes and spaces are counted like any other call.
"""

from collections.abc import Callable

from google.protobuf.message import Message

from dreamsvc import bearer_tokens, calling, contract, entropy
from dreamsvc.calling import Call
from dreamsvc.clock import Clock
from dreamsvc.config import InForce
from dreamsvc.errors import RateLimited, TooLarge
from dreamsvc.server.access import Access
from dreamsvc.server.callers import ANYBODY, UNLIMITED, Caller, Incoming, Method
from dreamsvc.server.rate_limits import RateLimits
from dreamsvc.telemetry import logs
from dreamsvc.telemetry.logs import Subject


class Admission:
    """Lets calls in; one for all doors, since callers are counted together."""

    def __init__(self, config: InForce, clock: Clock) -> None:
        """Raises InvalidFields where the service would stand open."""
        self._config = config
        self._limits = RateLimits(clock)
        self.access = Access(config, clock, self._limits)

    def begin(self, incoming: Incoming) -> Call:
        """Says which trace this task works for; never raises."""
        parent = calling.read_traceparent(incoming.traceparent) if incoming.traceparent else None
        call = Call(entropy.trace_id() if parent is None else parent.trace_id, parent=parent)
        calling.begin(call)
        return call

    async def enter(self, call: Call, incoming: Incoming, method: Method) -> Caller:
        """Who calls; raises Unauthenticated, RateLimited, PermissionDenied."""
        caller = await self.access.caller(incoming)
        if caller is not ANYBODY:
            calling.begin(call._replace(caller=caller.name, spaces=caller.spaces))
        self._count(caller, incoming, method)
        caller.require(method)
        return caller

    def accept[Request: Message](
        self, caller: Caller, method: Method, body: bytes, read: Callable[[bytes], Request]
    ) -> Request:
        """The message of a call, filled in and checked; raises TooLarge, NotFound, InvalidFields."""
        request = self.accept_part(caller, method, body, read)
        contract.fill(request)
        contract.check(request)
        return request

    def accept_part[Request: Message](
        self, caller: Caller, method: Method, body: bytes, read: Callable[[bytes], Request]
    ) -> Request:
        """One message of a stream, whose contract the service looks at; raises TooLarge, NotFound, InvalidFields."""
        most = self._config.server.max_message_bytes
        if len(body) > most:
            raise TooLarge(f"the request has {len(body)} bytes; at most {most} are allowed (server.max_message_bytes)")
        request = read(body)
        if method.space is not None:
            space = method.space(request)
            caller.require_space(space)
            # What is no name of a space may be anything, and is not for the log.
            if space is not None and bearer_tokens.SPACE_NAME.fullmatch(space):
                logs.begin(Subject(space))
        return request

    def recheck(self, caller: Caller) -> None:
        """For calls that last: raises Unauthenticated once the credentials hold no longer."""
        self.access.recheck(caller)

    def _count(self, caller: Caller, incoming: Incoming, method: Method) -> None:
        if method.limit == UNLIMITED:
            return
        limits = self._config.security.rate_limits
        if limits.enabled == "off" or (limits.enabled == "auto" and not self.access.asks):
            return
        key = caller.key or incoming.peer()
        per_second: float = getattr(limits, f"{method.limit}_per_second")
        burst: int = getattr(limits, f"{method.limit}_burst")
        wait_s = self._limits.take(key, method.limit, per_second, burst)
        if wait_s:
            raise RateLimited(
                f"{caller.name or key} made more than {burst} calls of this kind at once, or {per_second:g} a second",
                subject=key,
                limit=f"{method.limit}: {burst} at once, then {per_second:g} a second",
                retry_after_s=wait_s,
            )
