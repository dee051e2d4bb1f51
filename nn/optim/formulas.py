"""The table of update formulas: one parameter, its gradient and its state to the new parameter and the new state.

They follow PyTorch where PyTorch has them (results agree to rounding), and the papers that their classes name. Numbers may be Python's or
arrays of no dimensions; ``h`` holds the hyperparameters, ``s`` the state, in which ``step`` counts this step already.
"""

from __future__ import annotations

import math
from typing import Any

from agnostic_ad.levels import device_of
from agnostic_ad.nn.optim.passes import (
    STEP,
    choose,
    decayed,
    filled,
    larger,
    lerp,
    mix,
    move,
    move_by_root,
    norm,
    on,
    root_of,
    where,
    zeros,
)
from agnostic_ad.nn.optim.rule import formula

# --- PyTorch's ------------------------------------------------------------------------------------------------------------------------------


@formula(
    numbers={"step": lambda h: 0 if on(h.momentum) and on(h.dampening) else None},
    momentum_buffer=where("momentum"),
)
def sgd(xp: Any, p: Any, g: Any, s: Any, h: Any) -> Any:
    """Go against the gradient, or a sum of past ones."""
    p, g = decayed(p, g, h)
    if not on(h.momentum):
        return move(p, h.lr, g), {}
    buffer = s.momentum_buffer
    buffer *= h.momentum
    buffer += choose(xp, s.step == 1, g, (1 - h.dampening) * g) if on(h.dampening) else g  # all of the first gradient
    return move(p, h.lr, g + h.momentum * buffer if h.nesterov else buffer), {"momentum_buffer": buffer}


@formula(numbers={**STEP, "eta": lambda h: h.lr, "mu": 1.0}, ax=zeros)
def asgd(xp: Any, p: Any, g: Any, s: Any, h: Any) -> Any:
    """Descend at a falling rate, and average."""
    p, g = decayed(p, g, h)
    p *= 1 - h.lambd * s.eta
    p = move(p, s.eta, g)
    ax = lerp(s.ax, p, s.mu)
    eta = h.lr / (1 + h.lambd * h.lr * s.step) ** h.alpha
    return p, {"ax": ax, "eta": eta, "mu": 1 / larger(xp, s.step - h.t0, 1.0)}


@formula(numbers=STEP, square_avg=zeros, acc_delta=zeros)
def adadelta(xp: Any, p: Any, g: Any, s: Any, h: Any) -> Any:
    """Scale by past steps over past gradients."""
    p, g = decayed(p, g, h)
    square = mix(s.square_avg, h.rho, g, g, 1 - h.rho)
    delta = xp.sqrt(s.acc_delta + h.eps)
    delta /= xp.sqrt(square + h.eps)
    delta *= g
    return move(p, h.lr, delta), {"square_avg": square, "acc_delta": mix(s.acc_delta, h.rho, delta, delta, 1 - h.rho)}


@formula(numbers=STEP, sum=filled("initial_accumulator_value"))
def adagrad(xp: Any, p: Any, g: Any, s: Any, h: Any) -> Any:
    """Divide by the root of the sum of squares."""
    p, g = decayed(p, g, h)
    total = s.sum
    total += g * g
    return move(p, h.lr / (1 + (s.step - 1) * h.lr_decay), g, root_of(xp, total, h.eps)), {"sum": total}


@formula(numbers=STEP, exp_avg=zeros, exp_avg_sq=zeros, max_exp_avg_sq=where("amsgrad"))
def adam(xp: Any, p: Any, g: Any, s: Any, h: Any) -> Any:
    """Divide a mean by the root of a mean of squares."""
    p, g = decayed(p, g, h)
    beta1, beta2 = h.betas
    mean = lerp(s.exp_avg, g, 1 - beta1)
    square = mix(s.exp_avg_sq, beta2, g, g, 1 - beta2)
    changes = {"exp_avg": mean, "exp_avg_sq": square}
    if h.amsgrad:
        square = changes["max_exp_avg_sq"] = xp.maximum(s.max_exp_avg_sq, square)
    return move_by_root(xp, p, h.lr / (1 - beta1**s.step), mean, square, 1 - beta2**s.step, h.eps), changes


@formula(numbers=STEP, exp_avg=zeros, exp_inf=zeros)
def adamax(xp: Any, p: Any, g: Any, s: Any, h: Any) -> Any:
    """Divide a mean by a falling maximum."""
    p, g = decayed(p, g, h)
    beta1, beta2 = h.betas
    mean = lerp(s.exp_avg, g, 1 - beta1)
    largest = xp.maximum(beta2 * s.exp_inf, xp.abs(g) + h.eps)
    return move(p, h.lr / (1 - beta1**s.step), mean, largest), {"exp_avg": mean, "exp_inf": largest}


