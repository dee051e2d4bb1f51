"""scipy.special, which asks the namespace of its operands for ``special``."""

from __future__ import annotations

from clients.base import Client, between, namespace, normal, positive, unit

# one line a call:
# fmt: off

add = Client("scipy.special")

add.plain("erf erfc ndtr log_ndtr expit i0 i0e i1 i1e softmax log_softmax logsumexp", normal(5))
add.plain("gammaln gamma loggamma entr psi", positive(5))
add.plain("ndtri logit", unit(5))
add.plain("erfinv", between(-0.8, 0.8, 5))
add.plain("xlogy xlog1py rel_entr kl_div betaln chdtr chdtrc", positive(5), positive(5))
add.plain("cbrt exp2 exp10 exprel erfcx rgamma j0 j1 k0 k1", positive(5))
add.plain("poch binom gammainc gammaincc pseudo_huber", positive(5), positive(5))
add.plain("ellipk", unit(5))
add.plain("huber", unit(5), between(1.0, 3.0, 5))
add("betainc", lambda m, a, b, x: m.betainc(a, b, x), positive(5), positive(5), unit(5))
add("fdtr", lambda m, n, d, x: m.fdtr(n, d, x), positive(5), positive(5), positive(5))
add("fdtrc", lambda m, n, d, x: m.fdtrc(n, d, x), positive(5), positive(5), positive(5))
add("stdtr", lambda m, n, t: m.stdtr(n, t), positive(5), normal(5))
add("stdtrit", lambda m, n, p: m.stdtrit(n, p), positive(5), unit(5))
add("polygamma", lambda m, x: m.polygamma(2, x), positive(5))
add("zeta", lambda m, q: m.zeta(namespace(q).full_like(q, 2.5), q), positive(5))
add("hyp1f1", lambda m, x: m.hyp1f1(namespace(x).full_like(x, 1.2), namespace(x).full_like(x, 2.3), x), normal(5))
add("logsumexp(axis, b)", lambda m, x, b: m.logsumexp(x, axis=0, b=b, keepdims=True), normal(3, 2), positive(3, 2))
add("softmax(axis)", lambda m, x: m.softmax(x, axis=1), normal(2, 3))
