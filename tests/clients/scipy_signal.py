"""scipy.fft and scipy.signal."""

from __future__ import annotations

from typing import Any

from clients.base import Client, complex_normal, given, namespace, normal, positive, unit

# one line a call:
# fmt: off

# --- scipy.fft -----------------------------------------------------------------------------------------------------------------------------
fft = Client("scipy.fft")
fft.plain("fft ifft fftn ifftn fft2 ifft2 hfft irfft fftshift ifftshift", complex_normal(3, 4))
fft.plain("rfft ihfft rfftn rfft2", normal(3, 5))
fft.plain("irfftn irfft2", complex_normal(3, 4))
fft("fft(n, axis, norm)", lambda m, x: m.fft(x, n=6, axis=0, norm="ortho"), complex_normal(4, 2))
fft("rfft(n, norm)", lambda m, x: m.rfft(x, n=4, norm="forward"), normal(2, 6))
fft("irfft(n)", lambda m, x: m.irfft(x, n=5), complex_normal(2, 3))
fft("hfft(n)", lambda m, x: m.hfft(x, n=5), complex_normal(2, 3))
fft("fft of real", lambda m, x: m.fft(x), normal(2, 5))
fft("fht", lambda m, x: m.fht(x, 0.1, mu=0.5), normal(8))
fft("ifht", lambda m, x: m.ifht(x, 0.1, mu=0.5), normal(8))
fft("fftfreq", lambda m, x: m.fftfreq(5, d=0.5, xp=namespace(x)) * x, normal(5))
fft("rfftfreq", lambda m, x: m.rfftfreq(5, d=0.5, xp=namespace(x)) * x, normal(3))

# --- scipy.signal --------------------------------------------------------------------------------------------------------------------------
signal = Client("scipy.signal")
signal.plain("fftconvolve oaconvolve", normal(9), normal(4))
signal("fftconvolve(complex)", lambda m, x, k: m.fftconvolve(x, k), complex_normal(7), complex_normal(3))
signal("fftconvolve(mode, axes)", lambda m, x, k: m.fftconvolve(x, k, mode="same", axes=1), normal(2, 7), normal(2, 3))
signal("oaconvolve(long)", lambda m, x, k: m.oaconvolve(x, k, mode="same"), normal(60), normal(3))
signal("convolve(fft)", lambda m, x, k: m.convolve(x, k, method="fft"), normal(9), normal(4))
signal("correlate(fft)", lambda m, x, k: m.correlate(x, k, method="fft"), normal(9), normal(4))
signal("hilbert", lambda m, x: m.hilbert(x), normal(8))
signal("hilbert2", lambda m, x: m.hilbert2(x), normal(4, 6))
signal("envelope", lambda m, x: m.envelope(x, (1, 4)), normal(12))
signal("resample", lambda m, x: m.resample(x, 7), normal(10))
signal("resample(up)", lambda m, x: m.resample(x, 12, axis=0), normal(8, 2))
signal("freqz", lambda m, b, a: m.freqz(b, a, worN=6), normal(3), positive(3))
signal("freqz(worN=)", lambda m, b, w: m.freqz(b, worN=w), normal(3), positive(4))
signal("freqz_zpk", lambda m, z, p, k: m.freqz_zpk(z, p, k, worN=6), complex_normal(2), complex_normal(3), positive())
signal("freqs", lambda m, b, a, w: m.freqs(b, a, worN=w), normal(3), positive(3), positive(4))
signal("freqs_zpk", lambda m, z, p, k, w: m.freqs_zpk(z, p, k, worN=w), complex_normal(2), complex_normal(3), positive(), positive(4))
signal("freqz_sos", lambda m, sos: m.freqz_sos(_monic(sos), worN=5), normal(2, 6))
signal("tf2zpk", lambda m, b, a: [_ordered(r) for r in m.tf2zpk(b, a)[:2]], given([1.3, 0.4, 0.7]), given([1.0, 0.3, 0.5]))
signal("normalize", lambda m, b, a: m.normalize(b, a), positive(3), positive(3))
signal("lp2lp", lambda m, b, a: m.lp2lp(b, a, 1.7), positive(3), positive(3))
signal("lp2hp", lambda m, b, a: m.lp2hp(b, a, 1.7), positive(3), positive(3))
signal("lp2lp_zpk", lambda m, z, p, k: m.lp2lp_zpk(z, p, k, 1.7), complex_normal(2), complex_normal(3), positive())
signal("lp2hp_zpk", lambda m, z, p, k: m.lp2hp_zpk(z, p, k, 1.7), complex_normal(2), complex_normal(3), positive())
signal("lp2bp_zpk", lambda m, z, p, k: m.lp2bp_zpk(z, p, k, 1.7, 0.6), complex_normal(2), complex_normal(3), positive())
signal("lp2bs_zpk", lambda m, z, p, k: m.lp2bs_zpk(z, p, k, 1.7, 0.6), complex_normal(2), complex_normal(3), positive())
signal("bilinear_zpk", lambda m, z, p, k: m.bilinear_zpk(z, p, k, 1.5), complex_normal(2), complex_normal(3), positive())
signal("gammatone", lambda m, x: m.gammatone(440, "fir", fs=8000, numtaps=6, xp=namespace(x))[0] * x, normal(6))
signal("firwin", lambda m, f: m.firwin(7, f), unit(1))
signal("firwin(pass_zero=False)", lambda m, f: m.firwin(7, f, pass_zero=False, scale=False), given([0.2, 0.6]))
signal("vectorstrength", lambda m, x, p: m.vectorstrength(x, p), positive(6), positive())
signal("gauss_spline", lambda m, x: m.gauss_spline(x, 3), normal(5))
signal("gausspulse", lambda m, t: m.gausspulse(t, fc=3.0), normal(5))
signal("get_window", lambda m, x: m.get_window(("tukey", 0.4), 6, xp=namespace(x)) * x, normal(6))

windows = Client("scipy.signal.windows")
for _name in [
    "hann",
    "hamming",
    "blackman",
    "nuttall",
    "blackmanharris",
    "flattop",
    "bartlett",
    "boxcar",
    "triang",
    "parzen",
    "bohman",
    "cosine",
    "barthann",
    "lanczos",
]:
    windows(_name, lambda m, x, name=_name: getattr(m, name)(6, xp=namespace(x)) * x, normal(6))
windows("kaiser", lambda m, x: m.kaiser(6, 2.5, xp=namespace(x)) * x, normal(6))
windows("gaussian", lambda m, x: m.gaussian(6, 1.7, xp=namespace(x)) * x, normal(6))
windows("tukey", lambda m, x: m.tukey(6, 0.4, xp=namespace(x)) * x, normal(6))
windows("exponential", lambda m, x: m.exponential(6, tau=2.0, xp=namespace(x)) * x, normal(6))
windows("general_cosine", lambda m, a: m.general_cosine(6, a), normal(3))
windows("gaussian of a width", lambda m, s: m.gaussian(6, s, xp=namespace(s)), positive())


def _ordered(roots: Any) -> Any:
    """Sort roots, whose order differs between NumPy and other namespaces."""
    xp = namespace(roots)
    return xp.take(roots, xp.argsort(xp.imag(roots)))


def _monic(sos: Any) -> Any:
    """Put ones where second-order sections have them."""
    xp = namespace(sos)
    return xp.concat((sos[:, :3], xp.ones_like(sos[:, :1]), sos[:, 4:]), axis=1)
