"""Section 2.3: a beta-VAE on the feature vectors.

x (B, 512) -> encoder -> mu, log sigma^2 (B, C) -> z (B, C) -> decoder -> mu_hat (B, 512)
"""

import itertools
from collections.abc import Sequence
from typing import Any

import gin
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from submission.runtime.config import configurable
from submission.runtime.errors import UserError
from submission.runtime.kinds import Count, Switch, Text, Widths

# A latent whose mean KL is less carries nothing.
INACTIVE_KL = 0.01


def carries_anything(codes: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.bool_]:
    """Which latents of means (n, C) carry something: bool (C,).

    Where the variances are not at hand, as of an exported model, a lower bound of the mean KL must
    do: KL = 1/2 (mu^2 + sigma^2 - log sigma^2 - 1) >= mu^2 / 2, whose mean is at least half the
    variance of mu. A constant carries nothing, whatever its value; so the variance, not the square.
    """
    return np.asarray(codes.var(axis=0, dtype=np.float64) / 2 >= INACTIVE_KL)


def _hidden(sizes: Sequence[int]) -> nn.Sequential:
    """Fully connected layers with batch norm and ReLU; no bias, the batch norm has one."""
    layers: list[nn.Module] = []
    for size_in, size_out in itertools.pairwise(sizes):
        layers += [nn.Linear(size_in, size_out, bias=False), nn.BatchNorm1d(size_out), nn.ReLU()]
    return nn.Sequential(*layers)


def _initialize(module: nn.Module, init: str) -> None:
    """ "orthogonal" (Saxe et al. 2013; biases zero) or "pytorch" (the framework's default)."""
    if init not in ("orthogonal", "pytorch"):
        raise UserError(f"init is {init!r}, it must be 'orthogonal' or 'pytorch'")
    for layer in module.modules():
        if init == "orthogonal" and isinstance(layer, nn.Linear):
            nn.init.orthogonal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


@configurable
class Encoder(nn.Module):
    """q(z | x): (B, size_in) -> means and log variances, each (B, latents)."""

    def __init__(
        self, size_in: int, latents: int, widths: Widths = gin.REQUIRED, init: Text = gin.REQUIRED
    ) -> None:
        super().__init__()
        self.hidden = _hidden([size_in, *widths])
        self.mean = nn.Linear(widths[-1], latents)
        self.log_variance = nn.Linear(widths[-1], latents)
        _initialize(self, init)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.hidden(x)
        return self.mean(hidden), self.log_variance(hidden)


@configurable
class Decoder(nn.Module):
    """The mean of p(x | z) = N(mu_hat(z), I): (B, latents) -> (B, size_out).

    Features lie in [0, 1], hence the sigmoid; stage 1 has none.
    """

    def __init__(
        self,
        size_out: int,
        latents: int,
        widths: Widths = gin.REQUIRED,
        init: Text = gin.REQUIRED,
        sigmoid: Switch = gin.REQUIRED,
    ) -> None:
        super().__init__()
        self.hidden = _hidden([latents, *widths])
        self.output = nn.Linear(widths[-1], size_out)
        self.sigmoid = sigmoid
        _initialize(self, init)

    def forward(self, z: Tensor) -> Tensor:
        x = self.output(self.hidden(z))
        return torch.sigmoid(x) if self.sigmoid else x


@configurable
class VAE(nn.Module):
    """Encoder and decoder; `latents` is the paper's C."""

    def __init__(self, size: int, latents: Count = gin.REQUIRED) -> None:
        super().__init__()
        self.encoder = Encoder(size, latents)
        self.decoder = Decoder(size, latents)

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, 512), standard normal noise (B, C) -> mu_hat (B, 512), mu, log sigma^2 (B, C)."""
        mean, log_variance = self.encoder(x)
        z = mean + torch.exp(0.5 * log_variance) * noise
        return self.decoder(z), mean, log_variance

    def means(self) -> nn.Sequential:
        """(B, 512) -> mu (B, C): what is exported."""
        return nn.Sequential(self.encoder.hidden, self.encoder.mean)


@configurable
def elbo_loss(
    x: Tensor,
    mu_hat: Tensor,
    mu: Tensor,
    log_sigma2: Tensor,
    beta: float,
    average_over_batch: Switch = gin.REQUIRED,
) -> tuple[Tensor, Tensor, Tensor]:
    """The paper's loss (section 2.3), its missing parentheses put in.

        1/B sum_{b,i} (mu_hat_i - x_i)^2
        + beta/(B C) sum_{b,j} 1/2 (mu_j^2 + sigma_j^2 - log sigma_j^2 - 1)

    Args:
        x, mu_hat: (B, 512).
        mu, log_sigma2: (B, C).
        beta: this epoch's weight of the divergence.
        average_over_batch: False leaves out both 1/B (stage 1).

    Returns:
        loss, squared error (first line), KL per latent (C,): 1/B sum_b of the summand in line two.
    """
    batch, latents = mu.shape
    error = (mu_hat - x).square().sum() / batch
    kl_per_latent = 0.5 * (mu.square() + log_sigma2.exp() - log_sigma2 - 1).sum(dim=0) / batch
    loss = error + beta / latents * kl_per_latent.sum()
    return loss if average_over_batch else loss * batch, error, kl_per_latent
