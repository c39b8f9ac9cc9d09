"""Forks servers on demand from a process that has imported the service: a start without the time that imports take.

`python -m benchmarks.proof.crash_zygote FD [MODULE:FUNCTION]`, FD being a socket to the proof. A fork runs
`dreamsvc.app.serve` from the reading of its configuration on, as `dreamsvc serve` does, or makes a backup; before that
there is no thread, channel or server. FUNCTION is called first: that is how it is shown that the proof notices what it
must notice.
"""

import contextlib
import json
import os
import signal
import socket
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import Never

from dreamsvc import app, upkeep
from dreamsvc.config_sources import Sources

SERVE, BACK_UP, BURY = "serve", "back up", "bury"
MOST_BYTES = 4096


def main() -> None:
    link = socket.socket(fileno=int(sys.argv[1]))
    for sabotage in sys.argv[2:]:
        module, _, function = sabotage.partition(":")
        getattr(import_module(module), function)()
    children: set[int] = set()
    try:
        while True:
            order, handles, _, _ = socket.recv_fds(link, MOST_BYTES, 2)
            if not order:
                return
            verb, *told = json.loads(order)
            if verb == BURY:
                pid = int(told[0])
                _, status = os.waitpid(pid, 0)
                children.discard(pid)
                link.send(str(os.waitstatus_to_exitcode(status)).encode())
                continue
            pid = os.fork()
            if not pid:
                link.close()
                _run(verb, told, *handles)
            children.add(pid)
            # By it a process can be waited for and killed, and never another one that got its number.
            handles.append(os.pidfd_open(pid))
            socket.send_fds(link, [str(pid).encode()], handles[-1:])
            for handle in handles:
                os.close(handle)
    finally:
        # The proof has ended, however it did.
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _run(verb: str, told: list[str], said: int, log: int) -> Never:
    code = 1
    try:
        os.dup2(said, 1)
        os.dup2(log, 2)
        os.close(said)
        os.close(log)
        if verb == SERVE:
            sources = Sources(Path(told[0]))
            code = app.serve(sources, sources.read())
        else:
            upkeep.make_backup(Path(told[0]), Path(told[1]))
            code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
