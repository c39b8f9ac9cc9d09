"""What all tests share: one place for compiled kernels, so that they are compiled once and not once a run."""

import os
import tempfile
from pathlib import Path

from dreamsvc.dreamer import placement

os.environ.setdefault("DREAMSVC_CACHE", str(Path(tempfile.gettempdir()) / f"dreamsvc-tests-{os.getuid()}"))
# gRPC says on standard error that it would not fork; nothing here needs it to.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
placement.cache_compiled()
