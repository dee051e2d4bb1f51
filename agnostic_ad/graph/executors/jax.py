"""Programs on JAX: the straight calls, compiled as a whole by ``jax.jit`` when they are made for the second time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from agnostic_ad.graph.executors.source import Program, Writer
from agnostic_ad.graph.ir import Graph, Output

__all__ = ["write"]


class JaxProgram(Program):
    """Straight calls at first: compiling takes longer than many of them. What ``jax.jit`` refuses stays as it is."""

    def __init__(self, label: str, source: str, scope: dict[str, Any], donated: tuple[int, ...]) -> None:
        import jax

        super().__init__(label, source, scope)
        self._straight, self._compiled, self._calls = self.run, jax.jit(self.run, donate_argnums=donated), 0
        self._refusals = (jax.errors.JAXTypeError, jax.errors.JAXIndexError, NotImplementedError)
        self.run = self._run

    def _run(self, *flat: Any) -> tuple[Any, ...]:
        self._calls += 1
        if self._calls == 1:
            return self._straight(*flat)
        try:
            return self._compiled(*flat)  # type: ignore[no-any-return]
        except self._refusals:  # an operation that looks at values, or computes on the host
            self._compiled = self._straight
            return self._straight(*flat)


class JaxWriter(Writer):
    """Writes programs for ``jax.jit``; what draws numbers on the host must not be compiled, or it would draw once."""

    def program(self, source: str) -> Program:
        """Give the program of a text."""
        if any(node.effects for node in self.graph.walk()):
            return Program(self.graph.label, source, self.scope)
        return JaxProgram(self.graph.label, source, self.scope, tuple(self._donated()))

    def _donated(self) -> Iterator[int]:
        """Give the arguments to give away: JAX warns of those that are like no result."""
        wanted = Counter((x.spec.shape, x.spec.dtype) for x in self.graph.outputs if isinstance(x, Output) and x.node.op is not None)
        for i in sorted(self.graph.donated):
            (spec,) = self.graph.inputs[i].outputs
            if wanted[spec.shape, spec.dtype]:
                wanted[spec.shape, spec.dtype] -= 1
                yield i


def write(graph: Graph) -> Program:
    """Give the program of a graph on JAX."""
    return JaxWriter(graph).write()
