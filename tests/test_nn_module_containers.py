"""Containers, and the layers without a family: beside torch's, call by call."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import support
from derivatives import assert_close, assert_exact, kind

import agnostic_ad as ad
from agnostic_ad import nn
from agnostic_ad.nn import functional as F

torch = pytest.importorskip("torch")

LIBRARIES = {"ours": nn, "torch": torch.nn}


def both(use: Any) -> Any:
    """Run the same calls on our modules and on torch's; give the texts of both results."""
    texts = [repr(use(library)) for library in LIBRARIES.values()]
    assert texts[0] == texts[1]
    return texts[0]


def linears(library: Any, *sizes: int) -> list[Any]:
    return [library.Linear(n, n) for n in sizes]


def after(container: Any, change: Any) -> Any:
    """Give a container after a change in place, and its names."""
    given = change(container)
    return container if given is None or given is container else (container, given), list(container._modules)


# --- texts ----------------------------------------------------------------------------------------------------------------------------------
def test_texts_as_torch() -> None:
    class Lines:
        def extra_repr(self) -> str:
            return "one\ntwo"

    def model(library: Any) -> Any:
        lines = type("Lines", (Lines, library.Module), {})
        net = library.Sequential(
            OrderedDict(
                a=library.Linear(2, 3, bias=False),
                b=library.ModuleList([*linears(library, 1, 1, 2), library.Sequential(library.ReLU(), lines())]),
                c=library.ModuleDict({"x": library.Flatten(), "y": library.Unflatten(1, (2, 3))}),
            )
        )
        net.c.empty = library.ModuleList()
        net.c.none = None
        net.c.add_module("nothing", None)
        net.bilinear = library.Bilinear(1, 2, 3, bias=False)
        net.identity = library.Identity(5)
        net.lazy = library.LazyLinear(3)
        lines_ = lines()
        lines_.below = library.Module()
        return library.Sequential(net, lines_, library.Sequential(), library.ModuleDict())

    text = both(model)
    assert "(0-1): 2 x Linear(in_features=1" in text and "(nothing): None" in text


# --- Sequential and ModuleList --------------------------------------------------------------------------------------------------------------
NUMBERED = {
    "slice": lambda c, lib: (c[:2], c[-1], c[1:1], c[::2]),
    "append": lambda c, lib: after(c, lambda c: c.append(lib.Identity())),
    "extend": lambda c, lib: after(c, lambda c: c.extend(linears(lib, 7, 8))),
    "extend itself": lambda c, lib: after(c, lambda c: c.extend(list(c))),
    "insert": lambda c, lib: after(c, lambda c: c.insert(1, lib.Identity())),
    "insert at the end": lambda c, lib: after(c, lambda c: c.insert(3, lib.Identity())),
    "pop": lambda c, lib: after(c, lambda c: c.pop(1)),
    "pop several": lambda c, lib: after(c, lambda c: c.pop(slice(1, None))),
    "del": lambda c, lib: after(c, lambda c: c.__delitem__(0)),
    "del the last": lambda c, lib: after(c, lambda c: c.__delitem__(-1)),
    "del several": lambda c, lib: after(c, lambda c: c.__delitem__(slice(0, 2))),
    "set": lambda c, lib: after(c, lambda c: c.__setitem__(-1, lib.Identity())),
    "add": lambda c, lib: (c + type(c)(*c) if type(c) is lib.Sequential else c + [lib.Identity()], len(c)),
    "iterate": lambda c, lib: (list(c), len(c), [name for name in dir(c) if name[0].isdigit()]),
}


@pytest.mark.parametrize("name", ["Sequential", "ModuleList"])
@pytest.mark.parametrize("case", NUMBERED)
def test_numbered_containers(name: str, case: str) -> None:
    def use(library: Any) -> Any:
        items = linears(library, 2, 3, 4)
        container = library.Sequential(*items) if name == "Sequential" else library.ModuleList(items)
        return NUMBERED[case](container, library)

    assert both(use)


ARITHMETIC = {
    "times": lambda s, lib: (s * 2, 3 * s),
    "times in place": lambda s, lib: after(s, lambda s: s.__imul__(2)),
    "plus in place": lambda s, lib: after(s, lambda s: s.__iadd__(lib.Sequential(lib.ReLU()))),
}


@pytest.mark.parametrize("case", ARITHMETIC)
def test_arithmetic_of_sequentials(case: str) -> None:
    assert both(lambda library: ARITHMETIC[case](library.Sequential(*linears(library, 2, 3)), library))


