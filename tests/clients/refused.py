"""Calls that leave the array API: NumPy memory, or compiled code. They must say so, and never cut the gradient off in silence."""

from __future__ import annotations

import io

from clients.base import NUMBERS, REFUSED, Client, apart, namespace, normal, positive, spd, unit, whole

# one line a call:
# fmt: off


def refusing(module: str) -> Client:
    return Client(module, REFUSED)


linalg = refusing("scipy.linalg")
linalg.plain("inv det svd expm cholesky eigh eig norm lu qr schur logm pinv", spd(3))
linalg.plain("hankel companion", normal(4))
linalg.plain("solve lstsq", spd(3), normal(3))

ndimage = refusing("scipy.ndimage")
for _name in ("gaussian_filter", "uniform_filter", "median_filter", "zoom"):
    ndimage(_name, lambda m, x, name=_name: getattr(m, name)(x, 2), normal(5, 5))
ndimage.plain("sobel laplace sum center_of_mass", normal(5, 5))
ndimage.plain("convolve correlate", normal(5, 5), normal(3, 3))
ndimage("map_coordinates", lambda m, x, c: m.map_coordinates(x, c), normal(5, 5), positive(2, 4))

interpolate = refusing("scipy.interpolate")
interpolate("CubicSpline", lambda m, x, y: m.CubicSpline(x, y)(x), normal(5), normal(5))
interpolate("make_interp_spline", lambda m, x, y: m.make_interp_spline(x, y)(x), normal(5), normal(5))
interpolate("PchipInterpolator", lambda m, x, y: m.PchipInterpolator([0, 1, 2, 3, 4], y)(x), positive(5), normal(5))
interpolate("interp1d", lambda m, x, y: m.interp1d(x, y)(x), normal(5), normal(5))
interpolate("RegularGridInterpolator", lambda m, x, y: m.RegularGridInterpolator((x,), y)(x), normal(5), normal(5))
interpolate("griddata", lambda m, x, y: m.griddata(x, y, x), normal(5), normal(5))
interpolate("RBFInterpolator", lambda m, x, y: m.RBFInterpolator(x, y)(x), normal(5, 2), normal(5))

fft = refusing("scipy.fft")
fft.plain("dct idct dst idst dctn idctn dstn idstn", normal(6))

signal = refusing("scipy.signal")
signal.plain("lfilter filtfilt", normal(2), positive(2), normal(12))
signal.plain("sosfilt", normal(1, 6), normal(12))
signal.plain("welch periodogram detrend medfilt wiener find_peaks", normal(12))
signal.plain("convolve2d", normal(5, 5), normal(3, 3))
signal.plain("zpk2tf zpk2sos", unit(2), unit(2), positive())
signal.plain("bilinear", positive(3), positive(3))
signal("upfirdn", lambda m, h, x: m.upfirdn(h, x, 2), normal(3), normal(5))
signal("resample_poly", lambda m, x: m.resample_poly(x, 2, 1), normal(8))
signal("savgol_filter", lambda m, x: m.savgol_filter(x, 5, 2), normal(8))
signal("decimate", lambda m, x: m.decimate(x, 2), normal(40))
signal("ShortTimeFFT", lambda m, x: m.ShortTimeFFT.from_window("hann", 1.0, 4, 2).stft(x), normal(16))

optimize = refusing("scipy.optimize")
optimize("minimize", lambda m, x: m.minimize(lambda t: (t**2).sum(), x), normal(3))
optimize("minimize of a Variable's function", lambda m, x: m.minimize(lambda t: ((t - x) ** 2).sum(), [0.0, 0.0, 0.0]), normal(3))
optimize("least_squares", lambda m, x: m.least_squares(lambda t: t - x, [0.0, 0.0, 0.0]), normal(3))
optimize("curve_fit", lambda m, x, y: m.curve_fit(lambda t, a: a * t, x, y), normal(4), normal(4))
optimize("linear_sum_assignment", lambda m, x: m.linear_sum_assignment(x), normal(3, 3))

