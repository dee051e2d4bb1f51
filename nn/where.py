"""Errors that say in which layer of a model they happened."""

from __future__ import annotations

from typing import Any

__all__ = ["say_where"]

_TEXTS = (ValueError, TypeError, IndexError, RuntimeError, ArithmeticError)
"""Errors whose text is for people to read; a KeyError's, for one, is a key."""


class _Place:
    """How far up an error has come: the layer where it happened, and its path in the outermost model that is known."""

    def __init__(self, layer: Any, text: str | None) -> None:
        self.layer = self.model = layer
        self.path = ""
        self.text = text
        """The error's own text, if that may be changed."""

    def __reduce__(self) -> Any:
        return _Place, (None, None)  # an error goes from process to process without the model


def say_where(module: Any, error: Exception) -> None:
    """Note that an error has come up to ``module``: begin its text with the path of the layer where it happened, seen from there.

    Exceptions of other classes than Python's and this package's keep their text, and get a note (PEP 678).
    """
    place = getattr(error, "_layer", None)
    if place is None:
        error._layer = _Place(module, _text(error))  # type: ignore[attr-defined]
        return
    below = next((path for path, m in module.named_modules() if m is place.model), "")
    if not below:
        return  # one that is called by another without being a part of it
    before, place.model, place.path = _where(place), module, f"{below}.{place.path}" if place.path else below
    if place.text is not None:
        error.args = (f"{_where(place)}: {place.text}",)
    else:
        notes = getattr(error, "__notes__", [])
        if before in notes:
            notes[notes.index(before)] = _where(place)
        else:
            error.add_note(_where(place))


def _where(place: _Place) -> str:
    return f"{place.path} ({type(place.layer).__name__})"


def _text(error: Exception) -> str | None:
    ours = type(error).__module__.partition(".")[0] in ("builtins", "agnostic_ad")
    return error.args[0] if ours and isinstance(error, _TEXTS) and len(error.args) == 1 and isinstance(error.args[0], str) else None
