"""What all tests share: one place for compiled kernels, so that they are compiled once and not once a run."""

import os
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings

from dreamsvc.dreamer import placement

# Minutes of other lives each time: pytest tests/memory/test_life_machine.py --hypothesis-profile=long
settings.register_profile(
    "long", max_examples=200, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
)

os.environ.setdefault("DREAMSVC_CACHE", str(Path(tempfile.gettempdir()) / f"dreamsvc-tests-{os.getuid()}"))
# gRPC says on standard error that it would not fork; nothing here needs it to.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
placement.cache_compiled()
