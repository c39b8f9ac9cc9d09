"""The calls of AdminService."""

from dreamsvc.v1 import admin_service_pb2, admin_service_pb2_grpc, health_pb2
from dreamsvc_client.calls import Calls
from dreamsvc_client.credentials import Credentials


class AdminCalls(Calls):
    """Looks after the service itself."""

    def __init__(self, target: str, timeout_s: float, attempts: int, credentials: Credentials) -> None:
        super().__init__(target, timeout_s, attempts, credentials)
        self._admin = admin_service_pb2_grpc.AdminServiceStub(self._channel)

    def health(self) -> health_pb2.Health:
        """What of the service does its work, part by part."""
        request = admin_service_pb2.GetHealthRequest()
        return self._unary(self._admin.GetHealth, request, timeout_s=self._timeout_s).health

    def config(self) -> admin_service_pb2.GetConfigResponse:
        """The configuration in force, where its values come from, and how the last reload went."""
        return self._unary(self._admin.GetConfig, admin_service_pb2.GetConfigRequest(), timeout_s=self._timeout_s)

    def reload_config(self, *, validate_only: bool = False) -> admin_service_pb2.ReloadConfigResponse:
        """Has the service read its configuration again, or only say what that would change.

        Raises DreamsvcCallError with reason INVALID_FIELD where anything is wrong; nothing changes then.
        """
        request = admin_service_pb2.ReloadConfigRequest(validate_only=validate_only)
        return self._unary(self._admin.ReloadConfig, request, timeout_s=self._timeout_s)
