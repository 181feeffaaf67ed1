"""A ray caster for the MPI3D rig, compiled by numba: records of `rig.PARAMETERS` to images.

The empty platform (floor, ring, walls) is cast once for all images of a call that share its
columns; shadow, arm and object are cast for each image into a depth buffer of 3 x 3 samples a
pixel, each solid only within its own box on the screen. Blur, colour response and noise follow. An
image draws its noise from a hash of its own key: neither threads nor other images change its bytes.
"""

import math
import os
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
from numba import njit

from submission.render import camera, object_solids, solids, vectors
from submission.render.platform import cast_platforms
from submission.render.rig import BACKGROUND_COLUMNS, COLUMNS, PARAMETERS
from submission.render.vectors import FAR, SIZE, UP, ZERO, along, cross, dot, unit, vec3

_SAMPLES = 3  # of the arm and the object, along each side of a pixel
_FINE = SIZE * _SAMPLES
_BLOCK = 1024  # images a call of the compiled code, to bound the memory of the platform layers
# The records in float64: one type throughout keeps the compiled code small.
Numbers = npt.NDArray[np.int64]
_WIDE = np.dtype([(name, "f8", PARAMETERS[name].shape) for name in COLUMNS])


def render(
    parameters: np.ndarray, keys: npt.NDArray[np.uint64], threads: int | None = None
) -> npt.NDArray[np.uint8]:
    """Images uint8 (n, 64, 64, 3), 0..255, of records (n,) of dtype rig.PARAMETERS.

    `keys` uint64 (n,) decide the noise. `threads` defaults to the number of processors.
    """
    images = np.empty((len(parameters), SIZE, SIZE, 3), np.uint8)
    workers = threads or os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(parameters), _BLOCK):
            block = parameters[start : start + _BLOCK].astype(_WIDE)
            first, layer_of = _distinct_platforms(block)
            layers = np.empty((len(first), 2, SIZE, SIZE, 3), np.float32)
            _share(pool, workers, cast_platforms, block[first], layers)
            out, key = images[start : start + _BLOCK], keys[start : start + _BLOCK]
            _share(pool, workers, _render_images, block, layers, layer_of, key, out)
    for i in np.flatnonzero(parameters["palette"]):
        images[i] = camera.few_colours(images[i], int(parameters["palette"][i]))
    return images


def _share(pool: Executor, workers: int, work: Callable[..., None], *args: object) -> None:
    """Run work(*args, k, workers) for every k < workers; it takes every workers-th image."""
    for done in [pool.submit(work, *args, k, workers) for k in range(workers)]:
        done.result()


def _distinct_platforms(parameters: np.ndarray) -> tuple[Numbers, Numbers]:
    """Records that differ in the empty platform: first of each kind, and each record's kind."""
    columns = [parameters[name].reshape(len(parameters), -1) for name in BACKGROUND_COLUMNS]
    rows = np.concatenate(columns, axis=1)
    packed = rows.view(np.dtype((np.void, rows.shape[1] * rows.itemsize))).ravel()
    return np.unique(packed, return_index=True, return_inverse=True)[1:]


