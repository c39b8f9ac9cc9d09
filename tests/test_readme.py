"""What README says exists."""

import json
import re
from pathlib import Path

from dreamsvc.__main__ import ENTRIES
from dreamsvc.v1 import admin_service_pb2, dream_service_pb2, memory_service_pb2

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "clients/grpcurl.md", "clients/python/README.md")]
MAKEFILE = (ROOT / "Makefile").read_text()
COMMAND = re.compile(r"(?:^|[`/ ])dreamsvc ([a-z]+)\b", re.MULTILINE)
CODE = re.compile(r"```sh\n(.*?)```|(?<!`)`([^`\n]+)`(?!`)", re.DOTALL)


def code_of(text: str) -> list[str]:
    """Lines of shell blocks, and what stands between backticks."""
    return [line for block, inline in CODE.findall(text) for line in (block or inline).splitlines()]


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    named = {
        target
        for document in DOCUMENTS
        for line in code_of(document.read_text())
        for target in re.findall(r"\bmake ([a-z][a-z-]*)", line)
    }
    assert {"demo", "test"} <= named
    assert named <= targets


def test_every_command_that_is_shown_exists() -> None:
    shown = {name for document in DOCUMENTS for line in code_of(document.read_text()) for name in COMMAND.findall(line)}
    assert {"serve", "dream", "recall"} <= shown
    assert shown <= ENTRIES.keys()


def test_the_calls_that_are_listed_are_the_calls_there_are() -> None:
    listed = re.search(r"<!-- rpcs -->(.*?)<!-- /rpcs -->", README, re.DOTALL)
    assert listed, "the markers are missing"
    services = (
        dream_service_pb2.DESCRIPTOR.services_by_name["DreamService"],
        memory_service_pb2.DESCRIPTOR.services_by_name["MemoryService"],
        admin_service_pb2.DESCRIPTOR.services_by_name["AdminService"],
    )
    there = sorted(method.name for service in services for method in service.methods)
    assert sorted(re.findall(r"`([A-Z]\w+)`", listed[1])) == there


def test_every_method_that_a_tool_calls_exists() -> None:
    there = {
        f"{service.full_name}/{method.name}"
        for file in (dream_service_pb2.DESCRIPTOR, memory_service_pb2.DESCRIPTOR, admin_service_pb2.DESCRIPTOR)
        for service in file.services_by_name.values()
        for method in service.methods
    }
    named = {name for document in DOCUMENTS for name in re.findall(r"dreamsvc\.v1\.\w+/\w+", document.read_text())}
    assert named
    assert named <= there


def test_every_request_that_is_shown_is_one() -> None:
    shown = [
        (method, json.loads(body))
        for document in DOCUMENTS
        for body, method in re.findall(
            r"-d '(\{.*?\})'[^{}]*?dreamsvc\.v1\.\w+/(\w+)", document.read_text().replace("\\\n", " ")
        )
    ]
    assert len(shown) >= 8
    for method, body in shown:
        module = next(
            m for m in (dream_service_pb2, memory_service_pb2, admin_service_pb2) if hasattr(m, f"{method}Request")
        )
        fields = {field.name for field in getattr(module, f"{method}Request").DESCRIPTOR.fields}
        assert body.keys() <= fields, method


def test_every_figure_names_the_command_it_comes_from() -> None:
    measured = README.partition("## Measured")[2].partition("\n## ")[0]
    rows = [line for line in measured.splitlines() if line.startswith("|")][2:]
    assert all(re.search(r"`(make [a-z-]+[^`]*|[A-Za-z ./-]*pytest[^`]*)`", row) for row in rows), rows


def test_every_file_that_is_linked_is_there() -> None:
    for document in DOCUMENTS:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"
