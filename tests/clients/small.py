"""array_api_extra, einops, xarray, opt_einsum, and NumPy's own functions."""

from __future__ import annotations

from typing import Any

from clients.base import Client, apart, between, complex_normal, given, namespace, normal, positive, quietly, spd

# one line a call:
# fmt: off

# --- array_api_extra -----------------------------------------------------------------------------------------------------------------------
xpx = Client("array_api_extra")
_MASK = given([True, False, True, True, False])
xpx("apply_where", lambda m, x: m.apply_where(x > 0, x, lambda t: t**3, lambda t: -2 * t), normal(6))
xpx("at.set", lambda m, x, y: m.at(x)[1:3].set(y, copy=True), normal(5), normal(2))
xpx("at.add", lambda m, x, y: m.at(x)[::2].add(y, copy=True), normal(5), normal(3))
xpx("at[mask].set", lambda m, x, k, y: m.at(x)[k].set(y, copy=True), normal(5), _MASK, normal(3))
xpx("at[mask].multiply", lambda m, x, k: m.at(x)[k].multiply(3.0, copy=True), normal(5), _MASK)
xpx("at[i].divide", lambda m, x, y: m.at(x, 2).divide(y, copy=True), normal(5), positive())
xpx("at.power", lambda m, x: m.at(x, slice(1, 4)).power(2.0, copy=True), positive(5))
xpx("at.min", lambda m, x: m.at(x, slice(1, 4)).min(0.3, copy=True), apart(5))
xpx("at[integers].set", lambda m, x: m.at(x)[namespace(x).asarray([3, 0])].set(-1.0, copy=True), normal(5))
xpx("atleast_nd", lambda m, x: m.atleast_nd(x, ndim=3), normal(4))
xpx("cov", lambda m, x: m.cov(x), normal(3, 5))
xpx("create_diagonal", lambda m, x: m.create_diagonal(x, offset=1), normal(2, 3))
xpx("expand_dims", lambda m, x: quietly(m.expand_dims, x, axis=(0, 2)), normal(4))
xpx("kron", lambda m, x, y: m.kron(x, y), normal(2, 3), normal(3, 2))
xpx("pad", lambda m, x: m.pad(x, ((1, 2), (0, 1)), constant_values=0.5), normal(2, 3))
xpx("sinc", lambda m, x: m.sinc(x), normal(5))
xpx("partition", lambda m, x: m.partition(x, 2)[2] * x, apart(6))
xpx("angle", lambda m, x: m.angle(x), complex_normal(5))
xpx("nan_to_num", lambda m, x: m.nan_to_num(x), normal(5))
xpx("one_hot", lambda m, x: m.one_hot(namespace(x).asarray([1, 0, 2]), 3, dtype=x.dtype) * x, normal(3))
xpx("isclose", lambda m, x: m.isclose(x, x) * x, normal(3))
xpx("nunique", lambda m, x: m.nunique(x) * x, apart(4))
xpx("setdiff1d", lambda m, x, y: m.setdiff1d(x, y), apart(4), normal(3))
xpx("default_dtype", lambda m, x: namespace(x).astype(x, m.default_dtype(namespace(x))) * 2, normal(3))

# --- einops --------------------------------------------------------------------------------------------------------------------------------
einops = Client("einops.array_api")
generic = Client("einops")
for _einops in (einops, generic):
    _einops("rearrange", lambda m, x: m.rearrange(x, "b (h w) c -> b c h w", h=2), normal(2, 6, 3))
    _einops("reduce", lambda m, x: [m.reduce(x, "a b -> b", how) for how in ("mean", "sum", "max", "min", "prod")], normal(3, 4))
    _einops("repeat", lambda m, x: m.repeat(x, "a b -> a (b k)", k=3), normal(2, 3))
    _einops("pack", lambda m, x, y: m.pack([x, y], "a *")[0], normal(2, 3), normal(2))
    _einops("unpack", lambda m, x: m.unpack(x, [(2,), ()], "a *"), normal(2, 3))
generic("einsum", lambda m, x, y: m.einsum(x, y, "batch i j, batch j k -> batch i k"), normal(2, 3, 4), normal(2, 4, 2))
generic("rearrange of a list", lambda m, x, y: m.rearrange([x, y], "n a b -> a (n b)"), normal(2, 3), normal(2, 3))

# --- xarray --------------------------------------------------------------------------------------------------------------------------------
xarray = Client("xarray")


def _labelled(m: Any, x: Any, *dims: str) -> Any:
    return m.DataArray(x, dims=dims or ("a", "b"))


xarray("DataArray * number", lambda m, x: (_labelled(m, x) * 2.5).data, normal(3, 2))
xarray("DataArray + DataArray", lambda m, x, y: (_labelled(m, x) + _labelled(m, y, "b")).data, normal(3, 2), normal(2))
xarray("isel", lambda m, x: _labelled(m, x).isel(a=slice(0, 2), b=1).data, normal(3, 2))
xarray("concat", lambda m, x, y: m.concat([_labelled(m, x), _labelled(m, y)], dim="a").data, normal(3, 2), normal(1, 2))
xarray("where", lambda m, x: _labelled(m, x).where(_labelled(m, x) > 0, -1.0).data, normal(3, 2))
xarray("transpose", lambda m, x: _labelled(m, x).transpose("b", "a").data, normal(3, 2))
xarray("sum", lambda m, x: _labelled(m, x).sum("a", skipna=False).data, normal(3, 2))
xarray("mean", lambda m, x: _labelled(m, x).mean("a").data, normal(3, 2))
xarray("std", lambda m, x: _labelled(m, x).std("a").data, normal(3, 2))
xarray("max", lambda m, x: _labelled(m, x).max("a").data, normal(3, 2))
xarray("dot", lambda m, x, y: m.dot(_labelled(m, x), _labelled(m, y, "b", "c")).data, normal(3, 2), normal(2, 4))
xarray("groupby", lambda m, x: _labelled(m, x).assign_coords(a=[0, 1, 0]).groupby("a").sum().data, normal(3, 2))
xarray("sin", lambda m, x: m.ufuncs.sin(_labelled(m, x)).data, normal(3, 2))
xarray("stack", lambda m, x: _labelled(m, x).stack(z=("a", "b")).data, normal(3, 2))

