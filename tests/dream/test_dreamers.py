"""What a dreamer's process says, and what is known of one that does not start."""

import asyncio
import json
import logging
import sys
from pathlib import Path

import pytest

from dreamsvc import config
from dreamsvc.config import InForce
from dreamsvc.dream.dreamers import DreamerProcess, Dreamers
from dreamsvc.dream.governor import Governor
from dreamsvc.dream.meters import ThisMachine
from dreamsvc.errors import DreamFailed

TOLD = {"level": "error", "logger": "dreamsvc.dreamer.server", "message": "dream 7 failed", "exception": "Traceback"}
SAYS = f"""
import sys
print({json.dumps(TOLD)!r}, file=sys.stderr, flush=True)
print('terminate called without an active exception', file=sys.stderr, flush=True)
sys.exit(3)
"""


def test_what_a_dreamer_logs_is_logged_and_what_it_says_last_is_known(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def listen() -> str:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", SAYS), stdin=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        process = DreamerProcess(child, tmp_path / "no.sock")
        await child.wait()
        await process._reading
        await process.gone()
        return process.how_it_ended()

    with caplog.at_level(logging.INFO, "dreamsvc"):
        ended = asyncio.run(listen())
    assert ended == "exit code 3; last words: dream 7 failed | terminate called without an active exception"
    assert [(record.name, record.levelname, record.getMessage()) for record in caplog.records] == [
        ("dreamsvc.dreamer.server", "ERROR", "dream 7 failed")
    ]


@pytest.mark.parametrize("program", ["/no/such/python", "/bin/false"])
def test_a_dreamer_that_cannot_start_is_trouble_until_one_does(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    in_force = InForce(config.defaults())

    async def lease() -> tuple[str, str, str]:
        dreamers = Dreamers(in_force, Governor(in_force, ThisMachine()))
        before = dreamers.trouble
        with monkeypatch.context() as broken:
            broken.setattr(sys, "executable", program)
            with pytest.raises(DreamFailed, match="start"):
                await dreamers.lease(in_force.dream.resources)
        during = dreamers.trouble
        await dreamers.lease(in_force.dream.resources)
        after = dreamers.trouble
        await dreamers.close()
        return before, during, after

    before, during, after = asyncio.run(lease())
    assert (before, after) == ("", "")
    assert "start" in during