@formula(numbers={**STEP, "mu_product": 1.0}, exp_avg=zeros, exp_avg_sq=zeros)
def nadam(xp: Any, p: Any, g: Any, s: Any, h: Any) -> Any:
    """Adam, a step of momentum ahead."""
    p, g = decayed(p, g, h)
    beta1, beta2 = h.betas
    mu, after = (beta1 * (1 - 0.5 * 0.96 ** (t * h.momentum_decay)) for t in (s.step, s.step + 1))
    product = s.mu_product * mu
    mean = lerp(s.exp_avg, g, 1 - beta1)
    square = mix(s.exp_avg_sq, beta2, g, g, 1 - beta2)
    scale = (1 - beta2**s.step) ** 0.5
    root = root_of(xp, square, h.eps * scale)
    p = move(p, scale * h.lr * (1 - mu) / (1 - product), g, root)
    p = move(p, scale * h.lr * after / (1 - product * after), mean, root)
    return p, {"exp_avg": mean, "exp_avg_sq": square, "mu_product": product}


@formula(numbers=STEP, exp_avg=zeros, exp_avg_sq=zeros)
def radam(xp: Any, p: Any, g: Any, s: Any, h: Any) -> Any:
    """Adam, without dividing at first."""
    p, g = decayed(p, g, h)
    beta1, beta2 = h.betas
    mean = lerp(s.exp_avg, g, 1 - beta1)
    square = mix(s.exp_avg_sq, beta2, g, g, 1 - beta2)
    size, left = h.lr / (1 - beta1**s.step), 1 - beta2**s.step
    limit = 2 / (1 - beta2) - 1
    length = limit - 2 * s.step * beta2**s.step / left  # of the average; up to 5 its variance is not to be trusted
    most, long = larger(xp, limit, 5.0), larger(xp, length, 5.0)
    rectified = ((long - 4) * (long - 2) * most / ((most - 4) * (most - 2) * long)) ** 0.5 * left**0.5
    trusted = length > 5.0
    plain = xp.ones_like(square)
    by = choose(xp, trusted, root_of(xp, square, h.eps), plain)
    return move(p, size * choose(xp, trusted, rectified, 1.0), mean, by), {"exp_avg": mean, "exp_avg_sq": square}


@formula(numbers=STEP, square_avg=zeros, momentum_buffer=where("momentum"), grad_avg=where("centered"))
def rmsprop(xp: Any, p: Any, g: Any, s: Any, h: Any) -> Any:
    """Divide by the root of a mean of squares."""
    p, g = decayed(p, g, h)
    square = mix(s.square_avg, h.alpha, g, g, 1 - h.alpha)
    changes = {"square_avg": square}
    if h.centered:
        mean = changes["grad_avg"] = lerp(s.grad_avg, g, 1 - h.alpha)
        square = square - mean * mean
    root = root_of(xp, square, h.eps)
    if not on(h.momentum):
        return move(p, h.lr, g, root), changes
    buffer = s.momentum_buffer
    buffer *= h.momentum
    buffer += g / root
    return move(p, h.lr, buffer), {**changes, "momentum_buffer": buffer}


@formula(numbers=STEP, prev=zeros, step_size=lambda xp, p, h: xp.zeros_like(p) + h.lr)
def rprop(xp: Any, p: Any, g: Any, s: Any, h: Any) -> Any:
    """Go by signs, in steps that adapt."""
    agreement, one = g * s.prev, xp.ones_like(p)
    factor = xp.where(agreement > 0, one * h.etas[1], xp.where(agreement < 0, one * h.etas[0], one))
    size = xp.clip(s.step_size * factor, h.step_sizes[0], h.step_sizes[1])
    g = xp.where(agreement < 0, xp.zeros_like(g), g)  # where the sign has changed, wait for a step
    return move(p, size, xp.sign(g)), {"prev": g, "step_size": size}


@formula(elementwise=False, real=True, numbers=STEP, exp_avg=zeros, exp_avg_sq=zeros)
def sparse_adam(xp: Any, p: Any, g: Any, s: Any, h: Any) -> Any:
    """Adam on the rows that have a gradient."""
    beta1, beta2 = h.betas
    touched = g != 0
    if g.ndim > 1:
        touched = xp.any(touched, axis=tuple(range(1, g.ndim)), keepdims=True)
    mean = xp.where(touched, s.exp_avg + (1 - beta1) * (g - s.exp_avg), s.exp_avg)
    square = xp.where(touched, s.exp_avg_sq + (1 - beta2) * (g * g - s.exp_avg_sq), s.exp_avg_sq)
    rate = h.lr * (1 - beta2**s.step) ** 0.5 / (1 - beta1**s.step)
    change = rate * mean / root_of(xp, square, h.eps)
    return p - xp.where(touched, change, xp.zeros_like(change)), {"exp_avg": mean, "exp_avg_sq": square}


