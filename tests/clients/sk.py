"""scikit-learn, with ``array_api_dispatch=True``."""

from __future__ import annotations

from typing import Any

from clients.base import Client, given, namespace, normal, positive, quietly

# one line a call:
# fmt: off

# --- metrics -------------------------------------------------------------------------------------------------------------------------------
metrics = Client("sklearn.metrics")
metrics("mean_squared_error(raw)", lambda m, y, p: m.mean_squared_error(y, p, multioutput="raw_values"), normal(6, 2), normal(6, 2))
metrics("mean_absolute_error(raw)", lambda m, y, p: m.mean_absolute_error(y, p, multioutput="raw_values"), normal(6, 2), normal(6, 2))
metrics("root_mean_squared_error(raw)", lambda m, y, p: m.root_mean_squared_error(y, p, multioutput="raw_values"), normal(6, 2), normal(6, 2))
metrics("r2_score(raw)", lambda m, y, p: m.r2_score(y, p, multioutput="raw_values"), normal(6, 2), normal(6, 2))
metrics("explained_variance_score(raw)", lambda m, y, p: m.explained_variance_score(y, p, multioutput="raw_values"), normal(6, 2), normal(6, 2))

pairwise = Client("sklearn.metrics.pairwise")
pairwise.plain("cosine_similarity cosine_distances euclidean_distances linear_kernel polynomial_kernel rbf_kernel sigmoid_kernel", normal(3, 4), normal(2, 4))
pairwise.plain("laplacian_kernel manhattan_distances", normal(3, 4), normal(2, 4))
pairwise.plain("additive_chi2_kernel chi2_kernel", positive(3, 4), positive(2, 4))
pairwise.plain("paired_cosine_distances paired_euclidean_distances paired_manhattan_distances", normal(3, 4), normal(3, 4))
pairwise("euclidean_distances(squared)", lambda m, x, y: m.euclidean_distances(x, y, squared=True), normal(3, 4), normal(2, 4))
pairwise("pairwise_distances", lambda m, x, y: m.pairwise_distances(x, y, metric="cosine"), normal(3, 4), normal(2, 4))
pairwise("pairwise_kernels", lambda m, x, y: m.pairwise_kernels(x, y, metric="rbf", gamma=0.3), normal(3, 4), normal(2, 4))

# --- preprocessing -------------------------------------------------------------------------------------------------------------------------
prep = Client("sklearn.preprocessing")
for _name in ("MinMaxScaler", "MaxAbsScaler", "Normalizer", "PolynomialFeatures", "FunctionTransformer"):
    prep(_name, lambda m, x, name=_name: getattr(m, name)().fit_transform(x), normal(6, 3))
_OVERWRITTEN = "inside `ad.strong_zeros()`, for scikit-learn divides 0 by 0 and overwrites the result (`_incremental_mean_and_var` in `sklearn/utils/extmath.py`)"
prep("StandardScaler", lambda m, x: m.StandardScaler().fit_transform(x), normal(6, 3), strong=_OVERWRITTEN)
prep("StandardScaler.inverse_transform", lambda m, x, y: m.StandardScaler().fit(x).inverse_transform(y), normal(6, 3), normal(2, 3), strong=_OVERWRITTEN)
prep("MinMaxScaler(clip)", lambda m, x, y: m.MinMaxScaler((-1, 1), clip=True).fit(x).transform(y), normal(6, 3), normal(2, 3))
prep("QuantileTransformer", lambda m, x: m.QuantileTransformer(n_quantiles=5).fit_transform(x), normal(8, 2))
prep("normalize", lambda m, x: [m.normalize(x, norm=how) for how in ("l1", "l2", "max")], normal(4, 3))
prep("minmax_scale", lambda m, x: m.minmax_scale(x), normal(6, 3))
prep("maxabs_scale", lambda m, x: m.maxabs_scale(x), normal(6, 3))
prep("KernelCenterer", lambda m, k: m.KernelCenterer().fit_transform(k), normal(4, 4))
prep("Binarizer", lambda m, x: m.Binarizer(threshold=0.2).fit_transform(x) * x, normal(4, 2))
prep("FunctionTransformer(f)", lambda m, x: m.FunctionTransformer(lambda t: namespace(t).exp(t)).fit_transform(x), normal(4, 2))

# --- estimators ----------------------------------------------------------------------------------------------------------------------------
linear = Client("sklearn.linear_model")
linear("Ridge(svd).predict", lambda m, x, y, z: m.Ridge(0.5, solver="svd").fit(x, y).predict(z), normal(7, 3), normal(7), normal(2, 3))
linear("Ridge(auto).predict", lambda m, x, y, z: quietly(m.Ridge(0.5).fit, x, y).predict(z), normal(7, 3), normal(7), normal(2, 3))
linear("Ridge(svd).coef_", lambda m, x, y: _attributes(m.Ridge(0.5, solver="svd").fit(x, y), "coef_", "intercept_"), normal(7, 3), normal(7, 2))
linear("Ridge(sample_weight)", lambda m, x, y, w: m.Ridge(0.5, solver="svd").fit(x, y, w).coef_, normal(7, 3), normal(7), positive(7))
linear("RidgeCV", lambda m, x, y, z: m.RidgeCV(alphas=(0.3, 3.0)).fit(x, y).predict(z), normal(7, 3), normal(7), normal(2, 3))

