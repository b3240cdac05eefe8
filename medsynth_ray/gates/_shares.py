"""Two-sided 95 % intervals of shares of which `count` of `num` were seen."""

from __future__ import annotations

import math

from scipy.special import betaincinv

_Z = 1.959963984540054


def wilson(count: int, num: int) -> tuple[float, float]:
    """Score interval (Wilson 1927); (0, 1) where nothing was seen."""
    if not num:
        return 0.0, 1.0
    share, spread = count / num, _Z**2 / num
    half = _Z * math.sqrt(share * (1.0 - share) / num + spread / (4 * num))
    low, high = ((share + spread / 2 + sign * half) / (1.0 + spread) for sign in (-1.0, 1.0))
    return max(low, 0.0) if count else 0.0, min(high, 1.0) if count < num else 1.0


def clopper_pearson(count: int, num: int) -> tuple[float, float]:
    """Exact interval (Clopper and Pearson 1934)."""
    low = 0.0 if count == 0 else float(betaincinv(count, num - count + 1, 0.025))
    high = 1.0 if count == num else float(betaincinv(count + 1, num - count, 0.975))
    return low, high