def _factored(of: Any) -> Any:
    return lambda xp, p, h: xp.zeros(of(p.shape), dtype=p.dtype, device=device_of(p)) if p.ndim > 1 else None


@formula(
    elementwise=False,
    real=True,
    numbers=STEP,
    row_var=_factored(lambda shape: (*shape[:-1], 1)),
    col_var=_factored(lambda shape: (*shape[:-2], 1, shape[-1])),
    variance=lambda xp, p, h: None if p.ndim > 1 else xp.zeros_like(p),
)
def adafactor(xp: Any, p: Any, g: Any, s: Any, h: Any) -> Any:
    """Divide by the root of squares kept by rows and columns."""
    tiny = float(xp.finfo(p.dtype).eps) if h.eps[0] is None else h.eps[0]
    weight = s.step**h.beta2_decay
    count = max(math.prod(p.shape), 1)
    rate = choose(xp, h.lr < s.step**-0.5, h.lr, s.step**-0.5) * larger(xp, norm(xp, p) / count**0.5, h.eps[1])
    if on(h.weight_decay):
        p *= 1 - h.lr * h.weight_decay
    square = g * g
    if p.ndim > 1:
        row = lerp(s.row_var, xp.mean(square, axis=-1, keepdims=True), weight)
        col = lerp(s.col_var, xp.mean(square, axis=-2, keepdims=True), weight)
        estimate = row @ col / xp.clip(xp.mean(row, axis=-2, keepdims=True), min=tiny)
        changes = {"row_var": row, "col_var": col}
    else:
        estimate = lerp(s.variance, square, weight)
        changes = {"variance": estimate}
    update = g / xp.sqrt(xp.clip(estimate, min=tiny * tiny))
    return move(p, rate / larger(xp, norm(xp, update) / (count**0.5 * h.d), 1.0), update), changes


def orthogonalized(xp: Any, x: Any, coefficients: Any, steps: int, eps: float) -> Any:
    """Bring the singular values of a matrix near to one, by an iteration of fifth order."""
    a, b, c = coefficients
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / larger(xp, norm(xp, x), eps)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.T if tall else x


@formula(elementwise=False, real=True, momentum_buffer=zeros)
def muon(xp: Any, p: Any, g: Any, s: Any, h: Any) -> Any:
    """Make the momentum's singular values alike."""
    buffer = lerp(s.momentum_buffer, g, 1 - h.momentum)
    update = g + h.momentum * (buffer - g) if h.nesterov else buffer
    update = orthogonalized(xp, update, h.ns_coefficients, h.ns_steps, h.eps)
    rows, columns = p.shape
    size = 0.2 * max(rows, columns) ** 0.5 if h.adjust_lr_fn == "match_rms_adamw" else max(1.0, rows / columns) ** 0.5
    p *= 1 - h.lr * h.weight_decay
    return move(p, h.lr * size, update), {"momentum_buffer": buffer}


# --- others ---------------------------------------------------------------------------------------------------------------------------------


@formula(numbers=STEP, exp_avg=zeros)
def lion(xp: Any, p: Any, g: Any, s: Any, h: Any) -> Any:
    """Go by the sign of a mean."""
    beta1, beta2 = h.betas
    direction = xp.sign(beta1 * s.exp_avg + (1 - beta1) * g)
    p *= 1 - h.lr * h.weight_decay
    return move(p, h.lr, direction), {"exp_avg": lerp(s.exp_avg, g, 1 - beta2)}


def _trust(xp: Any, p: Any, update: Any) -> Any:
    """Give the ratio of two norms; one where either is zero."""
    ours, theirs = norm(xp, p), norm(xp, update)
    both = (ours > 0) & (theirs > 0)
    return xp.where(both, ours / xp.where(both, theirs, xp.ones_like(theirs)), xp.ones_like(ours))


@formula(elementwise=False, numbers=STEP, exp_avg=zeros, exp_avg_sq=zeros)
def lamb(xp: Any, p: Any, g: Any, s: Any, h: Any) -> Any:
    """Adam, in steps as large as the parameter."""
    beta1, beta2 = h.betas
    mean = lerp(s.exp_avg, g, 1 - beta1)
    square = mix(s.exp_avg_sq, beta2, g, g, 1 - beta2)
    root = root_of(xp, square / (1 - beta2**s.step), h.eps)
    update = mean / (1 - beta1**s.step) / root + h.weight_decay * p
    return move(p, h.lr * _trust(xp, p, update), update), {"exp_avg": mean, "exp_avg_sq": square}


