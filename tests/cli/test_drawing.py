"""`dreamsvc draw`: pictures that can be opened, and what is said where none can be made."""

import io
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from dreamsvc.__main__ import main
from dreamsvc.cli import draw, drawing
from dreamsvc.cli.command import EXIT_FAILED, EXIT_OK, EXIT_USAGE
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.dream_service_pb2 import GetDreamMapResponse, ListDreamsResponse
from tests.clients.fake_server import FakeServer

SVG = "{http://www.w3.org/2000/svg}"


def a_map(n: int = 60, dimension: int = 3, finds: int = 20, links: int = 40, walks: int = 4) -> GetDreamMapResponse:
    draw = np.random.default_rng(3)
    points = draw.normal(size=(n, dimension))
    points /= np.linalg.norm(points, axis=1, keepdims=True) * draw.uniform(1.01, 4, size=(n, 1))
    shown = GetDreamMapResponse(dimension=dimension, memories_placed=n + 5)
    for i, point in enumerate(points):
        text = f"memory {i} costs $5 and $7_ 東京 \x1b[31m <b>"
        shown.memories.add(text=text, kind=("note", "_odd", "$x$", "place")[i % 4], importance=i / n, point=point)
    for i in range(walks):
        shown.walks.add(origin=i, points=np.concatenate([points[i] * share for share in (1, 0.9, 0.8)]))
    for i in range(finds + links):
        source, target = draw.choice(n, 2, replace=False)
        kind = "DREAM_DISCOVERED" if i < finds else "MENTIONS"
        shown.edges.add(source=int(source), target=int(target), type=kind, evidence=f"reason {i}")
    return shown


@pytest.fixture(scope="module")
def svg() -> bytes:
    return drawing.draw(a_map(), "Dream 7", "svg")[0]


def test_an_svg_can_be_read_and_says_what_it_shows(svg: bytes) -> None:
    root = ET.fromstring(svg)
    assert root.tag == f"{SVG}svg"
    told = ["".join(element.itertext()) for element in root.iter(f"{SVG}text")]
    assert "Dream 7" in told
    assert any(line.startswith("60 of 65 memories, 4 walks, 20 finds, 40 links") for line in told)
    assert {"15 note", "15 _odd", "15 $x$"} <= set(told)
    assert {"1", "2", "3"} <= set(told)
    assert any("reason 0" in line for line in told)
    # Many points are one picture.
    assert len(list(root.iter(f"{SVG}image"))) == 1


def test_equal_maps_give_equal_pictures(svg: bytes) -> None:
    assert drawing.draw(a_map(), "Dream 7", "svg")[0] == svg


def test_a_png_can_be_read() -> None:
    body, drawn = drawing.draw(a_map(dimension=2), "Dream 7", "png")
    assert drawn == drawing.Drawn(60, 4, 20, 40)
    pixels = imread(io.BytesIO(body))
    assert pixels.shape[0] > 1000
    assert pixels.std() > 0.02


@pytest.mark.parametrize("dimension", [1, 2, 5])
def test_a_map_of_points_alone_is_drawn(dimension: int) -> None:
    shown = a_map(n=3, dimension=dimension, finds=0, links=0, walks=0)
    assert ET.fromstring(drawing.draw(shown, "", "svg")[0]).tag == f"{SVG}svg"


def test_labels_keep_apart_and_the_strongest_come_first() -> None:
    way = np.linspace([-0.5, 0.0], [0.5, 0.0], 40)
    edge = a_map().edges[0]
    first = drawing._room(way, [])
    assert first == pytest.approx((0, 0), abs=0.02)
    taken = [drawing._Find(1, edge, *first)]
    second = drawing._room(way, taken)
    assert second is not None
    assert np.hypot(second[0] - first[0], second[1] - first[1]) >= drawing.APART
    crowd = [drawing._Find(1, edge, x, 0.0) for x in np.linspace(-0.5, 0.5, 40)]
    assert drawing._room(way, crowd) is None


