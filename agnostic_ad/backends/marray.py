"""marray: masked arrays over any library of the standard."""

from __future__ import annotations

from typing import Any

from agnostic_ad.backends.base import Backend
from agnostic_ad.errors import UnsupportedError


class MaskedBackend(Backend):
    """A masked namespace, such as ``marray.numpy``."""

    def mean(self, x: Any, /, **options: Any) -> Any:
        """Refuse."""
        raise _counts("mean")

    def std(self, x: Any, /, **options: Any) -> Any:
        """Refuse."""
        raise _counts("std")

    def var(self, x: Any, /, **options: Any) -> Any:
        """Refuse."""
        raise _counts("var")

    def from_scipy(self, name: str, *args: Any) -> Any:
        """Compute with the data on the host, and put the masks back."""
        y = super().from_scipy(name, *args)
        mask = y.mask
        for a in args:
            mask = mask | a.mask if self.owns(a) else mask
        return self.xp.asarray(y.data, mask=mask)

    def to_device(self, x: Any, device: Any) -> Any:
        """Move data and mask; marray's own method gives nothing back."""
        return x if device is None or str(device) == str(x.device) else self.xp.asarray(x, device=device)


def _counts(name: str) -> UnsupportedError:
    return UnsupportedError(
        f"{name} of masked arrays divides by how many elements are not masked, which its derivative here does not count. "
        "Write xp.sum(x, axis=axis) / count with a count of your own."
    )
