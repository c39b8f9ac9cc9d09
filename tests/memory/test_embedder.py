import json
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from dreamsvc.memory import embedder_opening
from dreamsvc.memory.embedder import (
    MAX_SLICE_CHARS,
    MAX_TEXT_CHARS,
    Embedder,
    EmbedderUnavailable,
    EmbeddingFailed,
    filled_slices,
    unit_rows,
)
from dreamsvc.memory.embedder_opening import open_embedder

ROOT = Path(__file__).parents[2]
needs_wordllama = pytest.mark.skipif(find_spec("wordllama") is None, reason="pip install 'dreamsvc[embed]'")

SENTENCES = ["The hippocampus replays the day.", "睡眠中の記憶", "🧠💤", "a", "x" * 500, "two\nlines <s> here"]


def opened(kind: str, path: str = "") -> Embedder | None:
    return open_embedder(kind, path=path, url="", model="", api_key_env="", timeout_s=1.0)


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)


@pytest.fixture(scope="module")
def wordllama() -> Embedder:
    found = opened("wordllama")
    assert found is not None
    return found


def test_importing_the_embedder_imports_no_tokenizer_weights_or_http_client():
    heavy = "{'tokenizers', 'safetensors', 'wordllama', 'httpx', 'tenacity', 'requests', 'scipy', 'jax'}"
    run_python(f"import sys, dreamsvc.memory.embedder; loaded = {heavy} & set(sys.modules); assert not loaded, loaded")


def test_none_opens_nothing():
    assert opened("none") is None


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="word2vec"):
        opened("word2vec")


def test_auto_is_none_where_wordllama_is_not_installed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(embedder_opening, "find_spec", lambda name: None)  # pyright: ignore[reportUnknownLambdaType]
    assert opened("auto") is None


@pytest.mark.parametrize("kind", ["wordllama", "minilm"])
def test_a_kind_whose_packages_are_missing_says_how_to_mend_it(kind: str, monkeypatch: pytest.MonkeyPatch):
    for module in ("wordllama", "minilm", "model_files"):
        monkeypatch.delitem(sys.modules, f"dreamsvc.memory.{module}", raising=False)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(EmbedderUnavailable, match=r"'tokenizers'.*pip install 'dreamsvc\[embed\]'"):
        opened(kind)


def test_an_endpoint_without_httpx_says_how_to_mend_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(sys.modules, "dreamsvc.memory.embedding_endpoint", raising=False)
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(EmbedderUnavailable, match=r"'httpx'.*pip install 'dreamsvc\[embed\]'"):
        opened("endpoint")


def test_wordllama_missing_beside_its_own_dependencies_says_how_to_mend_it(monkeypatch: pytest.MonkeyPatch):
    module = pytest.importorskip("dreamsvc.memory.wordllama", exc_type=ImportError)
    monkeypatch.setattr(module, "find_spec", lambda name: None)  # pyright: ignore[reportUnknownLambdaType]
    with pytest.raises(EmbedderUnavailable, match="needs the package 'wordllama'"):
        opened("wordllama")


def test_unit_rows_have_length_one_and_zero_rows_stay_zero():
    rows = unit_rows(np.array([[3.0, 4.0], [0.0, 0.0], [1e300, 1e300], [5e-324, 0.0]]))
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0, 0], [0.5**0.5, 0.5**0.5], [1, 0]], atol=1e-7)
    assert unit_rows(np.zeros((0, 4))).shape == (0, 4)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_raise(bad: float):
    with pytest.raises(EmbeddingFailed, match="not finite"):
        unit_rows(np.array([[1.0, 0.0], [bad, 1.0]]))


def test_slices_leave_out_blank_texts_and_keep_to_both_bounds():
    texts = ["a", "", " \n\t\u3000", "b", "c", "d" * 2 * MAX_TEXT_CHARS]
    assert [rows for rows, _ in filled_slices(texts, 2)] == [[0, 3], [4, 5]]
    slices = list(filled_slices(["x" * MAX_TEXT_CHARS] * 20, 64))
    assert [row for rows, _ in slices for row in rows] == list(range(20))
    assert all(sum(map(len, fit)) <= MAX_SLICE_CHARS for _, fit in slices)


def test_half_a_surrogate_pair_becomes_text_that_a_tokenizer_takes():
    assert list(filled_slices(["a\ud800b"], 1)) == [([0], ["a?b"])]


@needs_wordllama
def test_wordllama_loads_and_embeds_without_the_network_and_in_silence(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    def refuse(*_args: object, **_kwargs: object):
        raise AssertionError("dialled out")

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    found = opened("auto")
    assert found is not None
    assert found.embed(SENTENCES).shape == (len(SENTENCES), found.dim)
    assert capfd.readouterr() == ("", "")


@needs_wordllama
def test_wordllama_embeds_without_running_the_package_or_touching_the_log():
    run_python(
        "import logging, sys\n"
        "from dreamsvc.memory.embedder_opening import open_embedder\n"
        "e = open_embedder('wordllama', path='', url='', model='', api_key_env='', timeout_s=1.0)\n"
        "e.embed(['x'])\n"
        "assert not {'wordllama', 'requests', 'pydantic', 'httpx'} & set(sys.modules)\n"
        "assert not logging.getLogger().handlers"
    )


@needs_wordllama
def test_wordllama_equals_the_package(wordllama: Embedder):
    reference = run_python(
        "import json, pathlib, wordllama\n"
        "home = pathlib.Path(wordllama.__file__).parent\n"
        "model = wordllama.WordLlama.load(cache_dir=home, disable_download=True)\n"
        f"print(json.dumps(model.embed({SENTENCES!r}, norm=True).tolist()))"
    )
    np.testing.assert_allclose(wordllama.embed(SENTENCES), np.array(json.loads(reference.stdout)), atol=1e-6)


@needs_wordllama
def test_wordllama_gives_unit_rows_and_zeros_for_blank_texts(wordllama: Embedder):
    vectors = wordllama.embed(["", "memory", " \n", "dream"])
    assert vectors.shape == (4, wordllama.dim)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [0, 1, 0, 1], atol=1e-6)
    assert wordllama.embed([]).shape == (0, wordllama.dim)
    assert wordllama.id.startswith(f"wordllama-{wordllama.dim}:")


@needs_wordllama
def test_of_a_text_of_ten_megabytes_wordllama_reads_the_head(wordllama: Embedder):
    text = "lorem 😀 " * 1_300_000
    long, head = wordllama.embed([text, text[:MAX_TEXT_CHARS]])
    np.testing.assert_array_equal(long, head)
