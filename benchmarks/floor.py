"""The physical floor: what the machine can do, measured, and what the work asks of it, counted."""

import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from submission.features.extractor import FEATURE_SIZE, Extractor
from submission.latents.vae import VAE, elbo_loss
from submission.runtime.device import bfloat16_is_faster, fast_cpu

# A plain 3x3 convolution at the sizes that VGG19's inner blocks have: maps, pixels a side.
_CONVOLUTIONS = ((128, 32), (256, 16), (512, 8))


def extractor_flop() -> int:
    """Floating-point operations of one image's features, multiplications and additions apart."""
    with torch.device("meta"):
        network, images = Extractor("learned", 64).eval(), torch.empty(1, 3, 64, 64)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(images)
    return int(counter.get_total_flops())


def vae_step_work(batch_size: int) -> tuple[int, int]:
    """FLOP and bytes of one training step of the VAE that gin describes.

    FLOP are those of the matrix products, forwards and backwards. Bytes are the least that a step
    moves in float32. A parameter: read forwards and backwards, its gradient written; then the
    optimiser reads weight, gradient and both moments and writes all but the gradient. A unit of a
    layer, for each row: written and read forwards, its gradient written and read backwards.
    """
    with torch.device("meta"):
        vae = VAE(FEATURE_SIZE)
        x, noise = (
            torch.empty(batch_size, FEATURE_SIZE),
            torch.empty(batch_size, vae.encoder.mean.out_features),
        )
    with FlopCounterMode(display=False) as counter:
        mu_hat, mu, log_sigma2 = vae(x, noise)
        elbo_loss(x, mu_hat, mu, log_sigma2, 1.0)[0].backward()
    parameters = sum(p.numel() for p in vae.parameters())
    units = sum(m.out_features for m in vae.modules() if isinstance(m, torch.nn.Linear))
    return int(counter.get_total_flops()), 4 * (10 * parameters + 4 * batch_size * units)


def rates() -> dict[str, float]:
    """What this machine does a second: FLOP/s, in float32 but for the one key that names bfloat16,
    and bytes read plus bytes written.

    Keys: `matmul` and `matmul_onednn`, 2048 x 2048 matrices by PyTorch's usual product and by
    oneDNN's; `vae` and `vae_onednn`, the three products of a layer of 1,024 units at batch 256;
    `convolution`, 3x3, channels_last, batch 64: the best of three sizes, its FLOP counted as if
    done directly; where features are extracted in bfloat16, `convolution_bfloat16`, the same in
    that; `copy`. On a CPU where the usual product does not use the widest instructions
    (MKL on AMD), oneDNN's, which fast_cpu asks for, is twice as fast.
    """
    large, x, w = torch.randn(2048, 2048), torch.randn(256, 1024), torch.randn(1024, 1024)
    transposed = x.T.contiguous()
    source = torch.zeros(64 << 20)  # 256 MB: far more than any cache
    target = torch.zeros_like(source)

    def layer() -> None:
        F.linear(x, w)  # forwards
        F.linear(x, w)  # the input's gradient, as large
        F.linear(transposed, transposed)  # the weight's

    def products() -> tuple[float, float]:
        large_flop, layer_flop = 2 * 2048**3, 3 * 2 * 256 * 1024**2
        return large_flop / _seconds(lambda: F.linear(large, large)), layer_flop / _seconds(layer)

    with torch.inference_mode():
        measured = dict(zip(("matmul", "vae"), products(), strict=True))
        with fast_cpu(torch.device("cpu")):
            measured |= zip(("matmul_onednn", "vae_onednn"), products(), strict=True)
        kinds = {"convolution": torch.float32}
        if bfloat16_is_faster(torch.device("cpu")):
            kinds["convolution_bfloat16"] = torch.bfloat16
        for name, kind in kinds.items():
            measured[name] = max(_convolution_rate(*size, kind) for size in _CONVOLUTIONS)
        measured["copy"] = 2 * 4 * source.numel() / _seconds(lambda: target.copy_(source))
    return measured


def _convolution_rate(maps: int, side: int, kind: torch.dtype) -> float:
    def random(*shape: int) -> Tensor:
        return torch.randn(*shape).to(kind).contiguous(memory_format=torch.channels_last)

    images, weight = random(64, maps, side, side), random(maps, maps, 3, 3)
    flop = 2 * 9 * maps**2 * side**2 * 64
    return flop / _seconds(lambda: F.conv2d(images, weight, padding=1))


def _seconds(work: Callable[[], Tensor | None], total: float = 1.0) -> float:
    """Seconds a call, over `total` seconds of calls after a tenth of that to warm up."""
    for duration in (total / 10, total):
        started, calls = time.perf_counter(), 0
        while (passed := time.perf_counter() - started) < duration:
            work()
            calls += 1
    return passed / calls