integrate = refusing("scipy.integrate")
integrate("solve_ivp", lambda m, y: m.solve_ivp(lambda t, y: -y, (0.0, 1.0), y), normal(2))
integrate("solve_ivp of a Variable's function", lambda m, k: m.solve_ivp(lambda t, y: -k * y, (0.0, 1.0), [1.0, 2.0]), positive(2))
integrate("odeint", lambda m, y: m.odeint(lambda y, t: -y, y, [0.0, 1.0]), normal(2))
integrate("simpson", lambda m, y: m.simpson(y), normal(5), until="1.18")

stats = refusing("scipy.stats")
stats.plain("kendalltau wasserstein_distance", apart(8), normal(8))
stats.plain("linregress theilslopes", apart(8), normal(8), until="1.18")
stats.plain("boxcox probplot gaussian_kde", positive(9))
stats("norm.pdf", lambda m, x: m.norm.pdf(x), normal(4))
stats("norm.fit", lambda m, x: m.norm.fit(x), normal(9))
stats("multivariate_normal.logpdf", lambda m, x: m.multivariate_normal.logpdf(x), normal(4))
stats("cramervonmises", lambda m, x: m.cramervonmises(x, lambda t: 0.5 * (1 + t.tanh())), normal(9))

spatial = refusing("scipy.spatial")
spatial("distance.cosine", lambda m, x, y: m.distance.cosine(x, y), normal(4), normal(4))
spatial.plain("KDTree ConvexHull Delaunay", normal(6, 2))
spatial("distance.cdist", lambda m, x, y: m.distance.cdist(x, y), normal(3, 2), normal(4, 2))
sparse = refusing("scipy.sparse")
sparse.plain("coo_array", normal(3, 3))
cluster = refusing("scipy.cluster.vq")
cluster("kmeans2", lambda m, x: m.kmeans2(x, 2, rng=0), normal(8, 2))

refusing("sklearn.linear_model")("LogisticRegression", lambda m, x, y: m.LogisticRegression().fit(x, y), normal(8, 2), whole(2, 8))
refusing("sklearn.linear_model")("LinearRegression", lambda m, x, y: m.LinearRegression().fit(x, y).coef_, normal(8, 2), normal(8))
refusing("sklearn.linear_model")("Lasso", lambda m, x, y: m.Lasso().fit(x, y).coef_, normal(8, 2), normal(8))
refusing("sklearn.cluster")("KMeans", lambda m, x: m.KMeans(2).fit(x).cluster_centers_, normal(8, 2))
refusing("sklearn.preprocessing")("scale", lambda m, x: m.scale(x), normal(8, 2))
refusing("sklearn.gaussian_process")("GaussianProcessRegressor", lambda m, x, y: m.GaussianProcessRegressor().fit(x, y), normal(8, 2), normal(8))

refusing("sklearn.kernel_ridge")("KernelRidge", lambda m, x, y: m.KernelRidge(1.0).fit(x, y).predict(x), normal(8, 3), normal(8))
refusing("sklearn.covariance")("LedoitWolf", lambda m, x: m.LedoitWolf().fit(x).covariance_, normal(8, 2))
refusing("sklearn.impute")("SimpleImputer", lambda m, x: m.SimpleImputer().fit_transform(x), normal(8, 2))

pandas = refusing("pandas")
pandas.plain("Series", normal(4))
pandas.plain("DataFrame", normal(4, 2))

numpy = refusing("numpy")
numpy.plain("asarray array ascontiguousarray asfortranarray from_dlpack", normal(2, 2))
numpy("save", lambda m, x: m.save(io.BytesIO(), x), normal(3))
numpy("ndarray.__setitem__", lambda m, x: m.zeros(3).__setitem__(slice(None), x), normal(3))
numpy("add(out=)", lambda m, x: m.add(x, x, out=m.zeros(3)), normal(3))

# --- Python numbers ------------------------------------------------------------------------------------------------------------------------
metrics = Client("sklearn.metrics", NUMBERS)
metrics.plain("mean_squared_error mean_absolute_error r2_score explained_variance_score root_mean_squared_error", normal(6), normal(6))
metrics.plain("mean_gamma_deviance mean_poisson_deviance", positive(6), positive(6))
metrics.plain("log_loss", whole(2, 8), unit(8))
number = Client("scipy.stats", NUMBERS)
number("boxcox_llf(lmb)", lambda m, lam: m.boxcox_llf(lam, namespace(lam).asarray([0.5, 2.0, 3.0])), positive())
