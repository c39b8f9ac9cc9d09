"""The token table of the wordllama package: a text's vector is the mean of its tokens' vectors.

The two data files inside the installed package are read directly; the package's code is never imported. That code
installs a root log handler, brings in requests and pydantic, takes twice the memory and goes to the network when a
path does not resolve, none of which reading two files can do. The vectors equal the package's own (tested).
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dreamsvc.memory.embedder import INSTALL_EXTRA, EmbedderUnavailable, filled_slices, unit_rows
from dreamsvc.memory.model_files import map_tensor, read_tokenizer, sha256

_WEIGHTS = Path("weights", "l2_supercat_256.safetensors")
_TOKENIZER = Path("tokenizers", "l2_supercat_tokenizer_config.json")
_TABLE = "embedding.weight"
_TEXTS_A_SLICE = 64
# Characters outside the vocabulary fall back to bytes, up to four tokens each; this many rows are 8 MB, and a mean
# over so many moves no more.
_MAX_TOKENS = 8_192


class WordLlamaEmbedder:
    """256 numbers a text in 0.02 to 0.05 ms; knows words, not their order. Of a text the first 8,192 tokens count."""

    def __init__(self) -> None:
        """Map the table and read the tokenizer, about 25 MB. Raises EmbedderUnavailable."""
        package = _package_dir()
        table = map_tensor(package / _WEIGHTS, _TABLE)
        if table is None or table.ndim != 2:
            raise EmbedderUnavailable(f"{package / _WEIGHTS} holds no token table; mend: {INSTALL_EXTRA}")
        # As it lies in the file; read and twice as wide it would be a third of the serving process.
        self._table = table
        self._tokenizer = read_tokenizer(package / _TOKENIZER, _MAX_TOKENS)
        if self._tokenizer.get_vocab_size() > len(self._table):
            raise EmbedderUnavailable(f"{package} is inconsistent: more tokens than rows; mend: {INSTALL_EXTRA}")
        self.dim = int(self._table.shape[1])
        self.id = f"wordllama-{self.dim}:{sha256(package / _WEIGHTS)[:12]}"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `Embedder.embed`."""
        sums = np.zeros((len(texts), self.dim), np.float32)
        for rows, fit in filled_slices(texts, _TEXTS_A_SLICE):
            encodings = self._tokenizer.encode_batch_fast(fit, add_special_tokens=False)
            for row, encoding in zip(rows, encodings, strict=True):
                sums[row] = self._table[encoding.ids].sum(axis=0, dtype=np.float32)
        # A sum points where the mean does.
        return unit_rows(sums)


def _package_dir() -> Path:
    # For a top-level name find_spec looks for the package without running it.
    spec = find_spec("wordllama")
    if spec is None or spec.origin is None:
        raise EmbedderUnavailable(f"the wordllama embedder needs the package 'wordllama'; mend: {INSTALL_EXTRA}")
    return Path(spec.origin).parent
