"""check_layer finds what is wrong with a backward; layers as operations on the tape, modules as layers; the conformance suite's laws."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import support
from derivatives import assert_close, assert_exact, jacobian

import agnostic_ad as ad
from agnostic_ad import nn
from agnostic_ad.nn import caffe

X = np.asarray([[0.5, -1.0, 2.0], [1.5, 0.25, -0.75]])


class Cube(caffe.Layer):
    """Of one's own, and right."""

    exact_bottoms = exact_tops = 1

    def reshape(self, bottom: Any, top: Any) -> None:
        top[0].reshape_like(bottom[0])

    def forward(self, bottom: Any, top: Any) -> None:
        top[0].data = bottom[0].data ** 3

    def backward(self, top: Any, propagate_down: Any, bottom: Any) -> None:
        bottom[0].diff = 3 * bottom[0].data ** 2 * top[0].diff


class InNumPy(Cube):
    """As one writes them for Caffe: into the arrays that are there."""

    def forward(self, bottom: Any, top: Any) -> None:
        top[0].data[...] = np.power(bottom[0].data, 3)

    def backward(self, top: Any, propagate_down: Any, bottom: Any) -> None:
        bottom[0].diff[...] = 3 * np.square(bottom[0].data) * top[0].diff


class Detached(Cube):
    """What it computes hides from the tape that it depends on the bottom."""

    def forward(self, bottom: Any, top: Any) -> None:
        x = bottom[0].data
        top[0].data = x * ad.stop_gradient(x**2)


class Weighted(Cube):
    """With a parameter."""

    def setup(self, bottom: Any, top: Any) -> None:
        self.blobs = [self.blob(3), self.blob()]
        self.blobs[0].data, self.blobs[1].data = np.asarray([1.0, -2.0, 0.5]), 0.25

    def forward(self, bottom: Any, top: Any) -> None:
        top[0].data = bottom[0].data * self.blobs[0].data + self.blobs[1].data

    def backward(self, top: Any, propagate_down: Any, bottom: Any) -> None:
        self.blobs[0].diff += (top[0].diff * bottom[0].data).sum(0)
        self.blobs[1].diff += top[0].diff.sum()
        bottom[0].diff = top[0].diff * self.blobs[0].data


def variant(base: type[caffe.Layer], backward: Any) -> type[caffe.Layer]:
    return type("Mine", (base,), {"backward": backward})


def cts(shape: tuple[int, ...], seed: int = 0) -> Any:
    """The tops' gradients that a check draws."""
    return np.random.default_rng(seed).standard_normal(shape)


# --- what it says -------------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", [Cube, InNumPy, Detached, Weighted])
def test_a_right_backward_passes(kind: Any) -> None:
    made = []

    class Counted(kind):  # type: ignore[misc]
        def backward(self, *args: Any) -> None:
            made.append(args)
            super().backward(*args)

    caffe.check_layer(Counted, [X])
    assert len(made) == 1


@pytest.mark.parametrize(
    ("base", "by"), [(Cube, "the tape of its forward"), (InNumPy, "differences of its forward"), (Detached, "differences of its forward")]
)
def test_a_wrong_factor_is_found(base: Any, by: str) -> None:
    def backward(self: Any, top: Any, propagate_down: Any, bottom: Any) -> None:
        bottom[0].diff = 2 * bottom[0].data ** 2 * top[0].diff

    want = 3 * X**2 * cts(X.shape)
    index = np.unravel_index(np.argmax(np.abs(want)), want.shape)
    with pytest.raises(AssertionError) as error:
        caffe.check_layer(variant(base, backward), [X])
    place = ", ".join(str(i) for i in index)
    assert str(error.value) == (
        f"check_layer: Mine: backward is wrong: bottom 0 at index ({place}) got {want[index] * 2 / 3:.6f}, expected {want[index]:.6f} "
        f"(by {by}); 6 of 6 elements are off"
    )