def test_names_that_are_no_numbers() -> None:
    net = nn.Sequential(OrderedDict(a=nn.Linear(1, 1), b=nn.ReLU(), c=nn.Flatten()))
    assert list(net[1:]._modules) == ["b", "c"]
    del net[0]
    assert list(net._modules) == ["0", "1"]  # as in torch
    net.insert(-1, nn.Identity())
    assert [type(m).__name__ for m in net] == ["ReLU", "Identity", "Flatten"]
    other = nn.ModuleList([nn.ReLU()])
    other += [nn.Flatten()]
    assert len(other) == 2 and other[-1] is other[1]


def test_what_containers_refuse() -> None:
    net, many = nn.Sequential(nn.ReLU()), nn.ModuleList([nn.ReLU()])
    for call, error, text in [
        (lambda: net[1], IndexError, "index 1 is out of range for a length of 1"),
        (lambda: many[-2], IndexError, "index -2 is out of range for a length of 1"),
        (lambda: net.insert(3, nn.ReLU()), IndexError, "index 3 is out of range"),
        (lambda: net.insert(0, 3), TypeError, "Sequential.insert: an nn.Module is wanted, not int"),
        (lambda: many.append(3), TypeError, "an nn.Module or None is wanted, not int"),
        (lambda: many.extend(3), TypeError, "ModuleList.extend takes several modules, not int"),
        (lambda: net + [nn.ReLU()], ValueError, "a Sequential is added to another, not to list"),
        (lambda: net * 0, ValueError, "a Sequential is repeated once or more often, not 0 times"),
        (lambda: net * 1.5, TypeError, "an integer number of times, not float"),
        (lambda: nn.ModuleDict([("a", nn.ReLU(), 3)]), ValueError, "ModuleDict.update: element 0 has 3 parts"),
        (lambda: nn.ModuleDict([3]), TypeError, "ModuleDict.update: element 0 is no pair of a name and a value, but int"),
        (lambda: nn.ModuleDict(3), TypeError, "ModuleDict.update takes a mapping, or pairs of a name and a value, not int"),
        (lambda: nn.ModuleDict({"a.b": nn.ReLU()}), KeyError, "a non-empty string without dots"),
        (lambda: nn.ModuleDict({"keys": nn.ReLU()}), KeyError, "attribute 'keys' exists already"),
        (lambda: nn.ModuleDict({"a": nn.ReLU()})["b"], KeyError, "b"),
        (lambda: nn.ParameterList([])(1), TypeError, "a ParameterList holds parameters and is not called"),
        (lambda: nn.ParameterList(np.ones(3)), TypeError, "ParameterList.extend takes several parameters, not ndarray"),
        (lambda: nn.ParameterList([np.ones(1)])[1], IndexError, "index 1 is out of range"),
        (lambda: nn.ParameterDict({"a": np.ones(1)})["b"], KeyError, "b"),
        (lambda: nn.ParameterDict({3: np.ones(1)}), TypeError, "a ParameterDict has strings as keys, not int"),
        (lambda: nn.ParameterDict().popitem(), KeyError, "this ParameterDict is empty"),
    ]:
        with pytest.raises(error, match=text):
            call()


# --- ModuleDict -----------------------------------------------------------------------------------------------------------------------------
DICTS = {
    "pairs": lambda lib: lib.ModuleDict([["a", lib.ReLU()], ("b", lib.Identity())]),
    "set": lambda lib: after(lib.ModuleDict({"a": lib.ReLU()}), lambda d: d.__setitem__("b", lib.Identity())),
    "replace": lambda lib: after(lib.ModuleDict({"a": lib.ReLU(), "b": lib.Identity()}), lambda d: d.update({"a": lib.Flatten()})),
    "update": lambda lib: after(
        lib.ModuleDict({"a": lib.ReLU()}), lambda d: d.update(lib.ModuleDict({"z": lib.Identity(), "b": lib.ReLU()}))
    ),
    "pop": lambda lib: after(lib.ModuleDict({"a": lib.ReLU(), "b": lib.Identity()}), lambda d: d.pop("a")),
    "clear": lambda lib: after(lib.ModuleDict({"a": lib.ReLU()}), lambda d: d.clear()),
    "del": lambda lib: after(lib.ModuleDict({"a": lib.ReLU(), "b": lib.Identity()}), lambda d: d.__delitem__("b")),
    "views": lambda lib: [
        [*f(), len(d), "a" in d, "x" in d] for d in [lib.ModuleDict({"a": lib.ReLU()})] for f in (d.keys, d.values, d.items)
    ],
}


@pytest.mark.parametrize("case", DICTS)
def test_module_dict(case: str) -> None:
    assert both(DICTS[case])


# --- ParameterList and ParameterDict --------------------------------------------------------------------------------------------------------
def arrays(library: Any) -> Any:
    """Give what makes arrays in a library, and tells whether something is a parameter."""
    ours = library is nn
    array = (lambda *shape: np.zeros(shape)) if ours else torch.zeros
    return SimpleNamespace(array=array, told=lambda values: [type(v).__name__ if isinstance(v, str) else _told(v, ours) for v in values])


