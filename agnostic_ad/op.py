"""What an operation is: one entry that says how to evaluate, differentiate, batch and abstract it.

Rules are ordinary functions whose parameter names say what they need: ``xp`` the namespace to compute in, ``ct`` the cotangent (in
a forward rule, the tangent), the names of the array arguments, ``y`` the result, ``<argument>_shape`` and ``<argument>_dtype``, and
the static parameters by name. Only what the reverse rules name is kept for the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import dropwhile
from typing import Any

from agnostic_ad.backends.base import Backend
from agnostic_ad.errors import MissingRuleError, MixedArraysError
from agnostic_ad.levels import CASTS, OPEN, TAKES, Array, Level, Size, Symbolic, capturing, deepest, device_of, is_symbolic, lift_to
from agnostic_ad.namespaces import backend_of, common_backend, lookup

__all__ = ["TABLE", "ZERO", "Op", "Rule", "dispatch"]

Rule = Callable[[Any, Any, tuple[Any, ...], dict[str, Any]], Any]
"""``(xp, ct, saved, params) -> array``"""

TABLE: dict[str, Op] = {}
"""Every operation by name; names within a sub-namespace are dotted."""


def ZERO(xp: Any, ct: Any, saved: tuple[Any, ...], params: dict[str, Any]) -> None:
    """Stand for a derivative that is declared to be zero."""


class Reverse:
    """The reverse rules of an operation with respect to some of its operands: what a node of the tape refers to.

    Attributes
    ----------
    arrays : tuple of str
        The operands that a cotangent is for, in the order of the node's parents. (All of them for a variadic operation, whose one rule is
        told the position.)
    saves : tuple of str
        What the rules name.
    keep : callable
        Gives it, from the operands of one call and the result.
    rules, conj_rules, seeded : tuple of Rule
        One an operand; the second for complex cotangents, the third for a cotangent that is known to be one.
    joint : callable or None
        The one rule that computes the cotangents of all operands together; ``rules`` then pick from what it gives.
    """

    __slots__ = (
        "accumulate",
        "array_saves",
        "arrays",
        "conj_rules",
        "elementwise",
        "joint",
        "keep",
        "name",
        "params",
        "rules",
        "saves",
        "seeded",
        "simple",
        "variadic",
    )

    def __init__(self, op: Op, positions: tuple[int, ...]) -> None:
        chosen = [op.vjps[i] for i in positions]
        compile_one = partial_rule if op.derive else compile_positional if op.variadic else compile_rule
        self.joint: Rule | None = None
        self.name, self.elementwise, self.variadic, self.accumulate = op.name, op.elementwise, op.variadic, op.accumulate
        self.arrays = tuple(op.arrays[i] for i in positions)
        self.saves = op.needs(chosen)
        self.keep = op.keeper(self.saves)
        self.array_saves = None if op.variadic else tuple(i for i, n in enumerate(self.saves) if n == "y" or n in op.arrays)
        if op.joint is None:
            self.rules = tuple(compile_one(r, self.saves, op.params) for r in chosen)
        else:
            self.joint = compile_joint(op.joint, self.saves, op.params, self.arrays)
            self.rules = tuple(
                _generate("lambda xp, ct, s, p, position: s[position]" if op.variadic else f"lambda xp, ct, s, p: s[{i}]")
                for i in range(len(chosen))
            )
        self.conj_rules = tuple(conj_rule(r, self.saves, op.params) for r in chosen) if op.derive else self.rules
        self.seeded = tuple(seeded_rule(r, self.saves, op.params) for r in chosen) if op.derive else self.rules
        self.params = bool(op.params)
        self.simple = not (self.params or self.variadic or self.accumulate or self.joint)


class Op:
    """One operation.

    Parameters
    ----------
    name : str
        Its name in the namespace, with a dot for an extension ("linalg.inv").
    signature : str
        The Python signature of the standard, as text. Parameters in ``arrays`` are operands; the others are static.
    arrays : sequence of str
        The names of the operands. ``["*arrays"]`` is one parameter that holds a sequence of operands.
    vjps, jvps : sequence of callable or None
        One rule per operand: the cotangent of the operand from that of the result, and the contribution of the operand's tangent to
        the result's. None: no rule. `ZERO`: zero.
    derive : bool
        Whether the rules are partial derivatives of a holomorphic elementwise function: numbers, names of operands, functions.
    joint : callable, optional
        In place of ``vjps``: one rule for the cotangents of all operands, where they share work. It may name ``wanted``, the names of the
        operands whose cotangents to give, in a tuple in that order.
    pushforward : callable, optional
        In place of ``jvps``: ``(xp, args, y, tangents, params) -> tangent``.
    composite : callable, optional
        ``(xp, *operands, **params)``, written with other operations; replaces all rules.
    batch : callable, optional
        ``(xp, size, args, batched, params) -> result``, with batch axes in front.
    abstract : callable, optional
        ``(xp, args, params) -> ShapeDtype``, or a tuple of them.
    cases : callable or None
        The conformance catalogue's row: sample calls.
    outputs : type, optional
        The named tuple that several results come in.
    """

    __slots__ = (
        "_call",
        "_computes",
        "_factory",
        "_reverse",
        "abstract",
        "accumulate",
        "arrays",
        "batch",
        "caches",
        "cases",
        "composite",
        "derive",
        "differentiable",
        "elementwise",
        "joint",
        "jvp_keep",
        "jvp_saves",
        "jvps",
        "name",
        "named",
        "operators",
        "outputs",
        "packed",
        "params",
        "positional",
        "prepare",
        "pushforward",
        "scalars",
        "signature",
        "variadic",
        "vjps",
    )

    def __init__(
        self,
        name: str,
        signature: str,
        arrays: Sequence[str],
        *,
        vjps: Sequence[Any] = (),
        jvps: Sequence[Any] = (),
        joint: Callable[..., Any] | None = None,
        pushforward: Callable[..., Any] | None = None,
        composite: Callable[..., Any] | None = None,
        batch: Callable[..., Any] | None = None,
        abstract: Callable[..., Any] | None = None,
        prepare: Callable[..., Any] | None = None,
        accumulate: Callable[..., Any] | None = None,
        cases: Any = None,
        elementwise: bool = False,
        scalars: bool = False,
        operators: tuple[str, ...] = (),
        derive: bool = False,
        outputs: Callable[..., Any] | None = None,
    ) -> None:
        self.name, self.signature, self.composite, self.outputs = name, signature, composite, outputs
        self.variadic = bool(arrays) and arrays[0].startswith("*")
        self.packed = self.variadic and f"*{arrays[0][1:]}" not in signature.split(", ")
        self.arrays = tuple(a.lstrip("*") for a in arrays)
        self.positional = tuple(p for p in _parameters(signature.partition("/")[0] if "/" in signature else "") if p not in self.arrays)
        keyword_only = signature.split("*,")[1] if "*," in signature else ""
        behind = tuple(dropwhile(self.arrays.__contains__, () if self.variadic else _parameters(signature)))  # a static parameter
        self.named = tuple(a for a in self.arrays if a in behind or a in _parameters(keyword_only))
        self.params = tuple(p for p in _parameters(signature) if p not in self.arrays)
        self.batch, self.abstract, self.prepare, self.pushforward = batch, abstract, prepare, pushforward
        self.accumulate, self.cases, self.elementwise, self.scalars, self.operators = accumulate, cases, elementwise, scalars, operators
        vjps, self.joint = ((joint,) * len(self.arrays) if joint else vjps), joint
        self.vjps, self.derive, self.differentiable = tuple(vjps), derive, bool(vjps or jvps or pushforward)
        self._reverse: dict[tuple[int, ...], Reverse] = {}
        self.jvp_saves = self.needs(jvps)
        self.jvp_keep = self.keeper(self.jvp_saves)
        self._computes: dict[type, Callable[..., Any]] = {}
        self.caches: list[dict[type, Any]] = [self._computes]  # what has looked functions of libraries up
        compile_one = partial_rule if derive else compile_rule
        self.jvps = tuple(r if r is None or r is ZERO else compile_one(r, self.jvp_saves, self.params) for r in jvps)
        self._factory: Callable[..., Any] | None = None
        self._call: Callable[..., Any] | None = None
        TABLE[name] = self
        if composite is not None:
            Backend.fallbacks[name] = composite

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._call is None:
            self._call = self.bind(None)
        return self._call(*args, **kwargs)

    def __reduce__(self) -> Any:
        return _by_name, (self.name,)

    def bind(self, floor: Level | None) -> Callable[..., Any]:
        """Give the op as a plain function whose results belong to ``floor`` at least."""
        if self._factory is None:  # made on demand: a hundred compilations at import would be felt
            self._factory = _call_factory(self)
        fn: Callable[..., Any] = self._factory(self, dispatch, floor)
        if self.composite is not None:
            fn.__doc__ = self.composite.__doc__
        return fn

    def at(self, xp: Any) -> Callable[..., Any]:
        """Give the op as a function of a namespace: a backend's own, or a transformation's."""
        found = xp
        for part in self.name.split("."):
            found = getattr(found, part)
        return found  # type: ignore[no-any-return]

    # --- rules --------------------------------------------------------------------------------------------------------
    def reverse(self, positions: tuple[int, ...]) -> Reverse:
        """Give the reverse rules for the operands at ``positions``, compiled when first asked for."""
        found = self._reverse.get(positions)
        if found is None:
            found = self._reverse[positions] = Reverse(self, positions)
        return found

    def needs(self, rules: Sequence[Any]) -> tuple[str, ...]:
        """Give the names that rules ask to be kept."""
        known = (*self.arrays, "y", *(f"{a}_{what}" for a in self.arrays for what in ("shape", "dtype", "device")))
        named = {n for rule in rules if rule is not ZERO for n in _names(rule)}
        return tuple(n for n in known if n in named)

    def keeper(self, names: tuple[str, ...]) -> Callable[[tuple[Any, ...], Any], tuple[Any, ...]]:
        """Give the function that takes what rules name from the operands of one call and the result."""
        kept = []
        for name in names:
            array, _, what = name.rpartition("_") if name not in (*self.arrays, "y") else (name, "", "")
            if name == "y":
                kept.append("y")
            elif self.variadic:
                kept.append(f"tuple({_FACTS[what].format('x')} for x in a)" if what else "a")
            else:
                kept.append(_FACTS[what].format(f"a[{self.arrays.index(array)}]"))
        return _generate(f"lambda a, y: ({''.join(f'{k}, ' for k in kept)})", device_of=device_of)

    def missing(self, kind: str, position: int, level: Level) -> MissingRuleError:
        """Give the error for an operand without a rule."""
        what = self.arrays[0] if self.variadic else self.arrays[position]
        return MissingRuleError(
            f"{self.name} has no {kind} with respect to argument {position} ({what}); reached inside {level.label}. "
            f"If no gradient should flow there, wrap the argument: ad.stop_gradient({what})."
        )

    # --- evaluation ---------------------------------------------------------------------------------------------------
    def evaluate(self, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        """Compute with raw arrays."""
        backend = common_backend(args, self.name)
        if backend is None:
            raise TypeError(f"{self.name} takes arrays; got {', '.join(type(a).__name__ for a in args) or 'nothing'}")
        fn = self.at(backend)
        try:
            y = self.invoke(fn, (), args, params)
        except Exception:
            _check_devices(self, backend, args)
            raise
        return tuple(map(backend.array, y)) if isinstance(y, tuple | list) else backend.array(y)

    def run(self, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        """Compute at the deepest level among the operands, which are prepared already."""
        return self.run_at(deepest(args), args, params)

    def run_one(self, x: Any, params: dict[str, Any]) -> Any:
        """Compute an operation of one operand, as `run` does; the common case, with the library's function looked up once."""
        compute = self._computes.get(type(x))
        if compute is None or OPEN.get():
            backend = None if isinstance(x, Array) else lookup(x)
            if backend is None or self.variadic or OPEN.get():
                return self.run((x,), params)
            given = [f"p[{p!r}]" for p in self.positional] + [f"{p}=p[{p!r}]" for p in self.params if p not in self.positional]
            compute = self._computes[type(x)] = _generate(f"lambda x, p: f(x, {', '.join(given)})", f=self.at(backend))
        y = compute(x, params)
        return tuple(map(backend_of(x).array, y)) if isinstance(y, tuple | list) else y

    def forget(self) -> None:
        """Look the libraries' functions up anew."""
        for cache in self.caches:
            cache.clear()

    def run_at(self, level: Level | None, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        """Compute at ``level``; None for raw arrays."""
        if level is None:
            if not (OPEN.get() and is_symbolic(*params.values())):
                return self.evaluate(args, params)
            level = capturing()
            args = tuple(lift_to(level, a) for a in args)
        if self.composite is None or self.name in level.whole:
            return level.apply(self, args, params)
        lifted = [lift_to(level, a) for a in args]
        backend = next((a.backend for a in lifted if isinstance(a, Array)), None)
        if backend is None:
            raise TypeError(f"{self.name} takes arrays; got {', '.join(type(a).__name__ for a in args) or 'nothing'}")
        return self.invoke(self.composite, (level.rules(backend),), lifted, params)

    def invoke(self, fn: Callable[..., Any], first: tuple[Any, ...], args: Sequence[Any], params: dict[str, Any]) -> Any:
        """Call a function of the op's own signature, behind ``first``."""
        if self.positional:
            params = dict(params)
            static = tuple(params.pop(p) for p in self.positional)
            args = (*static, *args) if self.variadic else (*args, *static)
        if self.packed:
            return fn(*first, args, **params)
        if self.named:
            count = len(args) - len(self.named)
            given = {n: a for n, a in zip(self.named, args[count:], strict=True) if a is not None}
            return fn(*first, *args[:count], **given, **params)
        return fn(*first, *args, **params)

    def promote(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Replace Python numbers among the operands by arrays, as the standard promotes them."""
        arrays = [a for a in args if isinstance(a, Array) or lookup(a) is not None]
        if not arrays:
            return args
        backend = arrays[0].backend if isinstance(arrays[0], Array) else backend_of(arrays[0])
        like = max(arrays, key=lambda a: "bifc".index(backend.kind(a.dtype)))  # a condition decides no dtype
        # a Variable, say, has the dtype and the device that scalar() asks for
        return tuple(_number(a, backend, like) if isinstance(a, _NUMBERS) and lookup(a) is None else a for a in args)


_NUMBERS = (bool, int, float, complex)
NUMBERS: set[type] = set(_NUMBERS)
"""The types of what is promoted beside arrays; ``graph.sizes`` adds its own."""


def _number(a: Any, backend: Backend, like: Any) -> Any:
    like = _Like(like, backend)
    return a.array(backend, like) if isinstance(a, Symbolic) else backend.scalar(a, like)


class _Like:
    __slots__ = ("device", "dtype")

    def __init__(self, x: Any, backend: Backend) -> None:
        self.dtype = x.dtype
        self.device = x.device if isinstance(x, Array) else backend.device(x)


_FACTS = {"": "{}", "shape": "tuple({}.shape)", "dtype": "{}.dtype", "device": "device_of({})"}


def _by_name(name: str) -> Op:
    return TABLE[name]


def _check_devices(op: Op, backend: Backend, args: tuple[Any, ...]) -> None:
    devices = list(
        dict.fromkeys(str(d) for a in args if lookup(a) is not None and (d := backend.device(a)) is not None)
    )  # a tracer has none
    if len(devices) > 1:
        raise MixedArraysError(
            f"{op.name}: operands lie on different devices, {' and '.join(devices)}. Move one of them first, with x.to(device=...)."
        )


def dispatch(op: Op, args: tuple[Any, ...], params: dict[str, Any], floor: Level | None = None) -> Any:
    """Run an operation at the deepest level among its operands and ``floor``."""
    cast = CASTS.get()
    if cast is not None:
        args = cast(op, args)
    take = TAKES.get()
    if take is not None:
        args = tuple(map(take, args))
    if len(args) > 1 and Size in map(type, args):  # some libraries take no subclass of int
        args = tuple(int(a) if type(a) is Size else a for a in args)
    if op.scalars and any(type(a) in NUMBERS for a in args):
        args = op.promote(args)
    if op.variadic:
        bad = next((a for a in args if not isinstance(a, Array) and lookup(a) is None), None)
        if bad is not None:
            raise TypeError(f"{op.name} takes arrays; got {type(bad).__name__}")
    if op.prepare is not None:
        args, params = op.prepare(args, params)
    level = deepest(args)
    if floor is not None and (level is None or level.depth < floor.depth):
        level = floor
    y = op.run_at(level, args, params)
    return y if op.outputs is None else op.outputs(*y)


# --- from text to functions ------------------------------------------------------------------------------------------------
def _parameters(signature: str) -> list[str]:
    parts = [part.split("=")[0].split(":")[0].strip() for part in signature.replace("(", "").replace(")", "").split(",")]
    return [p.lstrip("*") for p in parts if p not in ("/", "*", "")]


def _call_factory(op: Op) -> Callable[..., Any]:
    operands = f"tuple({op.arrays[0]})" if op.variadic else "(" + "".join(f"{a}, " for a in op.arrays) + ")"
    params = "{" + ", ".join(f"{p!r}: {p}" for p in op.params) + "}"
    name = op.name.rpartition(".")[2]
    source = f"def factory(_op, _dispatch, _floor):\n def {name}({op.signature}): return _dispatch(_op, {operands}, {params}, _floor)\n return {name}"
    scope: dict[str, Any] = {}
    exec(compile(source, f"<op {op.name}>", "exec"), scope)
    return scope["factory"]  # type: ignore[no-any-return]


def _names(rule: Any) -> tuple[str, ...]:
    if isinstance(rule, str):
        return (rule,)
    if not callable(rule):
        return ()
    code = rule.__code__
    return tuple(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])


_FACTORIES: dict[str, Callable[..., Any]] = {}


def _generate(source: str, **scope: Any) -> Callable[..., Any]:
    """Give the function of ``source``, in which ``scope``'s names are closed over."""
    factory = _FACTORIES.get(source)
    if factory is None:
        factory = _FACTORIES[source] = eval(f"lambda {', '.join(scope)}: {source}")
    made: Callable[..., Any] = factory(*scope.values())
    return made


def arguments(rule: Callable[..., Any], layout: tuple[str, ...], params: tuple[str, ...], ct: str = "ct") -> str:
    """Give the argument list that calls ``rule`` inside a function of (xp, ct, s, p)."""
    given = []
    for name in _names(rule):
        if name == "xp":
            given.append("xp")
        elif name == "ct":
            given.append(ct)
        elif name in layout:
            given.append(f"s[{layout.index(name)}]")
        elif name in params:
            given.append(f"p[{name!r}]")
        else:
            raise TypeError(
                f"a rule asks for {name!r}, which is no operand, parameter, or one of xp, ct, y, <operand>_shape, <operand>_dtype"
            )
    return ", ".join(given)


def compile_rule(rule: Any, layout: tuple[str, ...], params: tuple[str, ...]) -> Rule:
    """Give a rule as a function of (xp, ct, saved, params)."""
    return _generate(f"lambda xp, ct, s, p: f({arguments(rule, layout, params)})", f=rule)


def compile_positional(rule: Any, layout: tuple[str, ...], params: tuple[str, ...]) -> Any:
    """Give the one rule of all operands of a variadic operation, which is told the position."""
    return _generate(
        f"lambda xp, ct, s, p, position: f({arguments(rule, layout, (*params, 'position'))})".replace("p['position']", "position"), f=rule
    )


def compile_joint(rule: Any, layout: tuple[str, ...], params: tuple[str, ...], wanted: tuple[str, ...]) -> Rule:
    """Give the one rule of all operands, told which of them want a cotangent."""
    given = arguments(rule, layout, (*params, "wanted")).replace("p['wanted']", "w")
    return _generate(f"lambda xp, ct, s, p: f({given})", f=rule, w=wanted)


def partial_rule(partial: Any, layout: tuple[str, ...], params: tuple[str, ...]) -> Rule:
    """Give the rule of an elementwise function, forward or reverse, from its partial derivative.

    ``partial`` is a number; the name of an operand; a function that gives the derivative; or one that names ``ct`` and multiplies by it.
    """
    if isinstance(partial, str):
        return _generate(f"lambda xp, ct, s, p: ct * s[{layout.index(partial)}]")
    if callable(partial):
        given = arguments(partial, layout, params)
        return _generate(
            f"lambda xp, ct, s, p: f({given})" if "ct" in _names(partial) else f"lambda xp, ct, s, p: ct * f({given})", f=partial
        )
    return _generate({1: "lambda xp, ct, s, p: ct", -1: "lambda xp, ct, s, p: -ct"}.get(partial, "lambda xp, ct, s, p: ct * n"), n=partial)


def seeded_rule(partial: Any, layout: tuple[str, ...], params: tuple[str, ...]) -> Rule:
    """Give the reverse rule for a cotangent of one: a multiplication less to record, and to differentiate again."""
    if isinstance(partial, str):
        return _generate(f"lambda xp, ct, s, p: times_one(ct, s[{layout.index(partial)}])", times_one=_times_one)
    if not callable(partial) or "ct" in _names(partial):
        return partial_rule(partial, layout, params)
    return _generate(f"lambda xp, ct, s, p: times_one(ct, f({arguments(partial, layout, params)}))", times_one=_times_one, f=partial)


def _times_one(one: Any, x: Any) -> Any:
    return x if type(x) is type(one) and getattr(x, "level", None) is getattr(one, "level", None) else one * x


def _conj(xp: Any, x: Any) -> Any:
    return x.conjugate() if isinstance(x, _NUMBERS) else xp.conj(x)


def conj_rule(partial: Any, layout: tuple[str, ...], params: tuple[str, ...]) -> Rule:
    """Give the reverse rule for complex cotangents: they are multiplied by the conjugate of the (holomorphic) derivative."""
    if isinstance(partial, str):
        return _generate(f"lambda xp, ct, s, p: ct * conj(xp, s[{layout.index(partial)}])", conj=_conj)
    if not callable(partial):
        return partial_rule(partial, layout, params)
    if "ct" in _names(partial):
        return _generate(f"lambda xp, ct, s, p: xp.conj(f({arguments(partial, layout, params, 'xp.conj(ct)')}))", f=partial)
    return _generate(f"lambda xp, ct, s, p: ct * xp.conj(f({arguments(partial, layout, params)}))", f=partial)
