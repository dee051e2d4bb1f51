"""Mixed precision: products in 16 bits, sums and losses in 32, and a loss that is scaled so that small gradients survive.

Which operation runs in what is the table at the top. The engine has one hook: what changes the operands of an operation before it runs
(`agnostic_ad.levels.CASTS`). Where no `autocast` is active, elementwise operations and matrix products do not even ask.
"""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any

import numpy as np

from agnostic_ad import Variable, is_grad_enabled
from agnostic_ad.config import dtype_name
from agnostic_ad.errors import AgnosticADError
from agnostic_ad.holdings import describe
from agnostic_ad.levels import ABOVE_ALL, CASTS, FAST, Array
from agnostic_ad.modes import _Switch
from agnostic_ad.namespaces import backend_of, lookup
from agnostic_ad.op import TABLE, Op
from agnostic_ad.stepping import apart

__all__ = ["GradScaler", "ScalerError", "autocast", "get_autocast_dtype", "is_autocast_enabled"]

# --- the table ----------------------------------------------------------------------------------------------------------------------------
LOW = frozenset(
    ["einsum", "linalg.matmul", "linalg.tensordot", "linalg.vecdot", "matmul", "nn.attention", "nn.conv", "nn.conv_input", "nn.gru"]
    + ["nn.linear", "nn.lstm", "nn.rnn", "tensordot", "vecdot"]
)
"""Operations whose float32 operands become 16 bits: products, whose sums the libraries keep in more bits."""
WIDE = frozenset(
    ["acos", "acosh", "asin", "asinh", "atanh", "cosh", "sinh", "tan", "exp", "expm1", "log", "log10", "log1p", "log2", "logaddexp", "pow"]
    + ["reciprocal", "hypot", "sum", "mean", "prod", "std", "var", "cumulative_sum", "cumulative_prod"]
    + ["nn.binary_cross_entropy", "nn.binary_cross_entropy_with_logits", "nn.ctc_loss", "nn.log_softmax", "nn.logsumexp", "nn.softmax"]
    + ["nn.softmax_cross_entropy", "nn.softplus", "nn.standardize"]
    + [name for name in TABLE if name.partition(".")[0] in ("linalg", "special") and name not in LOW and name != "special.expit"]
)
"""Operations whose operands of 16 bits become float32: what overflows or loses digits there."""
WIDE_FUNCTIONS = (
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "cosine_embedding_loss", "cosine_similarity", "cross_entropy", "ctc_loss",
    "gaussian_nll_loss", "group_norm", "hinge_embedding_loss", "huber_loss", "instance_norm", "kl_div", "l1_loss", "layer_norm",
    "local_response_norm", "margin_ranking_loss", "mse_loss", "multi_margin_loss", "multilabel_margin_loss", "multilabel_soft_margin_loss",
    "nll_loss", "normalize", "pairwise_distance", "pdist", "poisson_nll_loss", "rms_norm", "smooth_l1_loss", "soft_margin_loss",
    "triplet_margin_loss", "triplet_margin_with_distance_loss",
)  # fmt: skip
"""Functions of `agnostic_ad.nn.functional` of which the same is true as wholes; their steps may be any operations."""

_NARROW = ("float16", "bfloat16")
_ACTIVE: ContextVar[_Caster | None] = ContextVar("agnostic_ad_autocast", default=None)


# --- casting ------------------------------------------------------------------------------------------------------------------------------
def _name_of(x: Any) -> str:
    """Give the name of the dtype of an array; an empty text for what is no array, or of a dtype that is not converted."""
    if not isinstance(x, Array) and lookup(x) is None:
        return ""
    name = str(x.dtype).rpartition(".")[2]
    return name if name in ("float32", *_NARROW) else ""


