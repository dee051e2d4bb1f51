"""What the Array API standard lacks, one small file per library.

`base.Backend` holds a general fallback for everything, written in the standard alone; a library's own file overrides what that
library does better. Third parties register a factory under the entry-point group ``agnostic_ad.backends``.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from agnostic_ad.backends.base import Backend

__all__ = ["Backend", "available"]

_LIBRARIES = {"numpy": "numpy", "array_api_strict": "strict", "torch": "torch", "jax": "jax", "dask": "dask", "cupy": "cupy"}


def available() -> dict[str, dict[str, Any]]:
    """Names and versions of the array libraries found on this machine, with their devices.

    Returns
    -------
    dict
        ``{library: {"version": str, "devices": list of str}}``. A library that is installed but does not work (CuPy without a
        driver) has the key ``"error"`` instead of devices. Every library listed has been imported.

    Examples
    --------
    >>> import agnostic_ad as ad
    >>> "numpy" in ad.backends.available()
    True
    """
    found: dict[str, dict[str, Any]] = {}
    for library, module in _LIBRARIES.items():
        if importlib.util.find_spec(library) is None:
            continue
        try:
            backend = importlib.import_module(f"agnostic_ad.backends.{module}").make()
            found[library] = {"version": backend.version(), "devices": backend.devices()}
        except Exception as error:  # whatever a broken installation raises is the answer
            found[library] = {"version": "?", "error": f"{type(error).__name__}: {error}".splitlines()[0]}
    return found