@formula(elementwise=False, momentum_buffer=where("momentum"))
def lars(xp: Any, p: Any, g: Any, s: Any, h: Any) -> Any:
    """Go in steps as large as the parameter."""
    ours, theirs = norm(xp, p), norm(xp, g)
    both = (ours > 0) & (theirs > 0)
    total = xp.where(both, theirs + h.weight_decay * ours + h.eps, xp.ones_like(ours))
    local = xp.where(both, h.trust_coefficient * ours / total, xp.ones_like(ours))
    update = h.lr * local * (g + h.weight_decay * p)
    if not on(h.momentum):
        return p - update, {}
    buffer = s.momentum_buffer
    buffer *= h.momentum
    buffer += update
    return p - (update + h.momentum * buffer if h.nesterov else buffer), {"momentum_buffer": buffer}


@formula(numbers=STEP, exp_avg=zeros, exp_avg_var=zeros)
def adabelief(xp: Any, p: Any, g: Any, s: Any, h: Any) -> Any:
    """Divide by the distance of gradients from their mean."""
    p, g = decayed(p, g, h)
    beta1, beta2 = h.betas
    mean = lerp(s.exp_avg, g, 1 - beta1)
    surprise = g - mean
    var = mix(s.exp_avg_var, beta2, surprise, surprise, 1 - beta2)
    var += h.eps
    p = move_by_root(xp, p, h.lr / (1 - beta1**s.step), mean, var, 1 - beta2**s.step, h.eps)
    return p, {"exp_avg": mean, "exp_avg_var": var}


@formula(numbers=STEP, exp_avg=filled("initial_accumulator"), exp_avg_sq=filled("initial_accumulator"))
def yogi(xp: Any, p: Any, g: Any, s: Any, h: Any) -> Any:
    """Adam, with a mean of squares that moves by steps."""
    p, g = decayed(p, g, h)
    beta1, beta2 = h.betas
    mean = lerp(s.exp_avg, g, 1 - beta1)
    square = g * g
    total = s.exp_avg_sq - (1 - beta2) * xp.sign(s.exp_avg_sq - square) * square
    p = move_by_root(xp, p, h.lr / (1 - beta1**s.step), mean, total, 1 - beta2**s.step, h.eps)
    return p, {"exp_avg": mean, "exp_avg_sq": total}


@formula(numbers=STEP, exp_avg=zeros, exp_avg_diff=zeros, exp_avg_sq=zeros, prev_grad=zeros)
def adan(xp: Any, p: Any, g: Any, s: Any, h: Any) -> Any:
    """Adam, with the mean of differences of gradients."""
    beta1, beta2, beta3 = h.betas
    change = choose(xp, s.step > 1, g - s.prev_grad, xp.zeros_like(g))
    ahead = g + beta2 * change
    mean = lerp(s.exp_avg, g, 1 - beta1)
    slope = lerp(s.exp_avg_diff, change, 1 - beta2)
    square = mix(s.exp_avg_sq, beta3, ahead, ahead, 1 - beta3)
    scale = (1 - beta3**s.step) ** 0.5
    root = root_of(xp, square, h.eps * scale)
    p = move(p, scale * h.lr / (1 - beta1**s.step), mean, root)
    p = move(p, scale * h.lr * beta2 / (1 - beta2**s.step), slope, root)
    p /= 1 + h.lr * h.weight_decay
    return p, {"exp_avg": mean, "exp_avg_diff": slope, "exp_avg_sq": square, "prev_grad": xp.positive(g)}


@formula(
    elementwise=False,
    real=True,
    numbers=STEP,
    exp_avg=zeros,
    exp_avg_sq=lambda xp, p, h: xp.zeros((), dtype=p.dtype, device=device_of(p)),
)
def novograd(xp: Any, p: Any, g: Any, s: Any, h: Any) -> Any:
    """Divide by a mean of the gradient's norm."""
    beta1, beta2 = h.betas
    square = xp.sum(g * g)
    square = choose(xp, s.step == 1, square, beta2 * s.exp_avg_sq + (1 - beta2) * square)
    mean = beta1 * s.exp_avg + g / root_of(xp, square, h.eps) + h.weight_decay * p
    return move(p, h.lr, mean), {"exp_avg": mean, "exp_avg_sq": square}
