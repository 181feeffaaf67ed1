"""What the camera adds to an image: blur, noise, colour response, rounding, a palette."""

import math

import numpy as np
import numpy.typing as npt
from numba import njit
from PIL import Image

from submission.render.vectors import SIZE, smoothstep


def few_colours(image: npt.NDArray[np.uint8], colours: int) -> npt.NDArray[np.uint8]:
    """uint8 (height, width, 3) in the `colours` (2..256) of a palette cut at the median, as in the
    makers' sample animations: grey noise takes most of the palette and leaves an object two to nine
    colours, so a cylinder shows edges that it does not have."""
    few = Image.fromarray(image).quantize(colours, method=Image.Quantize.MEDIANCUT)
    return np.asarray(few.convert("RGB"))


@njit(error_model="numpy")
def blur(sharp, deviation, top, bottom, left, end, scratch, out):
    """Gaussian blur (five taps) of sharp[top:bottom, left:end] into the same part of out."""
    sigma = max(deviation, 0.1)  # as good as none
    near, far = math.exp(-0.5 / sigma**2), math.exp(-2.0 / sigma**2)
    total = 1.0 + 2.0 * near + 2.0 * far
    w0, w1, w2 = np.float32(1.0 / total), np.float32(near / total), np.float32(far / total)
    for row in range(max(top - 2, 0), min(bottom + 2, SIZE)):
        for column in range(left, end):
            c0, c1 = max(column - 2, 0), max(column - 1, 0)
            c3, c4 = min(column + 1, SIZE - 1), min(column + 2, SIZE - 1)
            for k in range(3):
                scratch[row, column, k] = (
                    w0 * sharp[row, column, k]
                    + w1 * (sharp[row, c1, k] + sharp[row, c3, k])
                    + w2 * (sharp[row, c0, k] + sharp[row, c4, k])
                )
    for row in range(top, bottom):
        r0, r1 = max(row - 2, 0), max(row - 1, 0)
        r3, r4 = min(row + 1, SIZE - 1), min(row + 2, SIZE - 1)
        for column in range(left, end):
            for k in range(3):
                out[row, column, k] = (
                    w0 * scratch[row, column, k]
                    + w1 * (scratch[r1, column, k] + scratch[r3, column, k])
                    + w2 * (scratch[r0, column, k] + scratch[r4, column, k])
                )


@njit
def copy_image(source, target):
    # A loop compiles in a tenth of the time of target[:] = source.
    for row in range(SIZE):
        for column in range(SIZE):
            for k in range(3):
                target[row, column, k] = source[row, column, k]


@njit(error_model="numpy")
def splitmix64(x):
    """The finaliser of SplitMix64: 64 well mixed bits of a counter."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(error_model="numpy")
def _bell(bits):
    """Sum of two 16 bit numbers, as a variable of mean 0 and standard deviation 1."""
    low, high = bits & np.uint64(0xFFFF), (bits >> np.uint64(16)) & np.uint64(0xFFFF)
    total = np.int64(low) + np.int64(high)
    return np.float32((total - 65535) * (math.sqrt(6.0) / 65536.0))


@njit(error_model="numpy")
def add_patch_noise(exposure, strength, key):
    """Multiply by a smooth random field: values at a 5 x 5 grid, each channel its own."""
    grid = np.empty((5, 5, 3), np.float32)
    for i in range(25):
        common = _bell(splitmix64(key + np.uint64(8192 + 4 * i)))
        for k in range(3):
            own = _bell(splitmix64(key + np.uint64(8193 + 4 * i + k)))
            grid[i // 5, i % 5, k] = strength * (0.8 * common + 0.4 * own)
    for row in range(SIZE):
        y = (row + 0.5) / 16.0
        fy = smoothstep(0.0, 1.0, y - int(y))
        for column in range(SIZE):
            x = (column + 0.5) / 16.0
            fx = smoothstep(0.0, 1.0, x - int(x))
            i, j = int(y), int(x)
            for k in range(3):
                upper = grid[i, j, k] + fx * (grid[i, j + 1, k] - grid[i, j, k])
                lower = grid[i + 1, j, k] + fx * (grid[i + 1, j + 1, k] - grid[i + 1, j, k])
                exposure[row, column, k] *= np.float32(1.0 + upper + fy * (lower - upper))


@njit(error_model="numpy")
def develop(p, exposure, key, image):
    """Colour response, noise and rounding of `exposure` float32 into `image` uint8."""
    third, half = np.float32(1.0 / 3.0), np.float32(0.5)
    saturation, gamma = np.float32(p.saturation), np.float32(p.gamma)
    noise, colour_noise = np.float32(p.noise), np.float32(p.colour_noise)
    top = np.float32(255.0)
    middle = np.float32(0.5 * (SIZE - 1))
    vignette = np.float32(p.vignette / (2.0 * (SIZE / 2) ** 2))
    for row in range(SIZE):
        for column in range(SIZE):
            pixel = exposure[row, column]
            off = (np.float32(row) - middle) ** 2 + (np.float32(column) - middle) ** 2
            light = np.float32(1.0) - vignette * off
            grey = (pixel[0] + pixel[1] + pixel[2]) * third
            counter = key + np.uint64(2 * (SIZE * row + column))
            bits, more = splitmix64(counter), splitmix64(counter + np.uint64(1))
            common = noise * _bell(bits)
            for k in range(3):
                value = light * (grey + (pixel[k] - grey) * saturation)
                value = max(value * p.gain[k] + p.bias[k], np.float32(0.0))
                if gamma != np.float32(1.0):
                    value = top * (value / top) ** gamma
                own = bits >> np.uint64(32) if k == 0 else more >> np.uint64(32 * k - 32)
                value += common + colour_noise * _bell(own)
                image[row, column, k] = np.uint8(min(max(value + half, np.float32(0.0)), top))