decomposition = Client("sklearn.decomposition")
decomposition("PCA(full).transform", lambda m, x: m.PCA(2, svd_solver="full").fit(x).transform(x) ** 2, normal(6, 3))
decomposition("PCA(covariance_eigh).transform", lambda m, x, y: m.PCA(2, svd_solver="covariance_eigh").fit(x).transform(y), normal(6, 3), normal(2, 3))
decomposition("PCA(randomized).transform", lambda m, x: ( m.PCA(2, svd_solver="randomized", iterated_power=2, n_oversamples=1, power_iteration_normalizer="QR", random_state=0) .fit(x) .transform(x) ), normal(6, 4))
decomposition("PCA.explained_variance_", lambda m, x: _attributes(m.PCA(2, svd_solver="full").fit(x), "explained_variance_", "explained_variance_ratio_", "noise_variance_"), normal(6, 3))
decomposition("PCA(whiten).inverse_transform", lambda m, x, y: m.PCA(2, svd_solver="full", whiten=True).fit(x).inverse_transform(y), normal(6, 3), normal(2, 2))
decomposition("TruncatedSVD.singular_values_", lambda m, x: m.TruncatedSVD(2, n_iter=2, n_oversamples=1, power_iteration_normalizer="QR", random_state=0).fit(x).singular_values_, normal(8, 4))
decomposition("PCA.score", lambda m, x, y: m.PCA(2, svd_solver="full").fit(x).score_samples(y), normal(6, 3), normal(2, 3))

_CLASSES = given([0, 1, 0, 1, 2, 2, 0, 1, 2])
lda = Client("sklearn.discriminant_analysis")
lda("LDA.decision_function", lambda m, x, y, z: m.LinearDiscriminantAnalysis().fit(x, y).decision_function(z), normal(9, 2), _CLASSES, normal(2, 2))
lda("LDA.predict_proba", lambda m, x, y, z: m.LinearDiscriminantAnalysis().fit(x, y).predict_proba(z), normal(9, 2), _CLASSES, normal(2, 2))
bayes = Client("sklearn.naive_bayes")
bayes("GaussianNB.predict_proba", lambda m, x, y, z: m.GaussianNB().fit(x, y).predict_proba(z), normal(9, 2), _CLASSES, normal(2, 2))
bayes("GaussianNB.predict_log_proba", lambda m, x, y, z: m.GaussianNB().fit(x, y).predict_log_proba(z), normal(9, 2), _CLASSES, normal(2, 2))
mixture = Client("sklearn.mixture")
mixture("GaussianMixture", lambda m, x: _mixture(m, x).score_samples(x), normal(12, 2), rtol=1e-5, why="the number of iterations may change with the data")
kernels = Client("sklearn.kernel_approximation")
kernels("Nystroem", lambda m, x: m.Nystroem(gamma=0.2, n_components=3, random_state=0).fit_transform(x), normal(6, 2))
selection = Client("sklearn.model_selection")
selection("train_test_split", lambda m, x: m.train_test_split(x, test_size=2, random_state=0), normal(6, 2))
utils = Client("sklearn.utils")
utils("check_array", lambda m, x: m.check_array(x) * 2.0, normal(3, 2))
utils("extmath.softmax", lambda m, x: m.extmath.softmax(x), normal(3, 2))
utils("extmath.randomized_svd", lambda m, x: m.extmath.randomized_svd(x, 2, n_iter=2, n_oversamples=1, power_iteration_normalizer="QR", random_state=0)[1], normal(6, 4))
utils("extmath.row_norms", lambda m, x: m.extmath.row_norms(x, squared=True), normal(3, 2))


def _attributes(fitted: Any, *names: str) -> list[Any]:
    return [getattr(fitted, name) for name in names]


def _mixture(m: Any, x: Any) -> Any:
    """Fit two components from a start that needs no clustering, which NumPy alone does."""
    xp = namespace(x)
    means = xp.asarray([[-0.5, -0.5], [0.5, 0.5]], dtype=xp.float64)
    precisions = xp.asarray([[[1.0, 0.0], [0.0, 1.0]]] * 2, dtype=xp.float64)
    weights = xp.asarray([0.5, 0.5], dtype=xp.float64)
    return m.GaussianMixture(
        2, means_init=means, precisions_init=precisions, weights_init=weights, init_params="random", random_state=0, max_iter=200, tol=1e-12
    ).fit(x)


projection = Client("sklearn.random_projection")
projection("GaussianRandomProjection", lambda m, x: m.GaussianRandomProjection(2, random_state=0).fit_transform(x), normal(8, 3))