class _Caster:
    """What an active `autocast` does to operands."""

    def __init__(self, dtype: str | None, cache: bool) -> None:
        self.dtype = dtype
        self.cache: dict[int, tuple[Any, Any]] | None = {} if cache else None
        self._names: dict[Any, str] = {}

    def __call__(self, op: Op, args: tuple[Any, ...]) -> tuple[Any, ...]:
        if op.name in LOW:
            return tuple(map(self.narrow, args))
        return tuple(map(widen, args)) if op.name in WIDE else args

    def narrow(self, x: Any) -> Any:
        name = _name_of(x)
        if name != "float32":  # as in PyTorch, float64 stays
            return x
        backend = x.backend if isinstance(x, Array) else backend_of(x)
        wanted = self._names.get(backend) or self._names.setdefault(backend, self.dtype_for(backend))
        leaf = self.cache is not None and type(x) is Variable and x.level.depth == 0 and x.requires_grad and x.is_leaf and is_grad_enabled()
        if leaf and id(x) in self.cache:  # type: ignore[operator]
            made = self.cache[id(x)][1]  # type: ignore[index]
            if made.node.saved is not None:  # else a backward pass has used it, and the parameter may have changed since
                return made
        made = TABLE["astype"](x, backend.dtype(wanted))
        if leaf:
            self.cache[id(x)] = x, made  # type: ignore[index]
        return made

    def dtype_for(self, backend: Any) -> str:
        """Give the dtype for a library: what was asked for, or the first that it has."""
        for name in _NARROW[::-1] if self.dtype is None else (self.dtype,):
            if hasattr(backend.xp, name):
                return name
        asked = "float16 or bfloat16" if self.dtype is None else self.dtype
        other = next((f"; it has {name}" for name in _NARROW if hasattr(backend.xp, name)), "")
        raise TypeError(f"autocast: {backend.name} has no dtype {asked}{other}")


def widen(x: Any) -> Any:
    """Give an array of 16 bits in float32, and anything else as it is."""
    if _name_of(x) not in _NARROW:
        return x
    backend = x.backend if isinstance(x, Array) else backend_of(x)
    return TABLE["astype"](x, backend.dtype("float32"))


