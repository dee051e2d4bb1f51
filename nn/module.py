"""The base class of all layers and models."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from agnostic_ad import Variable
from agnostic_ad.config import move, parse
from agnostic_ad.errors import AgnosticADError
from agnostic_ad.nn.parameter import Buffer, Parameter, adopt, assign, clear_grad

__all__ = ["IncompatibleKeys", "Module", "RemovableHandle", "StateError"]

_hook_numbers = itertools.count()


class StateError(AgnosticADError, RuntimeError, ValueError):
    """A state does not fit what it is loaded into."""


class IncompatibleKeys(NamedTuple):
    """What `Module.load_state_dict` could not use."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class RemovableHandle:
    """Takes a hook away again."""

    def __init__(self, hooks: dict[int, Any], hook: Any) -> None:
        self._hooks, self._number = hooks, next(_hook_numbers)
        hooks[self._number] = hook

    def remove(self) -> None:
        """Take the hook away; a second call does nothing."""
        self._hooks.pop(self._number, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


class Module:
    """A layer, or a model made of layers: parameters, buffers, sub-modules, and ``forward``.

    A subclass calls ``super().__init__()`` first, assigns its parts as attributes, and defines ``forward``. Nobody writes a backward pass.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> class Scale(nn.Module):
    ...     def __init__(self, n):
    ...         super().__init__()
    ...         self.weight = nn.Parameter(np.ones(n))
    ...
    ...     def forward(self, x):
    ...         return x * self.weight
    >>> scale = Scale(3)
    >>> scale(np.arange(3.0)).sum().backward()
    >>> scale.weight.grad
    array([0., 1., 2.])
    """

    training: bool
    _parameters: dict[str, Variable | None]
    _buffers: dict[str, Variable | None]
    _modules: dict[str, Module | None]

    def __init__(self) -> None:
        put = super().__setattr__
        put("training", True)
        for name in ("_parameters", "_buffers", "_modules", "_forward_hooks", "_forward_pre_hooks"):
            put(name, {})
        put("_passing_buffers", set())

    # --- computation ----------------------------------------------------------------------------------------------------------------
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the result; a subclass says how."""
        raise NotImplementedError(f"{type(self).__name__} has no forward(): define what it computes")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the pre-hooks, ``forward`` and the hooks."""
        if self._forward_pre_hooks:
            for hook in tuple(self._forward_pre_hooks.values()):
                changed = hook(self, args)
                if changed is not None:
                    args = changed if isinstance(changed, tuple) else (changed,)
        result = self.forward(*args, **kwargs)
        if self._forward_hooks:
            for hook in tuple(self._forward_hooks.values()):
                changed = hook(self, args, result)
                result = result if changed is None else changed
        return result

    def register_forward_pre_hook(self, hook: Callable[[Module, tuple[Any, ...]], Any]) -> RemovableHandle:
        """Call ``hook(module, args)`` before ``forward``; what it returns replaces the arguments."""
        return RemovableHandle(self._forward_pre_hooks, hook)

    def register_forward_hook(self, hook: Callable[[Module, tuple[Any, ...], Any], Any]) -> RemovableHandle:
        """Call ``hook(module, args, result)`` after ``forward``; what it returns replaces the result."""
        return RemovableHandle(self._forward_hooks, hook)

    # --- attributes -----------------------------------------------------------------------------------------------------------------
    def __setattr__(self, name: str, value: Any) -> None:
        kept = self.__dict__.get("_parameters")
        if kept is None:
            if isinstance(value, Parameter | Buffer | Module):
                raise AttributeError(f"{type(self).__name__}: call super().__init__() before assigning {name!r}")
            super().__setattr__(name, value)
        elif isinstance(value, Parameter):
            self._take_over(name, kept)
            kept[name] = value
        elif isinstance(value, Module):
            self._take_over(name, self._modules)
            self._modules[name] = value
        elif isinstance(value, Buffer):
            self._take_over(name, self._buffers)
            self.register_buffer(name, value, persistent=Buffer.passing.pop(id(value), None) is None)
        elif name in kept:
            if value is not None:
                raise TypeError(f"{name!r} is a parameter: assign an nn.Parameter or None, not {type(value).__name__}")
            kept[name] = None
        elif name in self._modules and value is None:
            self._modules[name] = None
        elif name in self._modules:
            raise TypeError(f"{name!r} is a module: assign an nn.Module or None, not {type(value).__name__}")
        elif name in self._buffers:
            self.register_buffer(name, value, persistent=name not in self._passing_buffers)
        else:
            super().__setattr__(name, value)

    def _take_over(self, name: str, kind: dict[str, Any]) -> None:
        """Forget what had this name among the attributes and the other kinds of parts."""
        for table in (self.__dict__, self._parameters, self._buffers, self._modules):
            if table is not kind:
                table.pop(name, None)
        self._passing_buffers.discard(name)

    def __getattr__(self, name: str) -> Any:
        for kind in ("_parameters", "_buffers", "_modules"):
            found = self.__dict__.get(kind)
            if found is not None and name in found:
                return found[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __delattr__(self, name: str) -> None:
        for kind in (self._parameters, self._buffers, self._modules):
            if name in kind:
                del kind[name]
                self._passing_buffers.discard(name)
                return
        super().__delattr__(name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._parameters, *self._buffers, *self._modules})

    def _check_name(self, name: str, table: Mapping[str, Any], what: str) -> None:
        if not isinstance(name, str) or not name or "." in name:
            raise KeyError(f"the name of a {what} is a non-empty string without dots, not {name!r}")
        if hasattr(self, name) and name not in table:
            raise KeyError(f"attribute {name!r} exists already")

    def register_parameter(self, name: str, param: Variable | None) -> None:
        """Add a parameter, or the place for one (None)."""
        self._check_name(name, self._parameters, "parameter")
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(f"{name!r}: an nn.Parameter or None is wanted, not {type(param).__name__}. Wrap it: nn.Parameter(x).")
        self._parameters[name] = param

    def register_buffer(self, name: str, tensor: Any, persistent: bool = True) -> None:
        """Add an array that belongs to the module's state but is not trained; raw arrays are wrapped."""
        self._check_name(name, self._buffers, "buffer")
        if tensor is not None and not isinstance(tensor, Variable):
            tensor = Buffer(tensor)
        self._buffers[name] = tensor
        (self._passing_buffers.discard if persistent else self._passing_buffers.add)(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """Add a sub-module under a name."""
        self._check_name(name, self._modules, "module")
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"{name!r}: an nn.Module or None is wanted, not {type(module).__name__}")
        self._modules[name] = module

    register_module = add_module

    # --- walking --------------------------------------------------------------------------------------------------------------------
    def named_modules(self, memo: set[Any] | None = None, prefix: str = "", remove_duplicate: bool = True) -> Iterator[tuple[str, Module]]:
        """Give this module and all below it, with their names; each once."""
        memo = set() if memo is None else memo
        if remove_duplicate and id(self) in memo:
            return
        memo.add(id(self))
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                yield from module.named_modules(memo, f"{prefix}.{name}" if prefix else name, remove_duplicate)

    def modules(self) -> Iterator[Module]:
        """Give this module and all below it."""
        return (module for _, module in self.named_modules())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Give the direct sub-modules with their names; each once."""
        seen: set[int] = set()
        for name, module in self._modules.items():
            if module is not None and id(module) not in seen:
                seen.add(id(module))
                yield name, module

    def children(self) -> Iterator[Module]:
        """Give the direct sub-modules."""
        return (module for _, module in self.named_children())

    def _named(self, kind: str, prefix: str, recurse: bool, remove_duplicate: bool) -> Iterator[tuple[str, Variable]]:
        seen: set[int] = set()
        modules = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate) if recurse else [(prefix, self)]
        for path, module in modules:
            for name, v in getattr(module, kind).items():
                if v is not None and id(v) not in seen:
                    if remove_duplicate:
                        seen.add(id(v))
                    yield f"{path}.{name}" if path else name, v

    def named_parameters(self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True) -> Iterator[tuple[str, Variable]]:
        """Give the parameters with their names; each once."""
        return self._named("_parameters", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Variable]:
        """Give the parameters."""
        return (v for _, v in self.named_parameters(recurse=recurse))

    def named_buffers(self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True) -> Iterator[tuple[str, Variable]]:
        """Give the buffers with their names; each once."""
        return self._named("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Variable]:
        """Give the buffers."""
        return (v for _, v in self.named_buffers(recurse=recurse))

    def get_submodule(self, target: str) -> Module:
        """Give the module of a dotted name; the empty name is this module's."""
        found: Any = self
        for part in target.split(".") if target else ():
            found = getattr(found, part, None)
            if not isinstance(found, Module):
                raise AttributeError(f"{type(self).__name__} has no module {target!r}")
        return found  # type: ignore[no-any-return]

    def get_parameter(self, target: str) -> Variable:
        """Give the parameter of a dotted name."""
        path, _, name = target.rpartition(".")
        found = self.get_submodule(path)._parameters.get(name)
        if found is None:
            raise AttributeError(f"{type(self).__name__} has no parameter {target!r}")
        return found

    def get_buffer(self, target: str) -> Variable:
        """Give the buffer of a dotted name."""
        path, _, name = target.rpartition(".")
        found = self.get_submodule(path)._buffers.get(name)
        if found is None:
            raise AttributeError(f"{type(self).__name__} has no buffer {target!r}")
        return found

    def apply(self, fn: Callable[[Module], Any]) -> Any:
        """Call ``fn`` on every module below, then on this one; give the module."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    # --- modes ----------------------------------------------------------------------------------------------------------------------
    def train(self, mode: bool = True) -> Any:
        """Set training mode, or evaluation mode, here and below; give the module."""
        if not isinstance(mode, bool):
            raise ValueError(f"train() takes True or False, not {mode!r}")
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Any:
        """Set evaluation mode; give the module."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Any:
        """Say whether the parameters are recorded; give the module."""
        for p in self.parameters():
            p.requires_grad = requires_grad
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the parameters' gradients, or make them zero."""
        for p in self.parameters():
            clear_grad(p, set_to_none)

    # --- moving ---------------------------------------------------------------------------------------------------------------------
    def to(self, *args: Any, xp: Any = None, dtype: Any = None, device: Any = None) -> Any:
        """Move parameters, buffers and gradients to another library, dtype or device, in place; give the module.

        Parameters
        ----------
        *args : namespace, dtype or device
            In any order. A dtype concerns floating arrays only.
        """
        to = parse(*args, xp=xp, dtype=dtype, device=device)
        for v in itertools.chain(self.parameters(), self.buffers()):
            grad = v.grad
            assign(v, move(v.payload, to))
            if grad is not None:
                v.grad = move(grad, to)
        return self

    def float(self) -> Any:
        """Convert floating arrays to float32."""
        return self.to("float32")

    def double(self) -> Any:
        """Convert floating arrays to float64."""
        return self.to("float64")

    # --- state ----------------------------------------------------------------------------------------------------------------------
    def state_dict(self, *, prefix: str = "", keep_vars: bool = False) -> dict[str, Any]:
        """Give all parameters and persistent buffers by name, as raw arrays (as Variables with ``keep_vars``)."""
        state: dict[str, Any] = {}
        for path, module in self.named_modules(prefix=prefix.removesuffix("."), remove_duplicate=False):
            path = f"{path}." if path else path
            kept = {k: v for k, v in module._buffers.items() if k not in module._passing_buffers}
            for name, v in (*module._parameters.items(), *kept.items()):
                if v is not None:
                    state[path + name] = v if keep_vars else v.payload
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Take the values of parameters and buffers from arrays of any library.

        Parameters
        ----------
        state_dict : mapping of str to array
            As `state_dict` gives it, or PyTorch's.
        strict : bool
            Whether a name too few or too many is an error.

        Returns
        -------
        IncompatibleKeys
            (missing_keys, unexpected_keys)
        """
        own = self.state_dict(keep_vars=True)
        missing = [name for name in own if name not in state_dict]
        unexpected = [name for name in state_dict if name not in own]
        faults = []
        if strict and missing:
            faults.append(f"missing: {', '.join(missing)}")
        if strict and unexpected:
            faults.append(f"unexpected: {', '.join(unexpected)}")
        values = {name: getattr(v, "payload", v) for name, v in state_dict.items() if name in own}
        for name, value in values.items():
            if tuple(value.shape) != own[name].shape:
                faults.append(f"{name} has shape {tuple(value.shape)} in the state, {own[name].shape} in the module")
        if faults:
            raise StateError(f"{type(self).__name__} cannot load this state: {'; '.join(faults)}")
        for name, value in values.items():
            assign(own[name], adopt(value, own[name].payload))
        return IncompatibleKeys(missing, unexpected)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)  # copied or unpickled Variables are what their places say
        for p in self._parameters.values():
            if p is not None:
                Parameter.mark(p)
        for b in self._buffers.values():
            if b is not None:
                Buffer.mark(b)

    # --- text -----------------------------------------------------------------------------------------------------------------------
    def extra_repr(self) -> str:
        """Give what stands between the brackets in the text of this module."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        lines = [f"({name}): " + repr(m).replace("\n", "\n  ") for name, m in self._modules.items()]
        if not lines:
            return f"{type(self).__name__}({extra})"
        return "\n  ".join([f"{type(self).__name__}(", *([extra] if extra else []), *lines]) + "\n)"