def _told(v: Any, ours: bool) -> Any:
    return (isinstance(v, nn.Parameter) if ours else isinstance(v, torch.nn.Parameter)), tuple(v.shape)


PARAMETERS = {
    "list": lambda lib, a: a.told(lib.ParameterList([a.array(2), lib.Parameter(a.array(3)), "word"])),
    "slice": lambda lib, a: a.told(lib.ParameterList([a.array(2), a.array(3), a.array(4)])[1:]),
    "append": lambda lib, a: a.told(lib.ParameterList([a.array(2)]).append(a.array(3)).extend([a.array(4)])),
    "set": lambda lib, a: (p := lib.ParameterList([a.array(2), a.array(3)]), p.__setitem__(-1, a.array(5)), a.told(p))[2],
    "names": lambda lib, a: [name for name, _ in lib.ParameterList([a.array(2), "word", a.array(3)]).named_parameters()],
    "dict": lambda lib, a: (d := lib.ParameterDict({"b": a.array(2), "c": a.array(1), "d": "word"}), a.told(d.values()), list(d.keys()))[
        1:
    ],
    "dict set": lambda lib, a: (d := lib.ParameterDict(), d.__setitem__("x", a.array(2)), a.told([d["x"]]), len(d))[2:],
    "dict pop": lambda lib, a: (d := lib.ParameterDict({"a": a.array(1), "b": a.array(2)}), a.told([d.pop("a")]), list(d))[1:],
    "dict popitem": lambda lib, a: (
        d := lib.ParameterDict({"a": a.array(1), "b": a.array(2)}),
        d.popitem()[0],
        list(d),
        dict(d.items()) != {},
    )[1:],
    "dict setdefault": lambda lib, a: (d := lib.ParameterDict(), a.told([d.setdefault("a", a.array(1)), d.setdefault("a", a.array(2))])),
    "dict get": lambda lib, a: (d := lib.ParameterDict({"a": a.array(1)}), d.get("b"), d.get("b", 3), "a" in d, a.told([d.get("a")]))[1:],
    "dict clear": lambda lib, a: (d := lib.ParameterDict({"a": a.array(1)}), d.clear(), len(d), list(d.parameters()))[2:],
    "dict del": lambda lib, a: (d := lib.ParameterDict({"a": a.array(1)}), d.__delitem__("a"), len(d))[2],
    "dict or": lambda lib, a: list(lib.ParameterDict({"a": a.array(1)}) | lib.ParameterDict({"b": a.array(2), "a": a.array(3)})),
    "dict ror": lambda lib, a: a.told((lib.ParameterDict({"a": a.array(1)}).__ror__(lib.ParameterDict({"b": a.array(2)}))).values()),
    "dict ior": lambda lib, a: (d := lib.ParameterDict({"a": a.array(1)}), d.__ior__(lib.ParameterDict({"b": a.array(2)})) is d, list(d))[
        1:
    ],
    "dict copy": lambda lib, a: (d := lib.ParameterDict({"a": a.array(1)}), c := d.copy(), c["a"] is d["a"], c is d)[2:],
    "dict reversed": lambda lib, a: list(reversed(lib.ParameterDict([("b", a.array(1)), ("a", a.array(1))]))),
    "dict fromkeys": lambda lib, a: (d := lib.ParameterDict().fromkeys(["x", "y"], 3), list(d.items()))[1],
}


@pytest.mark.parametrize("case", PARAMETERS)
def test_parameter_containers(case: str) -> None:
    def use(library: Any) -> Any:
        found = PARAMETERS[case](library, arrays(library))
        return found if not isinstance(found, tuple) else [x for x in found if not isinstance(x, library.Module)]

    assert both(use)


def test_parameter_containers_are_states() -> None:
    net = nn.ParameterDict({"list": np.ones(2), "other": 3})
    again = pickle.loads(pickle.dumps(nn.ModuleList([net, nn.ParameterList([np.ones(2)])])))
    assert list(again.state_dict()) == ["0.list", "1.0"] and again[0]["other"] == 3 and isinstance(again[1][0], nn.Parameter)
    assert repr(net) == "ParameterDict(\n    (list): Parameter containing: [float64 of size 2]\n    (other): Object of type: int\n)"
    assert "(0): Parameter containing: [float32 of unknown size]" in repr(nn.ParameterList([nn.UninitializedParameter()]))


# --- layers ---------------------------------------------------------------------------------------------------------------------------------
BILINEAR = [((2, 3), (2, 4)), ((3,), (4,)), ((2, 5, 3), (2, 5, 4)), ((0, 3), (0, 4))]