def test_one_wrong_element_is_found() -> None:
    def backward(self: Any, top: Any, propagate_down: Any, bottom: Any) -> None:
        g = 3 * bottom[0].data ** 2 * top[0].diff
        g[1, 2] += 1e-4
        bottom[0].diff = g

    with pytest.raises(AssertionError, match=r"bottom 0 at index \(1, 2\) got .* 1 of 6 elements are off$"):
        caffe.check_layer(variant(Cube, backward), [X])
    caffe.check_layer(variant(Cube, backward), [X], rtol=1e-3)


def test_what_is_not_written_is_found() -> None:
    def backward(self: Any, top: Any, propagate_down: Any, bottom: Any) -> None:
        """Nothing."""

    with pytest.raises(AssertionError, match=r"bottom 0 at index \(0, 1\) was not written, expected"):
        caffe.check_layer(variant(Cube, backward), [X])


def test_a_bottom_that_is_added_to_is_found() -> None:
    def backward(self: Any, top: Any, propagate_down: Any, bottom: Any) -> None:
        bottom[0].diff += 3 * bottom[0].data ** 2 * top[0].diff

    with pytest.raises(AssertionError, match="It was added to what diff was before: backward writes the diff of bottoms"):
        caffe.check_layer(variant(Cube, backward), [X])


def test_a_parameter_that_is_overwritten_is_found() -> None:
    def backward(self: Any, top: Any, propagate_down: Any, bottom: Any) -> None:
        Weighted.backward(self, top, propagate_down, bottom)
        self.blobs[1].diff = top[0].diff.sum()

    with pytest.raises(AssertionError, match=r"parameter 1 at index \(\) got .* backward adds to the diff of parameters"):
        caffe.check_layer(variant(Weighted, backward), [X])


def test_a_gradient_that_is_no_number_is_found() -> None:
    def backward(self: Any, top: Any, propagate_down: Any, bottom: Any) -> None:
        bottom[0].diff = np.where(bottom[0].data > 1.9, np.nan, 3 * bottom[0].data ** 2 * top[0].diff)

    with pytest.raises(AssertionError, match=r"bottom 0 at index \(0, 2\) got nan, expected"):
        caffe.check_layer(variant(Cube, backward), [X])


@pytest.mark.parametrize("slope", [0.0, 0.5, 1.0])
def test_at_a_kink_any_slope_between_will_do_where_there_is_no_tape(slope: float) -> None:
    class Kink(InNumPy):
        def forward(self, bottom: Any, top: Any) -> None:
            top[0].data[...] = np.maximum(bottom[0].data, 0)

        def backward(self, top: Any, propagate_down: Any, bottom: Any) -> None:
            x = bottom[0].data
            bottom[0].diff[...] = np.where(x == 0, slope, x > 0) * top[0].diff

    x = np.asarray([0.0, 1.0, -1.0])
    caffe.check_layer(Kink, [x])
    with pytest.raises(AssertionError, match=r"bottom 0 at index \(0,\) got"):
        caffe.check_layer(
            variant(Kink, lambda self, top, *_: Kink.backward(self, top, _[0], _[1]) or _[1][0].diff.__setitem__(0, 2.0)), [x]
        )


def test_a_registered_layer_that_was_broken_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caffe.LAYERS["Sigmoid"], "pull", lambda self, xp, ct, kept: ct * kept)
    with pytest.raises(AssertionError, match=r"check_layer: Sigmoid: backward is wrong: bottom 0 at index"):
        caffe.check_layer("Sigmoid", [X])


def test_given_layers_names_and_parameters() -> None:
    how = {"inner_product_param": {"num_output": 2}}
    caffe.check_layer("InnerProduct", [X], params=[np.ones((2, 3)), np.zeros(2)], **how)
    layer = caffe.LAYERS["InnerProduct"](dtype="float64", **how)
    caffe.check_layer(layer, [X])
    with pytest.raises(TypeError, match="inner_product_param are for a class of layer; InnerProduct"):
        caffe.check_layer(layer, [X], **how)
    with pytest.raises(caffe.DefinitionError, match=r"there is no layer of type 'InerProduct' \(did you mean 'InnerProduct'\?\)"):
        caffe.check_layer("InerProduct", [X])


