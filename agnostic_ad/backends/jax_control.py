"""JAX's own forms of choices and loops, for arrays that ``jax.jit`` traces."""

from __future__ import annotations

from typing import Any

import jax
from jax import lax

from agnostic_ad.backends.base import Backend
from agnostic_ad.errors import UnsupportedError


class JaxControl(Backend):
    """The methods ``graph_*`` of the JAX backend."""

    def graph_cond(self, pred: Any, *operands: Any, true: Any, false: Any, pull: Any = None) -> Any:
        """Choose, with ``lax.cond`` where the condition is traced."""
        if self.concrete(pred):
            return Backend.fallbacks["graph.cond"](self, pred, *operands, true=true, false=false)
        return lax.cond(pred, lambda *xs: _arrays(true(*xs)), lambda *xs: _arrays(false(*xs)), *operands)

    def graph_while_loop(self, *arrays: Any, cond: Any, body: Any, carries: int, pull: Any = None) -> Any:
        """Repeat, with ``lax.while_loop`` where something is traced."""
        if all(map(self.concrete, arrays)):
            return Backend.fallbacks["graph.while_loop"](self, *arrays, cond=cond, body=body, carries=carries)
        if len(body.outputs) > carries:
            raise UnsupportedError(
                f"{body.label} keeps its rounds for reverse mode, and jax.jit cannot know how many there are. Use graph.scan with a length, "
                "or call outside of jax.jit."
            )
        consts, carry = arrays[: len(arrays) - carries], arrays[len(arrays) - carries :]
        return lax.while_loop(lambda c: cond(*consts, *c)[0], lambda c: _arrays(body(*consts, *c)), carry)

    def graph_scan(
        self, *arrays: Any, body: Any, consts: int, carries: int, length: Any = None, reverse: bool = False, pull: Any = None
    ) -> Any:
        """Go along an axis, with ``lax.scan`` where something is traced."""
        if all(map(self.concrete, arrays)):
            params = {"body": body, "consts": consts, "carries": carries, "length": length, "reverse": reverse}
            return Backend.fallbacks["graph.scan"](self, *arrays, **params)
        given, carry, xs = arrays[:consts], arrays[consts : consts + carries], arrays[consts + carries :]

        def step(c: Any, x: Any) -> Any:
            y = _arrays(body(*given, *c, *x))
            return y[:carries], y[carries:]

        state, rows = lax.scan(step, carry, xs, length=None if xs else length, reverse=reverse)
        return (*state, *rows)


def _arrays(results: Any) -> tuple[Any, ...]:
    return tuple(map(jax.numpy.asarray, results))