# --- opt_einsum ----------------------------------------------------------------------------------------------------------------------------
contract = Client("opt_einsum")
contract("contract", lambda m, a, b, c: m.contract("ij,jk,kl->il", a, b, c), normal(2, 3), normal(3, 4), normal(4, 2))
contract("contract(trace)", lambda m, a, b: m.contract("iij,jk->k", a, b), normal(3, 3, 2), normal(2, 4))
contract("contract(elementwise)", lambda m, a, b: m.contract("ij,ij->ij", a, b), normal(3, 2), normal(3, 2))
contract("contract_expression", lambda m, a, b: m.contract_expression("ij,jk->ki", (2, 3), (3, 4))(a, b), normal(2, 3), normal(3, 4))

# --- NumPy's own functions, which find wrapped arrays by its protocols ------------------------------------------------------------------
numpy = Client("numpy")
numpy.plain("sin exp tanh square sum prod", normal(3, 2))
numpy.plain("mean std var median ptp nanmean nansum nanstd nanmax cumsum sort gradient diff trapezoid ravel atleast_2d flipud", normal(6))
numpy.plain("arctan2 hypot dot outer inner kron convolve correlate logaddexp", normal(4), normal(4))
numpy.plain("cov corrcoef", normal(3, 5))
numpy("ndarray * array", lambda m, x: m.arange(3.0) * x, normal(2, 3))
numpy("ndarray @ array", lambda m, x: m.ones((2, 3)) @ x, normal(3, 2))
numpy("float64 * array", lambda m, x: m.float64(2.5) * x, normal(3))
numpy("add.reduce", lambda m, x: m.add.reduce(x, axis=0), normal(3, 2))
numpy("multiply.outer", lambda m, x, y: m.multiply.outer(x, y), normal(3), normal(2))
numpy("concatenate", lambda m, x, y: m.concatenate([x, y]), normal(3), normal(2))
numpy("vstack", lambda m, x, y: m.vstack([x, y]), normal(3), normal(3))
numpy("block", lambda m, x, y: m.block([[x, y], [y, x]]), normal(2, 2), normal(2, 2))
numpy("where", lambda m, x: m.where(x > 0, x**2, -x), normal(5))
numpy("select", lambda m, x: m.select([x > 0.5, x < 0], [x**2, -x], 0.0), normal(5))
numpy("piecewise", lambda m, x: m.piecewise(x, [x > 0], [lambda t: t**2, lambda t: -t]), normal(5))
numpy("clip", lambda m, x: m.clip(x, -0.5, 0.5), normal(6))
numpy("interp", lambda m, x: m.interp(x, [0.0, 1.0, 3.0], [1.0, 4.0, 2.0]), between(0.1, 2.9, 5))
numpy("percentile", lambda m, x: m.percentile(x, [20, 70]), apart(7))
numpy("average", lambda m, x, w: m.average(x, axis=1, weights=w), normal(2, 4), positive(4))
numpy("einsum", lambda m, x, y: m.einsum("ij,jk->ki", x, y), normal(2, 3), normal(3, 4))
numpy("tensordot", lambda m, x, y: m.tensordot(x, y, axes=1), normal(2, 3), normal(3, 4))
numpy("polyval", lambda m, c, x: m.polyval(c, x), normal(4), normal(3))
numpy("pad", lambda m, x: m.pad(x, (1, 2), mode="edge"), normal(4))
numpy("cross", lambda m, x, y: m.cross(x, y), normal(2, 3), normal(2, 3))
numpy("take_along_axis", lambda m, x: m.take_along_axis(x, m.argsort(x, axis=1), axis=1), normal(2, 4))
numpy("unique", lambda m, x: m.unique(x), apart(5))
numpy("apply_along_axis", lambda m, x: m.apply_along_axis(lambda t: t.sum() * t, 0, x), normal(3, 2))
numpy("linalg.norm", lambda m, x: m.linalg.norm(x, axis=1), normal(3, 2))
numpy("linalg.inv", lambda m, x: m.linalg.inv(x), spd(3))
numpy("linalg.solve", lambda m, a, b: m.linalg.solve(a, b), spd(3), normal(3))
numpy("linalg.slogdet", lambda m, a: m.linalg.slogdet(a)[1], spd(3))
numpy("linalg.eigvalsh", lambda m, a: m.linalg.eigvalsh(a + a.T), normal(3, 3))
numpy("linalg.multi_dot", lambda m, a, b, c: m.linalg.multi_dot([a, b, c]), normal(2, 3), normal(3, 4), normal(4, 2))
numpy("fft.rfft", lambda m, x: m.fft.rfft(x), normal(6))
numpy("fft.ifft2", lambda m, x: m.fft.ifft2(x), complex_normal(2, 3))