def widened(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function take operands of 16 bits in float32, inside an `autocast`."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if _ACTIVE.get() is not None:
            args, kwargs = tuple(map(widen, args)), {name: widen(x) for name, x in kwargs.items()}
        return function(*args, **kwargs)

    wrapper.__module__ = "agnostic_ad.nn.functional"  # where pickle finds it
    return wrapper


class autocast(_Switch):
    """Compute matrix products, convolutions and attention in 16 bits, and sums, losses and the like in 32; a context manager and a decorator.

    Parameters stay as they are, and so do their gradients. Call ``backward`` outside, as in PyTorch.

    Parameters
    ----------
    device_type : str, optional
        PyTorch's first argument. "cuda" asks for float16 where no dtype is given.
    dtype : dtype or str, optional
        float16 or bfloat16. By default bfloat16 for arrays of a library that has it, else float16.
    enabled : bool
        Whether to do anything; ``autocast(enabled=False)`` switches it off inside another.
    cache_enabled : bool
        Whether a parameter that several operations use is converted once in a ``with``.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> layer = nn.Linear(3, 2)
    >>> x = np.ones((4, 3), dtype="float32")
    >>> with nn.amp.autocast(dtype="float16"):
    ...     y = layer(x)
    ...     loss = nn.functional.mse_loss(y, np.zeros((4, 2), dtype="float32"))
    >>> loss.backward()
    >>> y.dtype.name, loss.dtype.name, layer.weight.grad.dtype.name
    ('float16', 'float32', 'float32')
    """

    def __init__(self, device_type: str | None = None, dtype: Any = None, enabled: bool = True, cache_enabled: bool | None = True) -> None:
        super().__init__()
        if device_type is not None and not isinstance(device_type, str):
            raise TypeError(f"autocast: device_type is a name such as 'cpu'; give the dtype by keyword: dtype={device_type!r}")
        if dtype is None and str(device_type).startswith("cuda"):
            dtype = "float16"
        self.dtype = None if dtype is None else dtype_name(dtype)
        if self.dtype not in (None, *_NARROW):
            raise ValueError(f"autocast: dtype is float16 or bfloat16, not {self.dtype}")
        self.enabled, self.cache_enabled = enabled, cache_enabled is None or cache_enabled

    def _settings(self) -> list[tuple[ContextVar[Any], Any]]:
        caster = _Caster(self.dtype, self.cache_enabled) if self.enabled else None
        return [(CASTS, caster), (_ACTIVE, caster), *([(FAST, ABOVE_ALL)] if caster else [])]


def is_autocast_enabled(device_type: str | None = None) -> bool:
    """Tell whether an `autocast` is active here."""
    return _ACTIVE.get() is not None


def get_autocast_dtype(device_type: str | None = None) -> str | None:
    """Give the name of the dtype that the active `autocast` asks for; None where it takes what a library has, or none is active."""
    active = _ACTIVE.get()
    return None if active is None else active.dtype


# --- scaling the loss ---------------------------------------------------------------------------------------------------------------------
class ScalerError(AgnosticADError, RuntimeError, ValueError):
    """A `GradScaler` was called out of turn."""


class GradScaler:
    """Scale the loss up, so that small gradients do not vanish in float16, and the gradients down again before a step.

    A step whose gradients are infinite or not numbers is left out, and the scale is reduced; after many good steps it grows.

    Parameters
    ----------
    device : str, optional
        PyTorch's first argument; it changes nothing.
    init_scale : float
        The first scale.
    growth_factor, backoff_factor : float
        What the scale is multiplied by after ``growth_interval`` good steps in a row, and after a bad one.
    growth_interval : int
        How many good steps let it grow.
    enabled : bool
        Whether to do anything: with False, `scale` gives the loss as it is, and `step` calls the optimizer.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> p = nn.Parameter(np.ones(2, dtype="float32"))
    >>> optimizer, scaler = nn.optim.SGD([p], lr=0.5), nn.amp.GradScaler(init_scale=4.0)
    >>> scaler.scale((p * p).sum()).backward()
    >>> p.grad
    array([8., 8.], dtype=float32)
    >>> scaler.step(optimizer); scaler.update()
    >>> p.data, scaler.get_scale()
    (array([0., 0.], dtype=float32), 4.0)
    """

    def __init__(
        self,
        device: Any = None,
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ) -> None:
        if not growth_factor > 1.0:
            raise ValueError(f"GradScaler: growth_factor is more than 1, not {growth_factor}")
        if not backoff_factor < 1.0:
            raise ValueError(f"GradScaler: backoff_factor is less than 1, not {backoff_factor}")
        self._enabled = enabled
        self._scale = np.float32(init_scale)  # in PyTorch an array of one float32: the same sequence of scales
        self._growth_factor, self._backoff_factor, self._growth_interval = growth_factor, backoff_factor, growth_interval
        self._good = 0
        self._begin()

    def _begin(self) -> None:
        self._found: dict[int, bool] = {}
        """By optimizer, whether its gradients, unscaled by now, are infinite or not numbers."""
        self._stage: defaultdict[int, str] = defaultdict(lambda: "ready")

    # --- a step ---------------------------------------------------------------------------------------------------------------------
    def scale(self, outputs: Any) -> Any:
        """Give the loss, or an iterable of them, multiplied by the scale."""
        if not self._enabled:
            return outputs
        if isinstance(outputs, Array) or lookup(outputs) is not None:
            return outputs * float(self._scale)
        if isinstance(outputs, Iterable):
            return (list if isinstance(outputs, list) else tuple)(self.scale(x) for x in outputs)
        raise TypeError(f"GradScaler.scale takes an array or an iterable of arrays, not {type(outputs).__name__}")

    @apart()
    def unscale_(self, optimizer: Any) -> None:
        """Divide the gradients of an optimizer's parameters by the scale, to clip them for instance; `step` does it where this was not called."""
        if not self._enabled:
            return
        stage = self._stage[id(optimizer)]
        if stage != "ready":
            done = "unscale_() has" if stage == "unscaled" else "step() has"
            raise ScalerError(f"unscale_() of this optimizer: {done} been called since the last update()")
        inverse, found = float(np.float32(1.0 / float(self._scale))), False
        for p in (p for group in optimizer.param_groups for p in group["params"] if p.grad is not None):
            backend = backend_of(p.payload)
            if dtype_name(p.payload.dtype) == "float16":
                raise ValueError("GradScaler: gradients in float16 cannot be unscaled. Keep the parameters in float32, and use autocast.")
            p.grad = backend.array(p.grad * inverse)
            found = found or not bool(backend.xp.all(backend.xp.isfinite(p.grad)))
        self._found[id(optimizer)], self._stage[id(optimizer)] = found, "unscaled"

    @apart()
    def step(self, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        """Call ``optimizer.step``, unless a gradient is infinite or not a number; give what it gives, else None."""
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        if "closure" in kwargs or any(map(callable, args)):
            raise ScalerError("GradScaler.step takes no closure: the gradients that it would compute could not be looked at")
        if self._stage[id(optimizer)] == "stepped":
            raise ScalerError("step() of this optimizer has been called since the last update()")
        if self._stage[id(optimizer)] == "ready":
            self.unscale_(optimizer)
        result = None if self._found[id(optimizer)] else optimizer.step(*args, **kwargs)
        self._stage[id(optimizer)] = "stepped"
        return result

    @apart()
    def update(self, new_scale: Any = None) -> None:
        """Set the scale for the next iteration, by what the steps since the last call have found; or to ``new_scale``."""
        if not self._enabled:
            return
        if new_scale is not None:
            self._scale = np.float32(float(new_scale))
        elif not self._found:
            raise ScalerError("update(): no gradients were looked at since the last update(); call step(optimizer) first")
        elif any(self._found.values()):
            self._scale, self._good = np.float32(float(self._scale) * self._backoff_factor), 0
        elif self._good + 1 == self._growth_interval:
            with np.errstate(over="ignore"):
                grown = np.float32(float(self._scale) * self._growth_factor)
            self._scale, self._good = grown if math.isfinite(grown) else self._scale, 0
        else:
            self._good += 1
        self._begin()

    # --- settings -------------------------------------------------------------------------------------------------------------------
    def is_enabled(self) -> bool:
        """Tell whether it does anything."""
        return self._enabled

    def get_scale(self) -> float:
        """Give the scale; 1 where disabled."""
        return float(self._scale) if self._enabled else 1.0

    def get_growth_factor(self) -> float:
        """Give what the scale grows by."""
        return self._growth_factor

    def set_growth_factor(self, new_factor: float) -> None:
        """Set what the scale grows by."""
        self._growth_factor = new_factor

    def get_backoff_factor(self) -> float:
        """Give what the scale shrinks by."""
        return self._backoff_factor

    def set_backoff_factor(self, new_factor: float) -> None:
        """Set what the scale shrinks by."""
        self._backoff_factor = new_factor

    def get_growth_interval(self) -> int:
        """Give how many good steps let the scale grow."""
        return self._growth_interval

    def set_growth_interval(self, new_interval: int) -> None:
        """Set how many good steps let the scale grow."""
        self._growth_interval = new_interval

    # --- state ----------------------------------------------------------------------------------------------------------------------
    def state_dict(self) -> dict[str, Any]:
        """Give the scale and the settings under PyTorch's names; nothing where disabled."""
        if not self._enabled:
            return {}
        return {
            "scale": self.get_scale(),
            "growth_factor": self._growth_factor,
            "backoff_factor": self._backoff_factor,
            "growth_interval": self._growth_interval,
            "_growth_tracker": self._good,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take what `state_dict` gave, here or in PyTorch."""
        if not self._enabled:
            return
        if not state_dict:
            raise ScalerError("the state is empty: it may come from a GradScaler that was disabled")
        missing = [name for name in self.state_dict() if name not in state_dict]
        if missing:
            raise KeyError(f"the state of a GradScaler lacks {', '.join(missing)}")
        self._scale, self._good = np.float32(state_dict["scale"]), int(state_dict["_growth_tracker"])
        self._growth_factor, self._backoff_factor = float(state_dict["growth_factor"]), float(state_dict["backoff_factor"])
        self._growth_interval = int(state_dict["growth_interval"])


describe(GradScaler, lambda scaler: [("scale", scaler.get_scale())])
