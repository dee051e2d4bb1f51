"""scipy.spatial.transform, linalg, integrate, optimize, differentiate, cluster, constants."""

from __future__ import annotations

from clients.base import Client, apart, between, namespace, near_rotation, normal, positive, unit

# one line a call:
# fmt: off

# --- rotations ---------------------------------------------------------------------------------------------------------------------------
spatial = Client("scipy.spatial.transform")
spatial("Rotation.from_quat.as_matrix", lambda m, q: m.Rotation.from_quat(q).as_matrix(), normal(3, 4))
spatial("Rotation.as_rotvec", lambda m, q: m.Rotation.from_quat(q).as_rotvec(), normal(3, 4))
spatial("Rotation.as_euler", lambda m, q: m.Rotation.from_quat(q).as_euler("xyz"), normal(3, 4))
spatial("Rotation.as_mrp", lambda m, q: m.Rotation.from_quat(q).as_mrp(), normal(3, 4))
spatial("Rotation.from_euler", lambda m, a: m.Rotation.from_euler("zyx", a).as_matrix(), normal(2, 3))
spatial("Rotation.from_euler(one axis)", lambda m, a: m.Rotation.from_euler("x", a, degrees=True).as_quat(), normal(2, 1))
spatial("Rotation.from_rotvec.apply", lambda m, v, x: m.Rotation.from_rotvec(v).apply(x), normal(3), normal(4, 3))
spatial("Rotation.from_mrp", lambda m, v: m.Rotation.from_mrp(v).as_matrix(), normal(2, 3))
spatial("Rotation.from_matrix", lambda m, a: m.Rotation.from_matrix(a + 0.0).as_matrix(), near_rotation(2))
spatial("Rotation.mul", lambda m, q, r: (m.Rotation.from_quat(q) * m.Rotation.from_quat(r)).as_matrix(), normal(2, 4), normal(2, 4))
spatial("Rotation.inv.magnitude", lambda m, q: m.Rotation.from_quat(q).inv().magnitude(), normal(3, 4))
spatial("Rotation.mean", lambda m, v: m.Rotation.from_rotvec(v).mean().as_matrix(), unit(4, 3))
spatial("Rotation.pow", lambda m, q: (m.Rotation.from_quat(q) ** 1.7).as_matrix(), normal(2, 4))
spatial("Rotation.align_vectors", lambda m, a, b: m.Rotation.align_vectors(a, b)[0].as_matrix(), normal(4, 3), normal(4, 3))
spatial("Rotation.concatenate", lambda m, q, r: m.Rotation.concatenate([m.Rotation.from_quat(q), m.Rotation.from_quat(r)]).as_rotvec(), normal(2, 4), normal(4))
spatial("Rotation[i]", lambda m, q: m.Rotation.from_quat(q)[1].as_matrix(), normal(3, 4))
spatial("Slerp", lambda m, q, t: m.Slerp(namespace(q).asarray([0.0, 1.0, 2.0]), m.Rotation.from_quat(q))(t).as_matrix(), normal(3, 4), between(0.1, 1.9, 4))
spatial("RigidTransform.from_components", lambda m, t, q: m.RigidTransform.from_components(t, m.Rotation.from_quat(q)).as_matrix(), normal(2, 3), normal(2, 4))
spatial("RigidTransform.apply", lambda m, t, q, x: m.RigidTransform.from_components(t, m.Rotation.from_quat(q)).apply(x), normal(3), normal(4), normal(4, 3))
spatial("RigidTransform.exp_coords", lambda m, e: m.RigidTransform.from_exp_coords(e).as_matrix(), normal(2, 6))
spatial("RigidTransform.inv", lambda m, e: m.RigidTransform.from_exp_coords(e).inv().as_exp_coords(), unit(2, 6))

# --- the others -----------------------------------------------------------------------------------------------------------------------------
linalg = Client("scipy.linalg")
linalg.plain("block_diag", normal(2, 2), normal(1, 3))
linalg("orthogonal_procrustes", lambda m, a, b: m.orthogonal_procrustes(a, b), normal(5, 3), normal(5, 3))
linalg.plain("fiedler", apart(4))

integrate = Client("scipy.integrate")
integrate.plain("trapezoid cumulative_trapezoid", normal(6), apart(6))
integrate("trapezoid(axis)", lambda m, y: m.trapezoid(y, dx=0.5, axis=0), normal(5, 2))
integrate("romb", lambda m, y: m.romb(y, dx=0.5), normal(9))
integrate("cumulative_simpson", lambda m, y: m.cumulative_simpson(y, dx=0.5), normal(7))
integrate("cumulative_simpson(x)", lambda m, y, x: m.cumulative_simpson(y, x=namespace(x).sort(x)), normal(7), apart(7))
integrate("cubature", lambda m, a, b: m.cubature(lambda x: namespace(x).exp(-x[:, 0] * x[:, 1]), a, b).estimate, unit(2), positive(2), rtol=1e-5, why="the subdivision may change with the limits")
integrate("fixed_quad", lambda m, a: m.fixed_quad(lambda t: namespace(a).exp(a * t), 0.0, 1.0)[0], positive())
integrate("tanhsinh", lambda m, a, b: m.tanhsinh(lambda x: namespace(x).exp(-(x**2)), a, b).integral, unit(2), positive(2))

optimize = Client("scipy.optimize")
optimize("newton of a Variable's function", lambda m, a: m.newton(lambda x: x * x - a, 1.5, tol=1e-12), positive())
optimize.plain("rosen rosen_der", normal(5))
optimize.plain("rosen_hess_prod", normal(5), normal(5))
optimize("rosen_hess", lambda m, x: m.rosen_hess(x), normal(5))

elementwise = Client("scipy.optimize.elementwise")
elementwise("find_minimum", lambda m, a: m.find_minimum(lambda x, a: (x - a) ** 2, (a - 1.0, a + 0.3, a + 1.0), args=(a,)).f_x, normal(3))

differentiate = Client("scipy.differentiate")
differentiate("jacobian", lambda m, x: m.jacobian(lambda t: t**3, x).df, normal(3))
differentiate("derivative", lambda m, x: m.derivative(lambda t: namespace(t).exp(t), x).df, normal(3))

cluster = Client("scipy.cluster.vq")
cluster.plain("whiten", normal(6, 3))
constants = Client("scipy.constants")
constants("convert_temperature", lambda m, x: m.convert_temperature(x, "Celsius", "Fahrenheit"), normal(4))
constants.plain("lambda2nu nu2lambda", positive(3))