def test_what_speaks_for_a_find_is_shown_whole_or_by_its_first_part() -> None:
    shown = a_map(finds=2)
    shown.edges[0].evidence = 'both name "Ada" (3 memories); meet at "Hub", "Port", "a quay" and 2 more'
    shown.edges[1].evidence = 'both name "Bo"; told on one day'
    root = ET.fromstring(drawing.draw(shown, "", "svg")[0])
    told = {"".join(element.itertext()) for element in root.iter(f"{SVG}text")}
    assert {'both name "Ada" (3 memories)', 'both name "Bo"; told on one day'} <= told


# ── the command ─────────────────────────────────────────────────────────────────


def test_draw_writes_a_picture_of_the_last_night_that_explored(
    fake: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nights = [Dream(id="d3"), Dream(id="d2"), Dream(id="d1")]
    for night in nights[1:]:
        night.report.exploration.queries = 1
    fake.answers("ListDreams", ListDreamsResponse(dreams=nights))
    fake.answers("GetDreamMap", a_map())
    target = tmp_path / "night.SVG"
    assert main(["draw", "-o", str(target), "--space", "notes", "--server", fake.target]) == EXIT_OK
    assert ET.parse(target).getroot().tag == f"{SVG}svg"
    assert capsys.readouterr().out == f"{target}: 60 memories, 4 walks, 20 finds, 40 links of dream d2\n"
    (sent,) = fake.sent("GetDreamMap")
    assert (sent.dream_id, sent.space, sent.HasField("max_memories")) == ("d2", "notes", False)
    assert list(fake.sent("ListDreams")[0].states) == [Dream.STATE_SUCCEEDED]


def test_draw_says_where_a_dream_walked_nowhere(
    fake: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    still = a_map()
    still.ClearField("walks")
    fake.answers("GetDreamMap", still)
    assert main(["draw", "d9", "-o", str(tmp_path / "night.svg"), "--server", fake.target]) == EXIT_OK
    assert capsys.readouterr().err == "note: this dream walked nowhere; the picture shows where memories lie now\n"


def test_draw_of_a_named_dream_asks_for_no_other(
    fake: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.answers("GetDreamMap", a_map())
    target = tmp_path / "night.png"
    arguments = ["draw", "d9", "-o", str(target), "--memories", "70", "--json", "--server", fake.target]
    assert main(arguments) == EXIT_OK
    assert target.read_bytes().startswith(b"\x89PNG")
    told = json.loads(capsys.readouterr().out)
    assert told.pop("file") == str(target)
    assert told == {"dream_id": "d9", "memories": 60, "walks": 4, "finds": 20, "links": 40}
    assert [(request.dream_id, request.max_memories) for request in fake.sent("GetDreamMap")] == [("d9", 70)]
    assert not fake.sent("ListDreams")


@pytest.mark.parametrize("name", ["night.pdf", "night", "night.svg.gz"])
def test_another_kind_of_file_is_refused_before_anything_is_asked(
    fake: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert main(["draw", "-o", str(tmp_path / name), "--server", fake.target]) == EXIT_USAGE
    assert ".svg or .png" in capsys.readouterr().err
    assert not fake.requests
    assert not list(tmp_path.iterdir())


def test_without_positions_the_way_to_them_is_told(
    fake: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.answers("ListDreams", ListDreamsResponse())
    fake.answers("GetDreamMap", GetDreamMapResponse())
    target = tmp_path / "night.svg"
    assert main(["draw", "-o", str(target), "--server", fake.target]) == EXIT_FAILED
    assert capsys.readouterr().err == "dreamsvc: no positions yet\n  hint: run `dreamsvc dream --phase rem` first\n"
    assert not target.exists()


def test_without_matplotlib_the_extra_is_named(
    fake: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(draw, "find_spec", lambda name: None)
    assert main(["draw", "-o", str(tmp_path / "night.svg"), "--server", fake.target]) == EXIT_FAILED
    assert "pip install 'dreamsvc[draw]'" in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_told(
    fake: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.answers("GetDreamMap", a_map(n=3, finds=0, links=0, walks=0))
    assert main(["draw", "d", "-o", str(tmp_path / "no" / "night.svg"), "--server", fake.target]) == EXIT_FAILED
    assert "No such file" in capsys.readouterr().err
