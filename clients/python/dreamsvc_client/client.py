"""The client: one method a call, messages of `dreamsvc.v1` as they are."""

from dreamsvc_client.admin import AdminCalls
from dreamsvc_client.credentials import Credentials
from dreamsvc_client.dreams import DreamCalls
from dreamsvc_client.memories import MemoryCalls


class Client(DreamCalls, MemoryCalls, AdminCalls):
    """Calls a dreamsvc server; use it as a context manager, from any number of threads.

    Every failed call raises DreamsvcCallError. A call that found no server is tried again, up to `attempts` times;
    calls that change something carry a request id, so that a second try of one that arrived changes nothing twice.
    """

    def __init__(
        self,
        target: str = "127.0.0.1:50051",
        timeout_s: float = 30.0,
        attempts: int = 4,
        credentials: Credentials | None = None,
    ) -> None:
        """Raises CredentialsError for credentials that cannot be used, and OSError for a file that cannot be read."""
        super().__init__(target, timeout_s, attempts, credentials or Credentials())