@njit(error_model="numpy")
def _draw(solid, p, view, sun, depth, paint, box):
    """Cast one solid into the depth buffer (192, 192) and its colours (192, 192, 3).
    `box`: first and last (excluded) row and column, in pixels, of all that was drawn."""
    origin, right, up, forward = view
    kind, gloss = int(solid.kind), solid.gloss > 0.0
    centre, extents, extra = vec3(solid.centre), vec3(solid.extents), vec3(solid.extra)
    x_axis, y_axis, z_axis = vec3(solid.axes[0]), vec3(solid.axes[1]), vec3(solid.axes[2])

    low_x, high_x, low_y, high_y = FAR, -FAR, FAR, -FAR
    for corner in range(8):
        point = along(centre, x_axis, extents[0] * (1.0 - 2.0 * (corner & 1)))
        point = along(point, y_axis, extents[1] * (1.0 - (corner & 2)))
        point = along(point, z_axis, extents[2] * (1.0 - 0.5 * (corner & 4)))
        x, y, _ = vectors.project(p, view, point)
        low_x, high_x = min(low_x, x), max(high_x, x)
        low_y, high_y = min(low_y, y), max(high_y, y)
    top, bottom = max(int(low_y * _SAMPLES), 0), min(int(high_y * _SAMPLES) + 1, _FINE)
    left, end = max(int(low_x * _SAMPLES), 0), min(int(high_x * _SAMPLES) + 1, _FINE)
    if top >= bottom or left >= end:
        return
    box[0], box[1] = min(box[0], top // _SAMPLES), max(box[1], (bottom - 1) // _SAMPLES + 1)
    box[2], box[3] = min(box[2], left // _SAMPLES), max(box[3], (end - 1) // _SAMPLES + 1)

    away = along(origin, centre, -1.0)
    o = (dot(away, x_axis), dot(away, y_axis), dot(away, z_axis))
    ahead = (dot(forward, x_axis), dot(forward, y_axis), dot(forward, z_axis))
    aside = (dot(right, x_axis), dot(right, y_axis), dot(right, z_axis))
    above = (dot(up, x_axis), dot(up, y_axis), dot(up, z_axis))
    light = (dot(sun, x_axis), dot(sun, y_axis), dot(sun, z_axis))
    skyward = (x_axis[2], y_axis[2], z_axis[2])
    for row in range(top, bottom):
        line = along(ahead, above, -((row + 0.5) / _SAMPLES - p.centre[1]) / p.focal)
        for column in range(left, end):
            d = along(line, aside, ((column + 0.5) / _SAMPLES - p.centre[0]) / p.focal)
            t, normal, back = solids.hit(kind, o, d, extents, extra)
            if t >= depth[row, column]:
                continue
            factor = p.ambient * (1.0 + p.sky * dot(normal, skyward))
            factor += p.diffuse * max(dot(normal, light), 0.0)
            shine = 0.0
            if gloss:
                halfway = unit(along(light, unit(d), -1.0))
                shine = p.specular * max(dot(halfway, normal), 0.0) ** p.shininess
            if kind == solids.PLATE:
                z = o[2] + t * d[2] + extents[2]  # above the platform
                factor *= 0.8 + 0.4 * z / p.shoulder_height
                if normal[0] < 0.0:  # the face with screws and lighter patches
                    patch = min(max(int(8.0 * z / p.plate[2]), 0), 7)
                    factor *= p.plate_texture[patch, 1 if o[1] + t * d[1] > 0.0 else 0]
            elif back:  # the inside of a cup lights itself
                factor = 0.5 * (factor + p.ambient + p.diffuse)
            elif kind == solids.SEAMED_BALL:
                back = solids.on_seam(normal, p.form[0], p.form[1])
            elif solid.stripes[0] > 0.0:
                back = solids.on_stripe(solid.stripes, along(o, d, t), normal)
            depth[row, column] = t
            for k in range(3):
                surface = solid.inside_rgb[k] if back else solid.rgb[k]
                paint[row, column, k] = surface * factor + shine


@njit(error_model="numpy")
def _cast_shadow(p, view, sun, centre, size, sharp, box):
    """Darken the floor of `sharp` under the object; widens `box` by what changed."""
    if p.shadow <= 0.0 or sun[2] < 0.1:
        return
    origin, right, up, forward = view
    reach = size * (0.8 + p.shadow_soft)
    middle = along(centre, sun, -centre[2] / sun[2])
    low_x, high_x, low_y, high_y = 0.0, float(SIZE), 0.0, float(SIZE)
    x, y, ahead = vectors.project(p, view, middle)
    if ahead > 2.0 * reach / sun[2]:
        span = p.focal * reach / sun[2] / (ahead - reach / sun[2])
        low_x, high_x, low_y, high_y = x - span, x + span, y - span, y + span
    top, bottom = max(int(low_y), 0), min(int(high_y) + 1, SIZE)
    left, end = max(int(low_x), 0), min(int(high_x) + 1, SIZE)
    if top >= bottom or left >= end:
        return
    box[0], box[1] = min(box[0], top), max(box[1], bottom)
    box[2], box[3] = min(box[2], left), max(box[3], end)
    for row in range(top, bottom):
        for column in range(left, end):
            d = along(forward, right, (column + 0.5 - p.centre[0]) / p.focal)
            d = along(d, up, -(row + 0.5 - p.centre[1]) / p.focal)
            if d[2] > -1e-5:
                continue
            point = along(origin, d, -origin[2] / d[2])
            if point[0] ** 2 + point[1] ** 2 > p.wall_distance**2:
                continue
            away = along(centre, point, -1.0)
            off = along(away, sun, -dot(away, sun))
            distance = math.sqrt(dot(off, off))
            dark = 1.0 - vectors.smoothstep(0.8 * size * (1.0 - p.shadow_soft), reach, distance)
            for k in range(3):
                sharp[row, column, k] *= np.float32(1.0 - p.shadow * dark)


@njit(error_model="numpy")
def _resolve(depth, paint, box, sharp):
    """Average the samples of each pixel over the arm, the object and the platform behind."""
    share = np.float32(1.0 / _SAMPLES**2)
    for row in range(box[0], box[1]):
        for column in range(box[2], box[3]):
            hits = 0
            red, green, blue = np.float32(0.0), np.float32(0.0), np.float32(0.0)
            for y in range(row * _SAMPLES, (row + 1) * _SAMPLES):
                for x in range(column * _SAMPLES, (column + 1) * _SAMPLES):
                    if depth[y, x] < FAR:
                        hits += 1
                        red += paint[y, x, 0]
                        green += paint[y, x, 1]
                        blue += paint[y, x, 2]
                    depth[y, x] = FAR
            if hits:
                rest = np.float32(_SAMPLES**2 - hits)
                sharp[row, column, 0] = (sharp[row, column, 0] * rest + red) * share
                sharp[row, column, 1] = (sharp[row, column, 1] * rest + green) * share
                sharp[row, column, 2] = (sharp[row, column, 2] * rest + blue) * share


@njit(error_model="numpy")
def _render_image(p, layer, key, parts, depth, paint, sharp, scratch, blurred, image):
    view = vectors.camera_axes(p)
    sun = unit(vec3(p.light))
    u = (math.sin(p.pan), math.cos(p.pan), 0.0)
    w = (math.cos(p.pan), -math.sin(p.pan), 0.0)
    arm = along(along(ZERO, u, math.sin(p.tilt)), UP, math.cos(p.tilt))
    shoulder = along((0.0, 0.0, p.shoulder_height), w, p.shoulder_offset)
    centre = along(shoulder, arm, p.arm_length)
    side = cross(arm, w)
    sin_roll, cos_roll = math.sin(p.object_roll), math.cos(p.object_roll)
    x_axis = along(along(ZERO, w, cos_roll), side, sin_roll)
    y_axis = along(along(ZERO, side, cos_roll), w, -sin_roll)
    for solid in parts:
        solid.kind = -1.0
    solids.add_arm(parts, p, u, w, arm, shoulder, centre)
    object_solids.add_object(parts, p, centre, (x_axis, y_axis, arm))

    camera.copy_image(layer[0], sharp)
    camera.copy_image(layer[1], blurred)
    shadow_box = np.array([SIZE, 0, SIZE, 0])
    size = math.sqrt(0.5 * (p.radius**2 + p.half_height**2)) * 1.3
    _cast_shadow(p, view, sun, centre, size, sharp, shadow_box)
    box = np.array([SIZE, 0, SIZE, 0])
    for solid in parts:
        if solid.kind >= 0.0:
            _draw(solid, p, view, sun, depth, paint, box)
    _resolve(depth, paint, box, sharp)
    for changed in (shadow_box, box):
        top, bottom = max(changed[0] - 2, 0), min(changed[1] + 2, SIZE)
        left, end = max(changed[2] - 2, 0), min(changed[3] + 2, SIZE)
        camera.blur(sharp, p.blur, top, bottom, left, end, scratch, blurred)
    if p.patch_noise > 0.0:
        camera.add_patch_noise(blurred, p.patch_noise, key)
    camera.develop(p, blurred, key, image)


@njit(nogil=True, error_model="numpy")
def _render_images(parameters, layers, layer_of, keys, images, worker, workers):
    parts = np.empty(solids.MOST_SOLIDS, solids.SOLID)
    depth = np.empty((_FINE, _FINE), np.float32)
    for row in range(_FINE):
        for column in range(_FINE):
            depth[row, column] = FAR
    paint = np.empty((_FINE, _FINE, 3), np.float32)
    sharp = np.empty((SIZE, SIZE, 3), np.float32)
    scratch = np.empty((SIZE, SIZE, 3), np.float32)
    blurred = np.empty((SIZE, SIZE, 3), np.float32)
    for i in range(worker, len(parameters), workers):
        p, layer, key = parameters[i], layers[layer_of[i]], camera.splitmix64(keys[i])
        _render_image(p, layer, key, parts, depth, paint, sharp, scratch, blurred, images[i])
