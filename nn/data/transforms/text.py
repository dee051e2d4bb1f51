"""From text to numbers and back: a token for each character, or for each byte."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

import numpy as np

from agnostic_ad.nn.data.transforms.base import Transform
from agnostic_ad.nn.data.transforms.functional.pixels import on_host

__all__ = ["ByteTokenizer", "CharTokenizer"]


class _Tokenizer(Transform):
    def takes(self, leaf: Any) -> bool:
        """Tell whether a part of a sample is text."""
        return isinstance(leaf, str)

    def image_of(self, sample: Any) -> Any:
        """Give the text of a sample."""
        try:
            return super().image_of(sample)
        except TypeError:
            raise TypeError(f"{self.name} takes text (str), alone or in a sample; got {type(sample).__name__}") from None

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Encode."""
        return self.encode(inpt)

    def encode(self, text: str) -> np.ndarray[Any, Any]:
        """Give the tokens of a text, int64."""
        raise NotImplementedError

    def _tokens(self, tokens: Any, count: int) -> list[int]:
        found: list[int] = on_host(tokens).astype("int64").reshape(-1).tolist()
        wrong = next((t for t in found if not 0 <= t < count), None)
        if wrong is not None:
            raise ValueError(f"{self.name}.decode: tokens lie between 0 and {count - 1}; got {wrong}")
        return found


class CharTokenizer(_Tokenizer):
    """A token for each character.

    Parameters
    ----------
    vocabulary : iterable of str, optional
        The characters, in the order of their tokens; otherwise ``fit`` finds them, sorted.
    unknown : str, optional
        The character that stands for all others; by default others are an error.
    **options
        As for `Transform`.

    Examples
    --------
    >>> from agnostic_ad.nn.data import transforms as T
    >>> tokens = T.CharTokenizer().fit(["banana"])
    >>> tokens.encode("nab"), tokens.decode([1, 0])
    (array([2, 0, 1]), 'ba')
    """

    def __init__(self, vocabulary: Iterable[str] | None = None, unknown: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        if unknown is not None and (not isinstance(unknown, str) or len(unknown) != 1):
            raise ValueError(f"CharTokenizer: unknown is one character, not {unknown!r}")
        self.unknown = unknown
        self.vocabulary: list[str] = []
        if vocabulary is not None:
            self._take(list(vocabulary))

    def _take(self, characters: list[str]) -> None:
        if self.unknown is not None and self.unknown not in characters:
            characters = [self.unknown, *characters]
        if any(not isinstance(c, str) or len(c) != 1 for c in characters) or len(set(characters)) != len(characters):
            raise ValueError("CharTokenizer: the vocabulary holds single characters, each once")
        self.vocabulary = characters
        self._numbers = {c: i for i, c in enumerate(characters)}

    def fit(self, texts: str | Iterable[str]) -> Self:
        """Learn the characters of one text or several."""
        self._take(sorted(set().union(*([texts] if isinstance(texts, str) else texts)) - {self.unknown}))
        return self

    def __len__(self) -> int:
        return len(self.vocabulary)

    def encode(self, text: str) -> np.ndarray[Any, Any]:
        """Give the tokens of a text, int64."""
        if not self.vocabulary:
            raise RuntimeError("CharTokenizer knows no characters yet: call fit(texts) first, or give a vocabulary")
        other = None if self.unknown is None else self._numbers[self.unknown]
        found = [self._numbers.get(c, other) for c in text]
        if None in found:
            raise ValueError(
                f"CharTokenizer: {text[found.index(None)]!r} is not in the vocabulary; give unknown= to have a token for others"
            )
        return np.asarray(found, dtype="int64")

    def decode(self, tokens: Any) -> str:
        """Give the text of tokens, a list or an array of any library."""
        return "".join(self.vocabulary[t] for t in self._tokens(tokens, len(self)))

    def state_dict(self) -> dict[str, Any]:
        """Give the vocabulary, for a JSON file."""
        return {"vocabulary": list(self.vocabulary), "unknown": self.unknown}

    def load_state_dict(self, state: dict[str, Any]) -> Self:
        """Take the vocabulary of another one."""
        self.unknown = state["unknown"]
        self._take(list(state["vocabulary"]))
        return self

    def extra_repr(self) -> str:
        """Give the number of characters."""
        return f"{len(self)} characters, unknown={self.unknown!r}"


class ByteTokenizer(_Tokenizer):
    """A token for each byte of the text in UTF-8: 256, and two more for its begin and end where they are asked for.

    Parameters
    ----------
    bos, eos : bool
        Whether a text begins with token 256, and ends with token 257.
    **options
        As for `Transform`.

    Examples
    --------
    >>> from agnostic_ad.nn.data import transforms as T
    >>> tokens = T.ByteTokenizer(eos=True)
    >>> tokens("hé"), tokens.decode(tokens("hé"))
    (array([104, 195, 169, 257]), 'hé')
    """

    BOS, EOS = 256, 257

    def __init__(self, bos: bool = False, eos: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.bos, self.eos = bool(bos), bool(eos)

    def __len__(self) -> int:
        return 258 if self.bos or self.eos else 256

    def encode(self, text: str) -> np.ndarray[Any, Any]:
        """Give the tokens of a text, int64."""
        body = np.frombuffer(text.encode("utf-8"), dtype="uint8").astype("int64")
        return np.concatenate([np.asarray([self.BOS] * self.bos, dtype="int64"), body, np.asarray([self.EOS] * self.eos, dtype="int64")])

    def decode(self, tokens: Any) -> str:
        """Give the text of tokens, a list or an array of any library; bytes that are no text become U+FFFD."""
        return bytes(t for t in self._tokens(tokens, len(self)) if t < 256).decode("utf-8", errors="replace")