def test_labels_are_left_out() -> None:
    caffe.check_layer("SoftmaxWithLoss", [X, np.asarray([2, 0])])
    with pytest.raises(caffe.DefinitionError, match="bottom 1, 'bottom 1', has no gradient"):
        caffe.check_layer("SoftmaxWithLoss", [X, np.asarray([2, 0])], propagate_down=[True, True])


def test_on_every_library(backend: support.Backend) -> None:
    caffe.check_layer(Cube, [backend.asarray(X)])
    wrong = variant(Cube, lambda self, top, propagate_down, bottom: setattr(bottom[0], "diff", top[0].diff))
    with pytest.raises(AssertionError, match="check_layer: Mine: backward is wrong: bottom 0 at index"):
        caffe.check_layer(wrong, [backend.asarray(X)])


# --- a layer as an operation --------------------------------------------------------------------------------------------------------------
def test_a_layer_is_an_operation(backend: support.Backend, rng: np.random.Generator) -> None:
    x, w, ct = rng.normal(size=(2, 2, 4, 4)), rng.normal(size=(3, 2, 3, 3)), rng.normal(size=(2, 3, 2, 2))
    layer = caffe.LAYERS["Convolution"](
        xp=backend.xp, dtype="float64", convolution_param={"num_output": 3, "kernel_size": 3, "bias_term": False}
    )

    def ours(x: Any, w: Any) -> Any:
        return (layer.apply(x, params=(w,)) * backend.asarray(ct)).sum()

    found = ad.grad(ours, (0, 1))(backend.asarray(x), backend.asarray(w))
    want = ad.grad(lambda x, w: (nn.functional.conv2d(x, w) * ct).sum(), (0, 1))(x, w)
    for a, b in zip(found, want, strict=True):
        assert_close(backend.numpy(a), b, rtol=1e-12, atol=1e-12)


def test_without_params_gradients_go_to_the_blobs() -> None:
    layer = caffe.LAYERS["InnerProduct"](dtype="float64", inner_product_param={"num_output": 2, "weight_filler": {"type": "xavier"}})
    x = ad.Variable(X)
    for times in (1, 2):
        layer.apply(x).sum().backward()
        assert_exact(layer.blobs[0].diff, times * np.stack([X.sum(0)] * 2))
        assert_exact(x.grad, times * np.stack([layer.blobs[0].data.sum(0)] * 2))


def test_the_layers_own_backward_is_what_counts() -> None:
    reversed_ = variant(Cube, lambda self, top, propagate_down, bottom: setattr(bottom[0], "diff", -top[0].diff))
    assert_exact(ad.grad(lambda x: caffe.as_function(reversed_(dtype="float64"))(x).sum())(X), -np.ones(X.shape))


def test_a_layer_that_computes_with_numpy_is_an_operation_too() -> None:
    layer = InNumPy(dtype="float64")
    assert_exact(ad.grad(lambda x: (2 * layer.apply(x)).sum())(X), 6 * X**2)
    with pytest.raises(ad.errors.EscapedArrayError):  # but not one that can be differentiated twice
        ad.grad(lambda x: ad.grad(lambda x: layer.apply(x).sum())(x).sum())(X)


def test_a_layer_may_be_used_twice_before_backward() -> None:
    drop = caffe.as_function(caffe.LAYERS["Dropout"](dtype="float64", generator=ad.Generator(0)))
    x = ad.Variable(np.ones(50))
    first, second = drop(x), drop(x)
    assert not np.array_equal(first.data, second.data)
    second.sum().backward()
    assert_exact(x.grad, second.data)
    first.sum().backward()
    assert_exact(x.grad, first.data + second.data)


