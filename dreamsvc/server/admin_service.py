"""AdminService: messages in, messages out. Knows no transport."""

from dreamsvc import calling
from dreamsvc.config import InForce
from dreamsvc.reloading import Reloading
from dreamsvc.server.health import HealthOfAll
from dreamsvc.v1.admin_pb2 import ConfigReload
from dreamsvc.v1.admin_service_pb2 import (
    GetConfigRequest,
    GetConfigResponse,
    GetHealthRequest,
    GetHealthResponse,
    ReloadConfigRequest,
    ReloadConfigResponse,
)


class AdminCalls:
    """The methods of AdminService, by their names in snake case."""

    def __init__(self, in_force: InForce, reloading: Reloading, health: HealthOfAll) -> None:
        self._in_force = in_force
        self._health = health
        self._reloading = reloading

    async def get_health(self, _: GetHealthRequest) -> GetHealthResponse:
        health = self._health.look()
        if calling.current().spaces is not None:
            # What is the matter names files and addresses, which is for those who may see all of it.
            for subsystem in health.subsystems:
                subsystem.ClearField("message")
                subsystem.ClearField("hint")
        return GetHealthResponse(health=health)

    async def get_config(self, _: GetConfigRequest) -> GetConfigResponse:
        return GetConfigResponse(
            config=self._in_force.whole,
            origins=self._reloading.origins,
            file=self._reloading.file,
            last_reload=self._reloading.last,
        )

    async def reload_config(self, request: ReloadConfigRequest) -> ReloadConfigResponse:
        found = await self._reloading.reload(ConfigReload.CAUSE_REQUEST, validate_only=request.validate_only)
        return ReloadConfigResponse(reload=found)
