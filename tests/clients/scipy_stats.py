"""scipy.stats."""

from __future__ import annotations

from typing import Any

import numpy as np

from clients.base import Client, apart, namespace, normal, positive, unit

# one line a call:
# fmt: off

add = Client("scipy.stats")

# moments and means
add.plain("skew kurtosis variation sem zscore gzscore iqr gstd hmean gmean entropy", positive(4, 3))
add.plain("circmean circvar circstd tmean tvar tstd tsem describe differential_entropy", positive(12))
add("skew(bias=False)", lambda m, x: m.skew(x, axis=1, bias=False), normal(2, 6))
add("kurtosis(fisher=False)", lambda m, x: m.kurtosis(x, axis=None, fisher=False, bias=False), normal(2, 6))
add("moment", lambda m, x: m.moment(x, order=3, axis=-1), normal(2, 6))
add("pmean", lambda m, x: m.pmean(x, 2.5), positive(6))
add("gmean(weights=)", lambda m, x, w: m.gmean(x, weights=w), positive(6), positive(6))
add("entropy(qk=)", lambda m, p, q: m.entropy(p, q), positive(6), positive(6))
add("tmin", lambda m, x: m.tmin(x, lowerlimit=-0.5), apart(8))
add("tmax", lambda m, x: m.tmax(x, upperlimit=0.9), apart(8))
add("zmap", lambda m, x, y: m.zmap(x, y), normal(5), normal(8))
add("kstat", lambda m, x: [m.kstat(x, n) for n in (1, 2, 3, 4)], normal(9))
add("kstatvar", lambda m, x: [m.kstatvar(x, n) for n in (1, 2)], normal(9))
add("lmoment", lambda m, x: m.lmoment(x), apart(9))
add("quantile", lambda m, x, p: m.quantile(x, p), apart(9), unit(3))
add("trim_mean", lambda m, x: m.trim_mean(x, 0.2), apart(9))
add("median_abs_deviation", lambda m, x: m.median_abs_deviation(x), normal(9))
add("sigmaclip", lambda m, x: m.sigmaclip(x, 1.5, 1.5), apart(9))
add("rankdata", lambda m, x: m.rankdata(x) * x, apart(9))
add("mode", lambda m, x: m.mode(x), apart(9))
add("directional_stats", lambda m, x: (m.directional_stats(x).mean_direction, m.directional_stats(x).mean_resultant_length), positive(4, 3))
add("boxcox_llf", lambda m, x: m.boxcox_llf(0.8, x), positive(8))
add("yeojohnson_llf", lambda m, x: m.yeojohnson_llf(0.7, x), positive(8))

# tests of hypotheses
add.plain("jarque_bera normaltest skewtest kurtosistest", normal(25))
add.plain("ttest_ind ttest_rel pearsonr bartlett levene f_oneway", normal(8), normal(8))
add("epps_singleton_2samp", lambda m, *x: m.epps_singleton_2samp(*x), normal(8), normal(8), rtol=1e-5, why="the pseudoinverse of a covariance whose condition number is 1.3e5, which its derivative squares")
add("alexandergovern", lambda m, *x: (m.alexandergovern(*x).statistic, m.alexandergovern(*x).pvalue), normal(8), normal(7), normal(6))
add("pearsonr(confidence_interval)", lambda m, x, y: tuple(m.pearsonr(x, y).confidence_interval()), normal(8), normal(8))
add("ttest_ind(equal_var=False)", lambda m, x, y: m.ttest_ind(x, y, equal_var=False, axis=-1), normal(2, 5), normal(2, 6))
add("ttest_ind_from_stats", lambda m, a, s, b, t: m.ttest_ind_from_stats(a, s, 8, b, t, 9), normal(), positive(), normal(), positive())
add("ttest_1samp", lambda m, x: m.ttest_1samp(x, 0.3), normal(8))
add("pointbiserialr", lambda m, g, y: m.pointbiserialr(g > 0, y), apart(8), normal(8))
add("chisquare", lambda m, f: m.chisquare(f), positive(6))
add("power_divergence", lambda m, f: m.power_divergence(f, lambda_=0.5), positive(6))
add("combine_pvalues", lambda m, p: [m.combine_pvalues(p, method=how) for how in ("fisher", "pearson", "tippett", "stouffer", "mudholkar_george")], unit(5))
add("false_discovery_control", lambda m, p: m.false_discovery_control(p), unit(6))

# resampling, with the same random numbers at each call
_BOOT = {"n_resamples": 12, "vectorized": True}
add("bootstrap", lambda m, x: m.bootstrap((x,), _mean, method="percentile", rng=np.random.default_rng(1), **_BOOT).confidence_interval, normal(6))
add("bootstrap(standard_error)", lambda m, x: m.bootstrap((x,), _mean, method="basic", rng=np.random.default_rng(1), **_BOOT).standard_error, normal(6))
add("permutation_test", lambda m, x, y: m.permutation_test((x, y), _difference, n_resamples=9, vectorized=True, rng=np.random.default_rng(1)).null_distribution, normal(5), normal(4))
add("monte_carlo_test", lambda m, x: m.monte_carlo_test(x, np.random.default_rng(1).standard_normal, _mean, n_resamples=9, vectorized=True).statistic, normal(5))


def _mean(x: Any, axis: int) -> Any:
    return namespace(x).mean(x, axis=axis)


def _difference(x: Any, y: Any, axis: int) -> Any:
    return _mean(x, axis) - _mean(y, axis)