@pytest.mark.parametrize("type", ["Sigmoid", "Softmax", "TanH", "MVN", "LRN"])
def test_an_operation_has_second_derivatives(type: str) -> None:
    layer = caffe.LAYERS[type](dtype="float64", lrn_param={"local_size": 3, "alpha": 0.5})
    f, x = caffe.as_function(layer), np.linspace(-1.0, 1.5, 12).reshape(1, 3, 2, 2)
    weights = np.cos(np.arange(12.0)).reshape(x.shape)

    def gradient(x: Any) -> Any:
        return ad.grad(lambda x: (f(x) * weights).sum())(x)

    want = np.tensordot(np.sin(np.arange(12.0)).reshape(x.shape), jacobian(gradient, x), axes=4)
    assert_close(ad.grad(lambda x: (gradient(x) * np.sin(np.arange(12.0)).reshape(x.shape)).sum())(x), want)


def test_layers_run_under_vmap() -> None:
    f = caffe.as_function(caffe.LAYERS["Sigmoid"](dtype="float64"))
    slope = np.exp(-X) / (1 + np.exp(-X)) ** 2
    assert_close(ad.vmap(f)(X), 1 / (1 + np.exp(-X)), rtol=1e-13)
    assert_close(ad.vmap(ad.grad(lambda x: f(x).sum()))(X), slope, rtol=1e-13)
    assert_close(ad.grad(lambda x: ad.vmap(f)(x).sum())(X), slope, rtol=1e-13)
    ip = caffe.LAYERS["InnerProduct"](dtype="float64", inner_product_param={"num_output": 2, "bias_term": False})
    w = np.arange(6.0).reshape(2, 3)
    each = ad.vmap(ad.grad(lambda w, x: (ip.apply(x[None, :], params=(w,)) ** 2).sum()), in_axes=(None, 0))(w, X)
    assert_close(each, np.stack([2 * np.outer(w @ x, x) for x in X]), rtol=1e-13)
    with pytest.raises(caffe.DefinitionError, match=r"vmap of a gradient has no diff .* params=\[blob.data for blob in layer.blobs\]"):
        ad.vmap(ad.grad(lambda x: ip.apply(x[None, :]).sum()))(X)


def test_second_derivatives_of_a_layer_that_sets_its_own_blobs() -> None:
    layer = Weighted(dtype="float64")
    hessian = ad.jacrev(ad.grad(lambda x: (layer.apply(x) ** 2).sum()))(X)
    assert_close(hessian.reshape(6, 6), np.diag(np.tile(2 * layer.blobs[0].data ** 2, 2)), rtol=1e-13)


def test_diffs_stay_raw_where_the_gradient_is_differentiated_again() -> None:
    ip = caffe.LAYERS["InnerProduct"](dtype="float64", inner_product_param={"num_output": 2, "bias_term": False})
    x = ad.Variable(X)
    ad.gradients((ip.apply(x) ** 2).sum(), x, create_graph=True)
    assert type(ip.blobs[0].diff) is np.ndarray


def test_second_derivatives_draw_the_same_numbers() -> None:
    drop = caffe.as_function(caffe.LAYERS["Dropout"](dtype="float64", generator=ad.Generator(0)))
    x = ad.Variable(np.arange(1.0, 41.0))
    y = drop(x)
    (first,) = ad.gradients((y**3).sum(), x, create_graph=True)
    (second,) = ad.gradients(first.sum(), x)
    kept = y.data > 0
    assert_close(second, np.where(kept, 6 * 8 * x.data, 0.0))


def test_several_tops_and_raw_arrays() -> None:
    cut = caffe.LAYERS["Slice"](dtype="float64")
    parts = cut.apply(X, tops=3)
    assert [p.tolist() for p in parts] == [X[:, i : i + 1].tolist() for i in range(3)]
    assert all(type(p) is np.ndarray for p in parts)
    g = ad.grad(lambda x: (cut.apply(x, tops=3)[1] ** 2).sum())(X)
    assert_exact(g, np.asarray([0.0, 2.0, 0.0]) * X)


def test_parameters_that_do_not_fit_are_refused() -> None:
    layer = caffe.LAYERS["InnerProduct"](dtype="float64", inner_product_param={"num_output": 2, "bias_term": False})
    with pytest.raises(caffe.DefinitionError, match=r"its parameters have shapes \[\(2, 3\)\]; params of shapes \[\(3, 2\)\] are given"):
        layer.apply(X, params=[np.ones((3, 2))])


