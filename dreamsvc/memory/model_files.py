"""Files of an embedding model, read with errors that name the file and what is wrong with it.

Nothing here writes, downloads or runs code of the package that the files came in.
"""

import hashlib
import json
from pathlib import Path
from typing import cast

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError
from tokenizers import Tokenizer

from dreamsvc.memory.embedder import EmbedderUnavailable

MOST_HEADER = 16 * 1024 * 1024


def sha256(path: Path) -> str:
    """The file's digest, 64 hex digits. Raises EmbedderUnavailable."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as exc:
        raise _unreadable(path, exc) from exc


def read_json(path: Path) -> dict[str, object]:
    """The object in a JSON file. Raises EmbedderUnavailable."""
    try:
        content: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise _unreadable(path, exc) from exc
    if not isinstance(content, dict):
        raise EmbedderUnavailable(f"{path} holds no JSON object")
    return cast("dict[str, object]", content)


def read_tokenizer(path: Path, max_tokens: int) -> Tokenizer:
    """A tokenizer that cuts a text after `max_tokens` tokens, those it adds itself included, and pads nothing.

    Raises EmbedderUnavailable.
    """
    if not path.is_file():
        raise EmbedderUnavailable(f"{path} is missing")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as exc:  # the library raises nothing narrower
        raise _unreadable(path, exc) from exc
    # The file's own settings are those of whoever saved it: all-MiniLM-L6-v2 cuts and pads to 128 there, while its
    # reference overrules both.
    tokenizer.enable_truncation(max_tokens)  # pyright: ignore[reportUnknownMemberType]
    tokenizer.no_padding()
    return tokenizer


def map_tensor(path: Path, name: str) -> NDArray[np.float16] | None:
    """A float16 tensor of a safetensors file, mapped: what is never read takes no memory. None where it is not there.

    The file is a length, a header in JSON and the tensors one after the other. Raises EmbedderUnavailable.
    """
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(size, MOST_HEADER)))
        entry = header.get(name)
        if entry is None or entry["dtype"] != "F16":
            return None
        start, end = entry["data_offsets"]
        mapped = np.memmap(path, np.dtype("<f2"), "r", 8 + size + start, tuple(entry["shape"]))
        if mapped.nbytes != end - start:
            raise ValueError("the header does not fit the tensor")
        return mapped
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as exc:
        raise _unreadable(path, exc) from exc


def read_tensors(path: Path) -> dict[str, NDArray[np.float32]]:
    """The floating-point tensors of a safetensors file by name, as float32. Raises EmbedderUnavailable."""
    if not path.is_file():
        raise EmbedderUnavailable(f"{path} is missing")
    try:
        tensors = safetensors.numpy.load_file(path)  # pyright: ignore[reportUnknownMemberType]
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as exc:
        raise _unreadable(path, exc) from exc
    return {
        name: tensor.astype(np.float32, copy=False)
        for name, tensor in tensors.items()
        if np.issubdtype(tensor.dtype, np.floating)
    }


def _unreadable(path: Path, exc: Exception) -> EmbedderUnavailable:
    return EmbedderUnavailable(f"{path} cannot be read, it may be torn ({exc}); mend: fetch it again")
