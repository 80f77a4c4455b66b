"""A scaling law of memorization: the logit of the memorized fraction in ln steps, ln K and ln parameters."""

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, xlogy


class Law(NamedTuple):
    """logit(memorized) = intercept + steps ln(steps) + size ln(K) + parameters ln(parameters)."""

    coefficients: np.ndarray  # [4]: intercept, steps, size, parameters
    covariance: np.ndarray  # [4, 4]: of the coefficients, scaled by how far the data scatter about the law

    def memorized(self, steps: np.ndarray, K: np.ndarray, parameters: np.ndarray) -> np.ndarray:
        """Return the memorized fraction that the law predicts; the arguments are of one shape."""
        return expit(_design(steps, K, parameters) @ self.coefficients)

    def half_steps(self, K: float, parameters: float) -> float:
        """Return the number of steps after which half of the samples are memorized."""
        a, b, c, d = self.coefficients
        return float(np.exp(-(a + c * np.log(K) + d * np.log(parameters)) / b))


def _design(steps: np.ndarray, K: np.ndarray, parameters: np.ndarray) -> np.ndarray:
    return np.stack([np.ones(np.shape(steps)), *(np.log(part) for part in (steps, K, parameters))], -1)


def fit_law(
    memorized: np.ndarray, steps: np.ndarray, K: np.ndarray, parameters: np.ndarray, prior: float = 1e-6
) -> Law:
    """Fit the law to fractions: [m] in [0, 1] by maximum quasi-likelihood of a binomial: `Law`.

    steps, K, parameters: [m]. Each fraction counts alike. The covariance is the inverse information times the mean
    squared Pearson residual. prior: a weak pull of all coefficients to 0, which decides those that the data leave open,
    such as that of the parameters where all networks have one size.
    """
    X, y = _design(steps, K, parameters), np.asarray(memorized, np.float64)
    centre, spread = X.mean(0), X.std(0)
    centre[0], spread[spread < 1e-12] = 0, 1
    Z = (X - centre) / spread
    Z[:, 1:][:, (X.std(0) < 1e-12)[1:]] = 0

    def loss(b: np.ndarray) -> tuple[float, np.ndarray]:
        p = np.clip(expit(Z @ b), 1e-12, 1 - 1e-12)
        return -(xlogy(y, p) + xlogy(1 - y, 1 - p)).sum() + prior / 2 * b @ b, Z.T @ (p - y) + prior * b

    b = minimize(loss, np.zeros(4), jac=True, method="BFGS", options={"gtol": 1e-9}).x
    p = expit(Z @ b)
    information = (Z * (p * (1 - p))[:, None]).T @ Z + prior * np.eye(4)
    scatter = ((y - p) ** 2 / np.maximum(p * (1 - p), 1e-3)).sum() / max(len(y) - 4, 1)
    back = np.diag(1 / spread)
    back[0, 1:] = -(centre / spread)[1:]
    return Law(back @ b, back @ (np.linalg.inv(information) * scatter) @ back.T)