def test_forward_mode_goes_through_forward(backend: support.Backend) -> None:
    f, x, one = (
        caffe.as_function(caffe.LAYERS["TanH"](xp=backend.xp, dtype="float64")),
        backend.asarray(X),
        backend.asarray(np.ones(X.shape)),
    )
    slope = 1 - np.tanh(X) ** 2
    curve = -2 * np.tanh(X) * slope
    assert_close(backend.numpy(ad.jvp(f, (x,), (x,))[1]), slope * X, rtol=1e-13)
    assert_close(backend.numpy(ad.grad(lambda x: ad.jvp(f, (x,), (one,))[1].sum())(x)), curve, rtol=1e-13)
    assert_close(backend.numpy(ad.jvp(ad.grad(lambda x: f(x).sum()), (x,), (one,))[1]), curve, rtol=1e-13)
    assert_close(backend.numpy(ad.jvp(ad.vmap(f), (x,), (x,))[1]), slope * X, rtol=1e-13)
    assert_close(backend.numpy(ad.vmap(lambda x: ad.jvp(f, (x,), (x,))[1])(x)), slope * X, rtol=1e-13)


def test_forward_mode_of_parameters_and_modules() -> None:
    ip = caffe.LAYERS["InnerProduct"](dtype="float64", inner_product_param={"num_output": 2, "bias_term": False})
    w = np.arange(6.0).reshape(2, 3)
    assert_close(ad.jvp(lambda w: ip.apply(X, params=[w]), (w,), (w,))[1], X @ w.T, rtol=1e-13)
    with ad.defaults(dtype="float64"):
        layer = caffe.ModuleLayer(nn.Tanh(), dtype="float64")
    assert_close(ad.jacfwd(layer.apply)(X).reshape(6, 6), np.diag((1 - np.tanh(X) ** 2).ravel()), rtol=1e-13)


def test_forward_mode_of_a_layer_that_leaves_the_tape() -> None:
    with pytest.raises(ad.errors.EscapedArrayError, match="would silently lose its derivative"):
        ad.jvp(InNumPy(dtype="float64").apply, (X,), (X,))


# --- a module as a layer ------------------------------------------------------------------------------------------------------------------
def module(xp: Any = np) -> nn.Module:
    with ad.defaults(xp=xp, dtype="float64"):
        return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.BatchNorm1d(4), nn.Linear(4, 2))


def test_a_module_is_a_layer(backend: support.Backend) -> None:
    caffe.check_layer(caffe.ModuleLayer(module(backend.xp), xp=backend.xp, dtype="float64"), [backend.asarray(X)])


def test_the_blobs_are_the_modules_parameters() -> None:
    model = module()
    layer = caffe.ModuleLayer(model, dtype="float64")
    y = layer.apply(X)
    assert [blob.shape for blob in layer.blobs] == [p.shape for p in model.parameters()]
    assert_exact(y, model(X).data)
    layer.blobs[-1].data += 1.0  # a solver's step
    assert_exact(layer.apply(X), y + 1.0)
    assert_exact(model(X).data, y + 1.0)


def test_a_module_of_several_bottoms_and_tops() -> None:
    class Two(nn.Module):
        def forward(self, a: Any, b: Any) -> Any:
            return a * b, a

    caffe.check_layer(caffe.ModuleLayer(Two(), dtype="float64"), [X, X + 1], tops=2)
    with pytest.raises(caffe.DefinitionError, match="the module gives 2 arrays for 1 tops"):
        caffe.ModuleLayer(Two(), dtype="float64").apply(X, X)
    with pytest.raises(caffe.DefinitionError, match="it takes a Module, not function"):
        caffe.ModuleLayer(lambda x: x)


def test_phase_says_whether_a_module_trains() -> None:
    layers = [caffe.ModuleLayer(module(), dtype="float64", phase=phase) for phase in ("TRAIN", "TEST")]
    for layer in layers:
        layer.apply(X)
    assert [layer.module.training for layer in layers] == [True, False]
    assert [float(layer.module[2].num_batches_tracked.data) for layer in layers] == [1.0, 0.0]