@pytest.mark.parametrize("shapes", BILINEAR)
@pytest.mark.parametrize("bias", [True, False])
def test_bilinear(backend: support.Backend, rng: np.random.Generator, shapes: Any, bias: bool) -> None:
    ours, theirs = nn.Bilinear(3, 4, 5, bias=bias), torch.nn.Bilinear(3, 4, 5, bias=bias, dtype=torch.float64)
    ours.double().load_state_dict(theirs.state_dict())
    ours.to(backend.xp)
    x = [rng.normal(size=shape) for shape in shapes]
    v, t = [ad.Variable(backend.asarray(a)) for a in x], [torch.tensor(a, requires_grad=True) for a in x]
    y, z = ours(*v), theirs(*t)
    assert_close(backend.numpy(y.data), z.detach().numpy(), rtol=1e-12, atol=1e-12)
    ct = rng.normal(size=tuple(z.shape))
    y.backward(backend.asarray(ct))
    z.backward(torch.tensor(ct))
    for a, b in zip([*v, *ours.parameters()], [*t, *theirs.parameters()], strict=True):
        assert_close(backend.numpy(a.grad), b.grad.numpy(), rtol=1e-11, atol=1e-12)


def test_bilinear_in_other_dtypes(rng: np.random.Generator) -> None:
    single = [rng.normal(size=s).astype("float32") for s in ((2, 3), (2, 4), (5, 3, 4), (5,))]
    assert kind(F.bilinear(*single)) == "numpy.float32"
    z = [rng.normal(size=s) + 1j * rng.normal(size=s) for s in ((2, 3), (2, 4), (5, 3, 4))]
    assert_close(F.bilinear(*z), np.einsum("bi,oij,bj->bo", z[0], z[2], z[1]), rtol=1e-12)
    ad.check_grads(F.bilinear, [x.astype("float64") for x in single])
    many = ad.vmap(F.bilinear, in_axes=(0, 0, None, None))(*single)
    assert_close(many, F.bilinear(*single), rtol=1e-5)


def test_bilinear_refuses() -> None:
    x1, x2, weight = np.ones((2, 3)), np.ones((2, 4)), np.ones((5, 3, 4))
    text = r"bilinear: inputs of shape \(2, 4\) and \(2, 4\) do not fit a weight of shape \(5, 3, 4\) \(outputs, inputs 1, inputs 2\)"
    for args in ((x2, x2, weight), (x1, x1, weight), (x1, x2[:1], weight), (x1, x2, weight[0])):
        with pytest.raises(ValueError, match=r"bilinear: inputs of shape \(\d, \d\) and \(\d, \d\) do not fit"):
            F.bilinear(*args)
    with pytest.raises(ValueError, match=text):
        F.bilinear(x2, x2, weight)
    with pytest.raises(ValueError, match="in1_features is 1 or more, not 0"):
        nn.Bilinear(0, 1, 1)


def test_unflatten(backend: support.Backend) -> None:
    x = np.arange(24.0).reshape(2, 12)
    for dim, sizes in ((1, (3, 4)), (-1, (2, -1, 3)), (0, (2, 1)), (1, [12])):
        got = nn.Unflatten(dim, sizes)(backend.asarray(x))
        assert_exact(backend.numpy(got), torch.nn.Unflatten(dim, tuple(sizes))(torch.tensor(x)).numpy())
    assert nn.Unflatten(1, (0, 5))(backend.asarray(np.zeros((2, 0)))).shape == (2, 0, 5)
    for sizes in ((5, -1), (5, 2), (-1, -1), (-2, -6), ()):
        with pytest.raises(ValueError, match=r"unflatten: axis 1 of an input of shape \(2, 12\) cannot have the sizes"):
            nn.Unflatten(1, sizes)(x)
    with pytest.raises(IndexError, match="unflatten: axis 2 is out of bounds"):
        nn.Unflatten(2, (1, 1))(x)
    with pytest.raises(TypeError, match="dim is an integer, not str; arrays have no named axes"):
        nn.Unflatten("N", (1, 1))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="unflattened_size is a tuple of integers, not 3"):
        nn.Unflatten(1, 3)
    x = np.ones((2, 6))
    assert nn.Identity(1, 2, a=3)(x) is x


def test_one_seed_for_bilinear_and_lazy_layers(backend: support.Backend) -> None:
    weights = []
    for xp in (np, backend.xp):
        ad.manual_seed(1)
        lazy = nn.LazyLinear(2, xp=xp)
        lazy((backend.asarray if xp is backend.xp else np.asarray)(np.ones((1, 3)), "float32"))
        weights.append([nn.Bilinear(2, 2, 2, xp=xp).weight, lazy.weight])
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one.data, backend.numpy(other.data))
