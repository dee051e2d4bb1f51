"""Decompositions where they are not unique: equal values, phases, columns that complete a basis, columns that depend on each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import support
from derivatives import assert_close, derivative
from matrices import adjoint, point, weigh

import agnostic_ad as ad
from agnostic_ad.errors import DegenerateError
from agnostic_ad.op import TABLE

# --- equal values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["eigvalsh", "eigvals", "svdvals"])
def test_values_have_derivatives_where_they_are_equal(name: str, backend: support.Backend) -> None:
    def loss(x: Any) -> Any:
        xp = ad.namespace(x)
        return xp.sum(xp.real(getattr(xp.linalg, name)(x)) ** 3)

    assert_close(backend.numpy(ad.grad(loss)(backend.asarray(np.eye(3) * 2))), np.eye(3) * 12, rtol=1e-12, atol=1e-12)


def test_second_derivatives_of_equal_values_need_the_vectors() -> None:
    gradient = ad.grad(lambda x: weigh(ad.namespace(x), ad.namespace(x).linalg.eigvalsh(x)))
    x, t = np.eye(2), np.ones((2, 2))
    with pytest.raises(DegenerateError, match=r"values alone are needed \(their second derivative needs the vectors, too\)"):
        ad.grad(lambda x: (gradient(x) * t).sum())(x)
    assert np.isnan(ad.jvp(gradient, (x,), (t,))[1]).any()
    assert_close(ad.jvp(gradient, (x,), (x,))[1], 2 / 3 * x)  # along which the values stay equal, and the vectors serve


def vectors(name: str) -> Callable[[Any], Any]:
    """A loss of each vector, to first order in each element, and of no phase."""

    def loss(x: Any) -> Any:
        xp = ad.namespace(x)
        v = getattr(xp.linalg, name)(x)[0 if name == "svd" else 1]
        return weigh(xp, xp.real(v[..., :, None, :] * xp.conj(v[..., None, :, :])))

    return loss


REFUSED = {
    "eigh": "eigh: the derivative of eigenvectors does not exist where their values are equal (to rounding), and the result depends on them. "
    "Use eigvalsh if the values alone are needed (their second derivative needs the vectors, too); or separate them, by adding a small diagonal "
    "matrix of different numbers.",
    "eig": "eig: the derivative of eigenvectors does not exist where their values are equal (to rounding), and the result depends on them. "
    "Use eigvals if the values alone are needed (their second derivative needs the vectors, too); or separate them, by adding a small diagonal "
    "matrix of different numbers.",
    "svd": "svd: the derivative of singular vectors does not exist where their values are equal (to rounding), and the result depends on them. "
    "Use svdvals if the values alone are needed (their second derivative needs the vectors, too); or separate them, by adding a small diagonal "
    "matrix of different numbers.",
}


@pytest.mark.parametrize("backend", support.params(without=("dask",)))
@pytest.mark.parametrize("name", REFUSED)
def test_vectors_of_equal_values_are_refused(name: str, backend: support.Backend) -> None:
    rotation = np.linalg.qr(point((3, 3), "f"))[0]
    for x in (np.diag([2.0, 2.0, 3.0]), rotation @ np.diag([2.0, 3.0, 2.0]) @ rotation.T):  # exactly, and to rounding
        with pytest.raises(DegenerateError) as caught:
            ad.grad(vectors(name))(backend.asarray(x))
        assert str(caught.value) == REFUSED[name]
    with pytest.raises(DegenerateError):  # though the first vector, turned a little, has the same first element
        ad.grad(lambda x: abs(getattr(ad.namespace(x).linalg, name)(x)[0 if name == "svd" else 1][0, 0]))(backend.asarray(np.eye(2)))
    with pytest.raises(DegenerateError):
        ad.vmap(ad.grad(vectors(name)))(backend.asarray([np.diag([1.0, 2.0]), np.eye(2)]))
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("name", REFUSED)
def test_vectors_of_equal_values_are_nan_where_values_cannot_be_seen(name: str) -> None:
    jax, da = pytest.importorskip("jax"), pytest.importorskip("dask.array")
    x = np.diag([2.0, 2.0, 3.0])
    assert np.isnan(jax.jit(ad.grad(vectors(name)))(jax.numpy.asarray(x))).any()
    assert np.isnan(ad.grad(vectors(name))(da.asarray(x)).compute()).any()


def test_forward_mode_gives_values_a_tangent_and_vectors_none(backend: support.Backend) -> None:
    x, t = backend.asarray(np.diag([2.0, 2.0, 3.0])), backend.asarray(np.ones((3, 3)))
    for name, values, turned in (("eigh", 0, 1), ("eig", 0, 1), ("svd", 1, 0)):
        _, tangent = ad.jvp(TABLE[f"linalg.{name}"], (x,), (t,))
        assert_close(backend.numpy(tangent[values]), [1.0, 1.0, 1.0], rtol=1e-12, atol=1e-12)
        assert np.isnan(backend.numpy(tangent[turned])).any()


def test_vectors_apart_from_equal_values_have_derivatives(backend: support.Backend) -> None:
    """The vector of a simple eigenvalue, beside a double one; by differences."""
    rotation = np.linalg.qr(point((3, 3), "f", 1))[0]
    x, t = rotation @ np.diag([1.0, 1.0, 2.0]) @ rotation.T, point((3, 3), "f")
    t = t + t.T

    def loss(x: Any) -> Any:
        xp = ad.namespace(x)
        return weigh(xp, xp.abs(xp.linalg.eigh(x).eigenvectors[:, 2]))

    expected = derivative(lambda h: float(loss(ad.Variable(x + h * t, requires_grad=False))), 0.0)
    assert_close(np.sum(backend.numpy(ad.grad(loss)(backend.asarray(x))) * t), expected)


# --- phases and completed bases ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", support.params(without=("dask",)))
@pytest.mark.parametrize("name", ["eigh", "eig", "svd"])
def test_losses_that_depend_on_a_phase_are_refused(name: str, backend: support.Backend) -> None:
    def loss(x: Any) -> Any:
        xp = ad.namespace(x)
        return weigh(xp, getattr(xp.linalg, name)(x)[0 if name == "svd" else 1])

    with pytest.raises(
        DegenerateError, match=rf"^{name}: each complex vector is unique up to a factor exp\(i phi\), and the result depends"
    ):
        ad.grad(loss)(backend.asarray(point((3, 3), "c")))


def completed(xp: Any, x: Any) -> Any:
    """The columns that complete those of ``x`` to a basis, by QR and by singular vectors."""
    return xp.linalg.qr(x, mode="complete").Q[..., x.shape[-1] :], xp.linalg.svd(x).U[..., x.shape[-1] :]


@pytest.mark.parametrize("kind", "fc")
def test_what_completes_a_basis_has_a_derivative_where_rotations_do_not_matter(kind: str, backend: support.Backend) -> None:
    x = backend.asarray(point((4, 2), kind))

    def by_completion(which: int) -> Callable[[Any], Any]:
        def loss(x: Any) -> Any:
            xp = ad.namespace(x)
            n = completed(xp, x)[which]
            return weigh(xp, xp.matmul(n, adjoint(xp, n)))

        return loss

    def by_projection(x: Any) -> Any:
        xp = ad.namespace(x)
        inside = xp.matmul(x, xp.linalg.pinv(x))
        return weigh(xp, xp.eye(4, dtype=x.dtype) - inside)

    expected = backend.numpy(ad.grad(by_projection)(x))
    t = backend.asarray(point((4, 2), kind, 1))
    for loss in (by_completion(0), by_completion(1)):
        assert_close(backend.numpy(ad.grad(loss)(x)), expected, rtol=1e-10, atol=1e-10)
        along = float(backend.numpy(ad.jvp(loss, (x,), (t,))[1]))
        assert_close(along, np.sum(np.real(np.conj(expected) * backend.numpy(t))), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("backend", support.params(without=("dask",)))
@pytest.mark.parametrize(("which", "name"), [(0, "qr"), (1, "svd")])
def test_losses_that_depend_on_a_rotation_are_refused(which: int, name: str, backend: support.Backend) -> None:
    message = f"^{name}: the columns that complete a basis are unique up to a rotation among themselves, and the result depends on it"
    with pytest.raises(DegenerateError, match=message):
        ad.grad(lambda x: weigh(ad.namespace(x), completed(ad.namespace(x), x)[which]))(backend.asarray(point((4, 2), "f")))


@pytest.mark.parametrize("backend", support.params(without=("dask",)))
def test_vectors_of_singular_values_that_are_zero(backend: support.Backend) -> None:
    x = backend.asarray([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    with pytest.raises(
        DegenerateError, match="singular vectors of a matrix that is complex or not square does not exist where a value is zero, and"
    ):
        ad.grad(lambda x: weigh(ad.namespace(x), ad.namespace(x).linalg.svd(x, full_matrices=False).U))(x)
    only = ad.grad(lambda x: weigh(ad.namespace(x), ad.namespace(x).linalg.svd(x, full_matrices=False).S))(x)
    assert np.isfinite(backend.numpy(only)).all()


@pytest.mark.parametrize("backend", support.params(without=("dask",)))
def test_qr_of_columns_that_depend_on_each_other(backend: support.Backend) -> None:
    x = backend.asarray([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]])
    message = r"^qr: the derivative does not exist where columns depend on each other \(to rounding\): the diagonal of R has a zero\."
    with pytest.raises(DegenerateError, match=message):
        ad.grad(lambda x: weigh(ad.namespace(x), ad.namespace(x).linalg.qr(x).R))(x)
    with pytest.raises(DegenerateError, match=message):
        ad.jvp(TABLE["linalg.qr"], (x,), (x,))


@pytest.mark.parametrize("backend", support.params(without=("dask",)))
def test_qr_whose_dependent_columns_nothing_depends_on(backend: support.Backend) -> None:
    """As in randomized decompositions: more columns than there are dimensions to span."""
    rng = np.random.default_rng(0)
    x, mix = rng.normal(size=(6, 3)), backend.asarray(rng.normal(size=(3, 5)))

    def f(x: Any) -> Any:
        xp = ad.namespace(x)
        q = xp.linalg.qr(xp.matmul(x, mix)).Q
        return xp.sum(xp.linalg.svdvals(xp.matmul(xp.matrix_transpose(q), x)))

    u, _, vh = np.linalg.svd(x, full_matrices=False)
    assert_close(backend.numpy(ad.grad(f)(backend.asarray(x))), u @ vh)


def test_neighbours_in_large_matrices_of_single_precision_are_not_equal() -> None:
    x = np.random.default_rng(0).normal(size=(300, 300)).astype("float32")
    gradient = ad.grad(lambda x: weigh(ad.namespace(x), ad.namespace(x).abs(ad.namespace(x).linalg.eigh(x + x.T).eigenvectors)))(x)
    assert gradient.dtype == np.float32 and np.isfinite(gradient).all()
