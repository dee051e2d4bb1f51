"""How a worker process begins; run as a file, so that nothing of the package is imported before this.

A worker needs little of the package. The packages on the way to it get no contents until somebody asks for a name in them: that saves
each worker about 20 MB and half of its start.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import threading
import types
from typing import Any

_LOCK = threading.RLock()


class _Deferred(types.ModuleType):
    """A package whose ``__init__`` runs when a name in it is asked for that is no module of it."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        with _LOCK:
            if type(self) is _Deferred and importlib.util.find_spec(f"{self.__name__}.{name}") is not None:
                return importlib.import_module(f"{self.__name__}.{name}")
            if type(self) is _Deferred:
                self.__class__ = types.ModuleType  # type: ignore[assignment]
                assert self.__spec__ is not None and self.__spec__.loader is not None
                self.__spec__.loader.exec_module(self)
        return getattr(self, name)


def defer(packages: dict[str, str]) -> None:
    """Put packages in place, given the folder of each, outer ones first."""
    for name, folder in packages.items():
        if name in sys.modules:
            continue
        spec = importlib.util.spec_from_file_location(name, os.path.join(folder, "__init__.py"), submodule_search_locations=[folder])
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        module.__class__ = _Deferred
        sys.modules[name] = module
        outer, _, inner = name.rpartition(".")
        if outer:
            setattr(sys.modules[outer], inner, module)


def begin(said: dict[str, Any], connection: Any) -> None:
    """Do a worker's work, given what the loader's process says of itself."""
    defer(said["packages"])
    from agnostic_ad.nn.data.workers_child import serve

    serve(connection, [], said["number"], said["count"], main=said["main"])


if __name__ == "__main__":  # a command, with the number of an open file as its argument
    import pickle
    from multiprocessing.connection import Connection

    _connection = Connection(int(sys.argv[1]))
    _said = pickle.loads(_connection.recv_bytes())
    sys.path[:], sys.argv[:] = _said["path"], _said["argv"]
    begin(_said, _connection)
elif __name__ == "<worker>":  # in a process of multiprocessing's
    begin(globals()["said"], globals()["connection"])
