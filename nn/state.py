"""The state of modules: parameters and persistent buffers by name, out of a module and into it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from agnostic_ad import Variable
from agnostic_ad.arguments import is_array
from agnostic_ad.errors import AgnosticADError
from agnostic_ad.levels import Array
from agnostic_ad.nn.hooks import Hooked, RemovableHandle
from agnostic_ad.nn.parameter import Parameter, adopt, assign, is_lazy

__all__ = ["IncompatibleKeys", "StateError", "Stateful"]

_EXTRA = "_extra_state"


class StateError(AgnosticADError, RuntimeError, ValueError):
    """A state does not fit what it is loaded into."""


class IncompatibleKeys(NamedTuple):
    """What `Module.load_state_dict` could not use."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not (self.missing_keys or self.unexpected_keys):
            return "<All keys matched successfully>"
        return f"IncompatibleKeys(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"


class Stateful(Hooked):
    """The part of `Module` that gives and takes its state."""

    _version: int = 1
    """Goes into the metadata of a state; a subclass that changes its names or shapes counts it up, and looks at it when it loads."""
    _parameters: dict[str, Any]
    _buffers: dict[str, Any]
    _modules: dict[str, Any]
    _non_persistent_buffers_set: set[str]

    # --- out ------------------------------------------------------------------------------------------------------------------------
    def state_dict(self, *, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> dict[str, Any]:
        """Give all parameters and persistent buffers by name, as raw arrays (as Variables with ``keep_vars``).

        Parameters
        ----------
        destination : dict, optional
            Where to put them; by default a new one.
        prefix : str
            What the names begin with.
        keep_vars : bool
            Whether to give the parameters and buffers themselves.

        Returns
        -------
        dict of str to array
            Also what `get_extra_state` gives, where a module defines it. The arrays are the module's own, not copies.
        """
        if destination is None:
            destination = OrderedDict()
            destination._metadata = OrderedDict()
        metadata = {"version": self._version}
        if hasattr(destination, "_metadata"):
            destination._metadata[prefix[:-1]] = metadata
        hooks = self._hooks
        for hook in () if hooks is None else tuple(hooks.state_dict_pre.values()):
            hook(self, prefix, keep_vars)
        self._save_to_state_dict(destination, prefix, keep_vars)
        for name, module in self._modules.items():
            if module is not None:
                module.state_dict(destination=destination, prefix=f"{prefix}{name}.", keep_vars=keep_vars)
        for number, hook in () if hooks is None else tuple(hooks.state_dict.items()):
            changed = hook(self, destination, prefix, metadata)
            if changed is not None:
                if number not in hooks.bare:  # type: ignore[union-attr]
                    raise TypeError(f"a state_dict hook changes the state in place and returns None, not {type(changed).__name__}")
                destination = changed
        return destination  # type: ignore[no-any-return]

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        """Put the state of this module alone, without those below, where it belongs."""
        for name, v in self._own_state().items():
            destination[prefix + name] = v if keep_vars or is_lazy(v) or not isinstance(v, Array) else v.payload
        if type(self).get_extra_state is not Stateful.get_extra_state:
            destination[prefix + _EXTRA] = self.get_extra_state()

    def _own_state(self) -> dict[str, Any]:
        kept = {name: b for name, b in self._buffers.items() if name not in self._non_persistent_buffers_set}
        return {name: v for name, v in (*self._parameters.items(), *kept.items()) if v is not None}

    def get_extra_state(self) -> Any:
        """Give what else belongs to the state; a module that has such things defines this and `set_extra_state`."""
        raise NotImplementedError(f"{type(self).__name__} has no extra state: define get_extra_state() and set_extra_state(state)")

    def set_extra_state(self, state: Any) -> None:
        """Take what `get_extra_state` gave."""
        raise NotImplementedError(f"{type(self).__name__} has no extra state: define get_extra_state() and set_extra_state(state)")

    # --- in -------------------------------------------------------------------------------------------------------------------------
    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> IncompatibleKeys:
        """Take the values of parameters and buffers from arrays of any library.

        Where something does not fit, everything that does not is listed in one error, and the module stays as it was.

        Parameters
        ----------
        state_dict : mapping of str to array
            As `state_dict` gives it, or PyTorch's.
        strict : bool
            Whether a name too few or too many is an error.
        assign : bool
            Whether to take the arrays themselves, with their library, dtype and device, in place of copies like what is there. The parameters
            stay the objects that they are, so an optimizer made before goes on; a `Parameter` in the state takes the place of the module's.

        Returns
        -------
        IncompatibleKeys
            (missing_keys, unexpected_keys)

        Raises
        ------
        StateError
            A RuntimeError and a ValueError: names that are missing or unexpected, shapes that differ.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"load_state_dict takes a mapping of names to arrays, not {type(state_dict).__name__}")
        job = _Loading(getattr(state_dict, "_metadata", {}), assign, [], [], [])
        undo = _Undo(self)
        try:
            job.load(self, OrderedDict(state_dict), "")  # a copy, which hooks may change
            faults = [
                f"{what}: {', '.join(names)}" for what, names in zip(("missing", "unexpected"), job.keys, strict=True) if names and strict
            ]
            faults += job.faults
            if faults:
                raise StateError(f"{type(self).__name__} cannot load this state: {'; '.join(faults)}")
        except BaseException:
            undo()
            raise
        return job.keys

    def _load_from_state_dict(
        self,
        state_dict: Any,
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Take the state of this module alone; subclasses that read older states put them right first."""
        hooks = self._hooks
        for number, hook in () if hooks is None else tuple(hooks.load_state_dict_pre.items()):
            module = () if number in hooks.bare else (self,)  # type: ignore[union-attr]
            hook(*module, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)
        own = self._own_state()
        for name, v in own.items():
            if prefix + name in state_dict:
                try:
                    fault = self._take(name, v, state_dict[prefix + name], local_metadata.get("assign_to_params_buffers", False))
                except Exception as error:  # whatever a library says of an array that it cannot take
                    fault = f" cannot be taken from the state: {error}"
                if fault:
                    error_msgs.append(prefix + name + fault)
            elif strict:
                missing_keys.append(prefix + name)
        extra = prefix + _EXTRA
        if type(self).set_extra_state is not Stateful.set_extra_state:
            if extra in state_dict:
                self.set_extra_state(state_dict[extra])
            elif strict:
                missing_keys.append(extra)
        elif strict and extra in state_dict:
            unexpected_keys.append(extra)
        for key in state_dict if strict else ():
            first, dot, _ = key.removeprefix(prefix).partition(".")
            if key.startswith(prefix) and key != extra and first not in (self._modules if dot else own):
                unexpected_keys.append(key)

    def _take(self, name: str, v: Any, value: Any, swap: bool) -> str:
        """Give one parameter or buffer its value; what is wrong with that, if something is."""
        if is_lazy(value):
            return "" if is_lazy(v) else " is uninitialized in the state, of a lazy module that was never called; not in the module"
        if not is_array(value):
            return f" is no array in the state, but of type {type(value).__name__}"
        raw = value.payload if isinstance(value, Array) else value
        if is_lazy(v):
            v.materialize(tuple(raw.shape))
        if v.shape == () and tuple(raw.shape) == (1,):
            raw = raw[0]  # so were counters written long ago
        if tuple(raw.shape) != tuple(v.shape):
            return f" has shape {tuple(raw.shape)} in the state, {tuple(v.shape)} in the module"
        if not swap:
            assign(v, adopt(raw, v.payload))
        elif isinstance(value, Parameter) and isinstance(v, Parameter):
            value.requires_grad = v.requires_grad  # type: ignore[attr-defined]
            self._parameters[name] = value
        else:
            v.grad = None
            assign(v, raw)
        return ""

    # --- hooks ----------------------------------------------------------------------------------------------------------------------
    def register_state_dict_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(module, prefix, keep_vars)`` before `state_dict` looks at this module."""
        return RemovableHandle(self._state_dict_pre_hooks, hook)

    def register_state_dict_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(module, state_dict, prefix, local_metadata)`` after `state_dict`; it may change the state in place."""
        return RemovableHandle(self._state_dict_hooks, hook)

    def register_load_state_dict_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call a hook before this module takes its state, which it may change in place.

        Its arguments are ``(module, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)``.
        """
        return RemovableHandle(self._load_state_dict_pre_hooks, hook)

    def register_load_state_dict_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(module, incompatible_keys)`` after this module and those below took their state; it may change the lists in place."""
        return RemovableHandle(self._load_state_dict_post_hooks, hook)

    def _register_state_dict_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Do as `register_state_dict_post_hook`; what the hook returns takes the place of the state. Code written for PyTorch calls it."""
        handle = self.register_state_dict_post_hook(hook)
        self._own_hooks().bare.add(handle.id)
        return handle

    def _register_load_state_dict_pre_hook(self, hook: Callable[..., Any], with_module: bool = False) -> RemovableHandle:
        """Do as `register_load_state_dict_pre_hook`, without the module as an argument. Code written for PyTorch calls it."""
        handle = self.register_load_state_dict_pre_hook(hook)
        if not with_module:
            self._own_hooks().bare.add(handle.id)
        return handle


class _Loading(NamedTuple):
    """One call of `load_state_dict`."""

    metadata: Any
    assign: bool
    missing: list[str]
    unexpected: list[str]
    faults: list[str]

    @property
    def keys(self) -> IncompatibleKeys:
        """What is missing and what is unexpected."""
        return IncompatibleKeys(self.missing, self.unexpected)

    def load(self, module: Any, state: dict[str, Any], prefix: str) -> None:
        """Give a module, and those below, their part of the state."""
        metadata = dict(self.metadata.get(prefix[:-1], {}))
        if self.assign:
            metadata["assign_to_params_buffers"] = True
        module._load_from_state_dict(state, prefix, metadata, True, self.missing, self.unexpected, self.faults)
        for name, child in module._modules.items():
            if child is not None:
                below = f"{prefix}{name}."
                self.load(child, {key: value for key, value in state.items() if key.startswith(below)}, below)
        hooks = module._hooks
        for hook in () if hooks is None else tuple(hooks.load_state_dict_post.values()):
            changed = hook(module, self.keys)
            if changed is not None:
                raise TypeError(f"a load_state_dict hook changes the lists of keys in place and returns None, not {changed!r:.80}")


class _Undo:
    """What a module and those below hold, to be put back."""

    def __init__(self, module: Any) -> None:
        self.tables = [(table, dict(table)) for m in module.modules() for table in (m._parameters, m._buffers)]
        leaves = [v for _, table in self.tables for v in table.values() if isinstance(v, Variable) and not is_lazy(v)]
        self.leaves = [(v, v.payload, v.grad) for v in leaves]

    def __call__(self) -> None:
        for table, before in self.tables:
            table.clear()
            table.update(before)
        for v, payload, grad in self.leaves:
            if v.payload is not payload:
                assign(v, payload)
                v.grad = grad
