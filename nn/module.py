"""The base class of all layers and models."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from agnostic_ad import Variable
from agnostic_ad.errors import UnsupportedError
from agnostic_ad.holdings import describe
from agnostic_ad.levels import Array
from agnostic_ad.nn.conversion import Convertible
from agnostic_ad.nn.hooks import Hooks, RemovableHandle, call_hooked
from agnostic_ad.nn.parameter import Buffer, Parameter, PassingBuffer, clear_grad
from agnostic_ad.nn.state import IncompatibleKeys, StateError, Stateful
from agnostic_ad.nn.where import say_where

__all__ = ["IncompatibleKeys", "Module", "RemovableHandle", "StateError"]


class Module(Stateful, Convertible):
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
    _parameters: dict[str, Any]
    _buffers: dict[str, Any]
    _modules: dict[str, Module | None]
    _hooks: Hooks | None

    def __init__(self) -> None:
        put = super().__setattr__
        put("training", True)
        for name in ("_parameters", "_buffers", "_modules"):
            put(name, {})
        put("_non_persistent_buffers_set", set())
        put("_hooks", None)

    # --- computation ----------------------------------------------------------------------------------------------------------------
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the result; a subclass says how."""
        raise NotImplementedError(f"{type(self).__name__} has no forward(): define what it computes")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the pre-hooks, ``forward`` and the hooks. An error says in which layer of the model it happened."""
        try:
            hooks = self._hooks
            return self.forward(*args, **kwargs) if hooks is None else call_hooked(self, hooks, args, kwargs)
        except Exception as error:
            say_where(self, error)
            raise

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Refuse: what is compiled is the whole step."""
        raise UnsupportedError(
            "Module.compile(): a module alone is not compiled, for its backward pass is not its own. Write a function that calls it, "
            "with backward() and the optimizer's step inside, and give that to agnostic_ad.compile."
        )

    # --- attributes -----------------------------------------------------------------------------------------------------------------
    def __setattr__(self, name: str, value: Any) -> None:
        kept = self.__dict__.get("_parameters")
        if kept is None:
            if isinstance(value, Parameter | Buffer | Module):
                raise AttributeError(f"{type(self).__name__}: call super().__init__() before assigning {name!r}")
            super().__setattr__(name, value)
        elif isinstance(value, Parameter):
            self._take_over(name, kept)
            self.register_parameter(name, value)
        elif isinstance(value, Module):
            self._take_over(name, self._modules)
            self._modules[name] = value
        elif isinstance(value, Buffer):
            self._take_over(name, self._buffers)
            self.register_buffer(name, value, persistent=not isinstance(value, PassingBuffer))
        elif name in kept:
            if value is not None:
                raise TypeError(f"{name!r} is a parameter: assign an nn.Parameter or None, not {type(value).__name__}")
            kept[name] = None
        elif name in self._modules and value is None:
            self._modules[name] = None
        elif name in self._modules:
            raise TypeError(f"{name!r} is a module: assign an nn.Module or None, not {type(value).__name__}")
        elif name in self._buffers:
            self.register_buffer(name, value, persistent=name not in self._non_persistent_buffers_set)
        else:
            super().__setattr__(name, value)

    def _take_over(self, name: str, kind: dict[str, Any]) -> None:
        """Forget what had this name among the attributes and the other kinds of parts."""
        for table in (self.__dict__, self._parameters, self._buffers, self._modules):
            if table is not kind:
                table.pop(name, None)
        self._non_persistent_buffers_set.discard(name)

    def __getattr__(self, name: str) -> Any:
        for kind in ("_parameters", "_buffers", "_modules"):
            found = self.__dict__.get(kind)
            if found is not None and name in found:
                return found[name]
        if name in ("_parameters", "_buffers", "_modules", "_hooks"):
            raise AttributeError(f"{type(self).__name__}: call super().__init__() before anything else")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __delattr__(self, name: str) -> None:
        for kind in (self._parameters, self._buffers, self._modules):
            if name in kind:
                del kind[name]
                self._non_persistent_buffers_set.discard(name)
                return
        super().__delattr__(name)

    def __dir__(self) -> list[str]:
        names = {*super().__dir__(), *self._parameters, *self._buffers, *self._modules}
        return sorted(name for name in names if not name[:1].isdigit())

    def _check_name(self, name: str, table: Mapping[str, Any], what: str) -> None:
        if not isinstance(name, str) or not name or "." in name:
            raise KeyError(f"the name of a {what} is a non-empty string without dots, not {name!r}")
        if hasattr(self, name) and name not in table:
            raise KeyError(f"attribute {name!r} exists already")

    def register_parameter(self, name: str, param: Any) -> None:
        """Add a parameter, or the place for one (None)."""
        self._check_name(name, self._parameters, "parameter")
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(f"{name!r}: an nn.Parameter or None is wanted, not {type(param).__name__}. Wrap it: nn.Parameter(x).")
        self._parameters[name] = param

    def register_buffer(self, name: str, tensor: Any, persistent: bool = True) -> None:
        """Add an array that belongs to the module's state but is not trained; raw arrays are wrapped."""
        self._check_name(name, self._buffers, "buffer")
        if tensor is not None and not isinstance(tensor, Array):
            tensor = Buffer(tensor)
        self._buffers[name] = tensor
        (self._non_persistent_buffers_set.discard if persistent else self._non_persistent_buffers_set.add)(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """Add a sub-module under a name."""
        self._check_name(name, self._modules, "module")
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"{name!r}: an nn.Module or None is wanted, not {type(module).__name__}")
        self._modules[name] = module

    def register_module(self, name: str, module: Module | None) -> None:
        """Add a sub-module under a name: `add_module`."""
        self.add_module(name, module)

    # --- walking --------------------------------------------------------------------------------------------------------------------
    def named_modules(self, memo: set[Any] | None = None, prefix: str = "", remove_duplicate: bool = True) -> Iterator[tuple[str, Module]]:
        """Give this module and all below it, with their names; each once."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                yield from module.named_modules(memo, f"{prefix}.{name}" if prefix else name, remove_duplicate)

    def modules(self, remove_duplicate: bool = True) -> Iterator[Module]:
        """Give this module and all below it."""
        return (module for _, module in self.named_modules(remove_duplicate=remove_duplicate))

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Give the direct sub-modules with their names; each once."""
        seen: set[Module] = set()
        for name, module in self._modules.items():
            if module is not None and module not in seen:
                seen.add(module)
                yield name, module

    def children(self) -> Iterator[Module]:
        """Give the direct sub-modules."""
        return (module for _, module in self.named_children())

    def _named(self, kind: str, prefix: str, recurse: bool, remove_duplicate: bool) -> Iterator[tuple[str, Any]]:
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

    def set_submodule(self, target: str, module: Module, strict: bool = False) -> None:
        """Put a module in the place of the one of a dotted name, or add it to the one above.

        Parameters
        ----------
        target : str
            The dotted name; the module above must be there.
        module : Module
            What to put there.
        strict : bool
            Whether there must be a module of that name.
        """
        if not target or "" in target.split("."):
            raise ValueError(f"set_submodule takes the dotted name of a module, not {target!r}")
        if not isinstance(module, Module):
            raise ValueError(f"set_submodule: an nn.Module is wanted, not {type(module).__name__}")
        path, _, name = target.rpartition(".")
        above = self.get_submodule(path)
        if (strict or hasattr(above, name)) and not isinstance(getattr(above, name, None), Module):
            raise AttributeError(f"{type(self).__name__} has no module {target!r}")
        setattr(above, name, module)

    def _part(self, kind: str, target: str) -> Any:
        path, _, name = target.rpartition(".")
        found = getattr(self.get_submodule(path), kind).get(name)
        if found is None:
            raise AttributeError(f"{type(self).__name__} has no {kind[1:-1]} {target!r}")
        return found

    def get_parameter(self, target: str) -> Variable:
        """Give the parameter of a dotted name."""
        return self._part("_parameters", target)  # type: ignore[no-any-return]

    def get_buffer(self, target: str) -> Variable:
        """Give the buffer of a dotted name."""
        return self._part("_buffers", target)  # type: ignore[no-any-return]

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
        self.training = mode
        for module in self.children():
            module.train(mode)
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

    # --- text -----------------------------------------------------------------------------------------------------------------------
    def _get_name(self) -> str:
        return type(self).__name__

    def extra_repr(self) -> str:
        """Give what stands between the brackets in the text of this module."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        lines = extra.split("\n") if extra else []
        if len(lines) == 1 and not self._modules:
            return f"{self._get_name()}({extra})"
        return in_brackets(self._get_name(), [*lines, *(f"({name}): {indented(repr(m))}" for name, m in self._modules.items())])


def _held(module: Module) -> Iterator[tuple[str, Any]]:
    """Give what `agnostic_ad.compile` needs to know of a module: everything that it has, and which hooks."""
    for name, value in module.__dict__.items():
        if name in ("_parameters", "_buffers", "_modules"):
            yield from value.items()
        elif name == "_hooks":
            if value is not None:
                yield from vars(value).items()
        elif name != "_non_persistent_buffers_set":
            yield name, value


describe(Module, _held)


def indented(text: str) -> str:
    """Give a text with all lines but the first one moved to the right."""
    return text.replace("\n", "\n  ")


def in_brackets(name: str, lines: list[str]) -> str:
    """Give a name and, in brackets below each other, what belongs to it."""
    return "\n  ".join([f"{name}(", *lines]) + "\n)" if lines else f"{name}()"
