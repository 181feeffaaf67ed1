"""A ray caster for the MPI3D rig, compiled by numba: records of `scene.PARAMETERS` to pictures.

A picture is put together from two layers. The empty platform (floor, ring, walls) is cast once
for all images of a call that share its columns; shadow, arm and object are cast for each image
into a depth buffer of 3 x 3 samples a pixel, each solid only within its own box on the screen.
Blur, colour response and noise follow. Every image is computed by itself and draws its noise
from a hash of its own key, so the bytes depend on neither the number of threads nor the company
an image is rendered in.
"""

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
from numba import njit
from PIL import Image

from submission import scene

SIZE = 64
_SAMPLES = 3  # of the arm and the object, along each side of a pixel
_PLATFORM_SAMPLES = 2
_FINE = SIZE * _SAMPLES
_BLOCK = 1024  # images a call of the compiled code, to bound the memory of the platform layers
_FAR = 1e9
# The records in float64: one type throughout keeps the compiled code small.
_WIDE = np.dtype([(name, "f8", scene.PARAMETERS[name].shape) for name in scene.COLUMNS])

# Solids in their local frame: z is the axis, extents are half sizes.
_BOX, _PLATE, _SIDES, _REVOLUTION, _CUP, _BALL, _SEAMED_BALL, _CAPSULE = range(8)
_SOLID = np.dtype(
    [
        ("kind", "f8"),
        ("centre", "f8", 3),
        ("axes", "f8", (3, 3)),
        ("extents", "f8", 3),
        (
            "extra",
            "f8",
            3,
        ),  # number of sides and taper, or profile: see _hit_sides, _hit_revolution
        ("rgb", "f8", 3),
        ("inside_rgb", "f8", 3),  # of a cup's inside, a ball's seam
        ("gloss", "f8"),
    ]
)
_MOST_SOLIDS = 12
_NONE, _UP = (0.0, 0.0, 0.0), (0.0, 0.0, 1.0)

_CONE, _CUBE, _CYLINDER, _HEXAGONAL = scene.CONE, scene.CUBE, scene.CYLINDER, scene.HEXAGONAL
_PYRAMID, _TENNIS_BALL, _CROISSANT = scene.PYRAMID, scene.TENNIS_BALL, scene.CROISSANT
_SPHERE, _COFFEE_CUP, _BEER_CUP = scene.SPHERE, scene.COFFEE_CUP, scene.BEER_CUP


def render(
    parameters: np.ndarray, keys: npt.NDArray[np.uint64], threads: int | None = None
) -> npt.NDArray[np.uint8]:
    """Render one image a record.

    `parameters` (n,) of dtype scene.PARAMETERS, `keys` uint64 (n,): the noise of an image is a
    function of its key alone. `threads` defaults to the number of processors. Returns uint8
    (n, 64, 64, 3), 0..255.
    """
    images = np.empty((len(parameters), SIZE, SIZE, 3), np.uint8)
    workers = threads or os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(parameters), _BLOCK):
            block = parameters[start : start + _BLOCK].astype(_WIDE)
            first, layer_of = _distinct_platforms(block)
            layers = np.empty((len(first), 2, SIZE, SIZE, 3), np.float32)
            _share(pool, workers, _cast_platforms, block[first], layers)
            out, key = images[start : start + _BLOCK], keys[start : start + _BLOCK]
            _share(pool, workers, _render_images, block, layers, layer_of, key, out)
    for i in np.flatnonzero(parameters["palette"]):
        images[i] = few_colours(images[i], int(parameters["palette"][i]))
    return images


def few_colours(image: npt.NDArray[np.uint8], colours: int) -> npt.NDArray[np.uint8]:
    """uint8 (height, width, 3) in the `colours` (2..256) of a palette cut at the median.

    As the makers of MPI3D saved their sample animations: grey noise takes most of the palette and
    leaves an object two to nine colours, so a cylinder shows edges that it does not have.
    """
    few = Image.fromarray(image).quantize(colours, method=Image.Quantize.MEDIANCUT)
    return np.asarray(few.convert("RGB"))


def _share(
    pool: ThreadPoolExecutor, workers: int, work: Callable[..., None], *args: object
) -> None:
    """Run work(*args, k, workers) for every k < workers; it takes every workers-th image."""
    for done in [pool.submit(work, *args, k, workers) for k in range(workers)]:
        done.result()


def _distinct_platforms(
    parameters: np.ndarray,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Records that differ in the empty platform: first of each kind, and each record's kind."""
    columns = [parameters[name].reshape(len(parameters), -1) for name in scene.BACKGROUND_COLUMNS]
    rows = np.concatenate(columns, axis=1)
    packed = rows.view(np.dtype((np.void, rows.shape[1] * rows.itemsize))).ravel()
    _, first, layer_of = np.unique(packed, return_index=True, return_inverse=True)
    return first, layer_of.reshape(-1)


# Vectors are tuples of three floats.


@njit(error_model="numpy")
def _dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@njit(error_model="numpy")
def _cross(a, b):
    return (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])


@njit(error_model="numpy")
def _along(a, b, s):
    """a + s b"""
    return (a[0] + s * b[0], a[1] + s * b[1], a[2] + s * b[2])


@njit(error_model="numpy")
def _unit(a):
    s = 1.0 / math.sqrt(_dot(a, a) + 1e-20)
    return (a[0] * s, a[1] * s, a[2] * s)


@njit(error_model="numpy")
def _smoothstep(low, high, x):
    t = min(max((x - low) / (high - low), 0.0), 1.0)
    return t * t * (3.0 - 2.0 * t)


@njit(error_model="numpy")
def _vector(column):
    return (column[0], column[1], column[2])


@njit(error_model="numpy")
def _camera_axes(p):
    """Position and the directions right, up, forward of the camera."""
    sin_yaw, cos_yaw = math.sin(p.yaw), math.cos(p.yaw)
    sin_pitch, cos_pitch = math.sin(p.pitch), math.cos(p.pitch)
    forward = (sin_yaw * cos_pitch, cos_yaw * cos_pitch, -sin_pitch)
    level = (cos_yaw, -sin_yaw, 0.0)
    above = _cross(level, forward)
    sin_roll, cos_roll = math.sin(p.roll), math.cos(p.roll)
    zero = (0.0, 0.0, 0.0)
    right = _along(_along(zero, level, cos_roll), above, sin_roll)
    up = _along(_along(zero, above, cos_roll), level, -sin_roll)
    return _vector(p.camera), right, up, forward


@njit(error_model="numpy")
def _project(p, view, point):
    """Column and row in the picture, and distance along the camera's axis."""
    origin, right, up, forward = view
    ray = _along(point, origin, -1.0)
    ahead = max(_dot(ray, forward), 1e-3)
    scale = p.focal / ahead
    return p.centre[0] + scale * _dot(ray, right), p.centre[1] - scale * _dot(ray, up), ahead


# The empty platform


@njit(error_model="numpy")
def _wall_shade(p, wall, point, side):
    shade = max(1.0 + p.wall_gradient * point[2], 0.1)
    if wall == 0:  # the back wall
        shade += p.wall_spot * math.exp(-2.0 * side * side - 3.0 * (point[2] - 0.9) ** 2)
    return shade * (1.0 - p.seam * _smoothstep(1.0 - p.seam_width, 1.0 - 0.5 * p.seam_width, side))


@njit(error_model="numpy")
def _platform_colour(p, walls, origin, d):
    """Colour of the empty platform, or of the walls with normals (6, 2), along a ray."""
    t = -origin[2] / d[2] if d[2] < -1e-5 else _FAR
    x, y = origin[0] + t * d[0], origin[1] + t * d[1]
    radius = math.sqrt(x * x + y * y)
    nearest, wall, wall_x, wall_y = _FAR, 0, 0.0, 0.0
    if radius > p.wall_distance:  # the walls' inscribed circle
        for i in range(6):
            nx, ny = walls[i, 0], walls[i, 1]
            towards = d[0] * nx + d[1] * ny
            if towards > 1e-6:
                distance = (p.wall_distance - origin[0] * nx - origin[1] * ny) / towards
                if distance < nearest:
                    nearest, wall, wall_x, wall_y = distance, i, nx, ny
    if nearest < t:
        point = _along(origin, d, nearest)
        half_width = p.wall_distance * math.tan(math.pi / 6.0)
        side = abs(point[1] * wall_x - point[0] * wall_y) / half_width
        shade = _wall_shade(p, wall, point, side)
        return (p.wall_rgb[0] * shade, p.wall_rgb[1] * shade, p.wall_rgb[2] * shade)

    shade = 1.0 + p.floor_gradient[0] * x + p.floor_gradient[1] * y
    shade = max(shade - p.floor_falloff * radius * radius, 0.2)
    from_shadow = (x * x + (y + 0.06) ** 2) / p.foot_shadow[1] ** 2
    shade *= 1.0 - p.foot_shadow[0] * math.exp(-from_shadow)
    if radius < p.foot_ring[0]:
        colour, shade = _vector(p.foot_rgb), 1.0
    elif radius < p.foot_ring[1]:
        colour, shade = _vector(p.foot_ring_rgb), 1.0
    elif radius < p.ring_inner:
        colour = _vector(p.floor_rgb)
    elif radius < 1.0:
        turn = (math.atan2(x, y) - p.ring_turn) / (2.0 * math.pi) * 3.0
        turn -= 3.0 * math.floor(turn / 3.0)
        sector = min(int(turn), 2)
        here, there = p.ring_rgb[sector], p.ring_rgb[(sector + 1) % 3]
        mix = _smoothstep(1.0 - p.ring_soft, 1.0, turn - sector)
        colour = (
            here[0] + mix * (there[0] - here[0]),
            here[1] + mix * (there[1] - here[1]),
            here[2] + mix * (there[2] - here[2]),
        )
        shade = 0.5 + 0.5 * shade  # the ring is glossier than the floor
    else:
        colour = _vector(p.table_rgb)
    return (colour[0] * shade, colour[1] * shade, colour[2] * shade)


@njit(nogil=True, error_model="numpy")
def _cast_platforms(parameters, layers, worker, workers):
    """Fill layers, float32 (n, 2, 64, 64, 3): each record's empty platform, sharp and blurred."""
    scratch = np.empty((SIZE, SIZE, 3), np.float32)
    walls = np.empty((6, 2))
    for i in range(worker, len(parameters), workers):
        p = parameters[i]
        origin, right, up, forward = _camera_axes(p)
        for wall in range(6):
            walls[wall, 0] = math.sin(p.wall_turn + wall * math.pi / 3.0)
            walls[wall, 1] = math.cos(p.wall_turn + wall * math.pi / 3.0)
        for row in range(SIZE):
            for column in range(SIZE):
                red, green, blue = 0.0, 0.0, 0.0
                for sample in range(_PLATFORM_SAMPLES**2):
                    sx = (sample % _PLATFORM_SAMPLES + 0.5) / _PLATFORM_SAMPLES
                    sy = (sample // _PLATFORM_SAMPLES + 0.5) / _PLATFORM_SAMPLES
                    d = _along(forward, right, (column + sx - p.centre[0]) / p.focal)
                    d = _along(d, up, -(row + sy - p.centre[1]) / p.focal)
                    colour = _platform_colour(p, walls, origin, d)
                    red, green, blue = red + colour[0], green + colour[1], blue + colour[2]
                layers[i, 0, row, column, 0] = red / _PLATFORM_SAMPLES**2
                layers[i, 0, row, column, 1] = green / _PLATFORM_SAMPLES**2
                layers[i, 0, row, column, 2] = blue / _PLATFORM_SAMPLES**2
        _blur(layers[i, 0], p.blur, 0, SIZE, 0, SIZE, scratch, layers[i, 1])


# Solids. Each returns the distance along o + t d, d not normalised, to the nearest hit in front
# (_FAR for none), the outward normal there, and whether the surface is seen from its inside.

_MISS = (_FAR, (0.0, 0.0, 1.0), False)


@njit(error_model="numpy")
def _hit_box(o, d, extents):
    near, far = -_FAR, _FAR
    axis, sign = 0, 1.0
    for i in range(3):
        slope = d[i] if abs(d[i]) > 1e-9 else 1e-9
        low, high = (-extents[i] - o[i]) / slope, (extents[i] - o[i]) / slope
        if min(low, high) > near:
            near, axis, sign = min(low, high), i, -1.0 if low < high else 1.0
        far = min(far, max(low, high))
    if near > far or near < 1e-4:
        return _MISS
    normal = (
        sign if axis == 0 else 0.0,
        sign if axis == 1 else 0.0,
        sign if axis == 2 else 0.0,
    )
    return near, normal, False


_COS = np.cos(np.arange(6) * np.pi / 3.0)
_SIN = np.sin(np.arange(6) * np.pi / 3.0)


@njit(error_model="numpy")
def _hit_sides(o, d, sides, apothem, half_height, taper):
    """A prism of 4 or 6 sides, or (taper = apothem / height) a pyramid with its apex at +z."""
    near, far = (-half_height - o[2]), (half_height - o[2])
    slope = d[2] if abs(d[2]) > 1e-9 else 1e-9
    near, far = near / slope, far / slope
    normal = (0.0, 0.0, -1.0)
    if near > far:
        near, far = far, near
        normal = (0.0, 0.0, 1.0)
    length = math.sqrt(1.0 + taper * taper)
    for i in range(sides):
        if sides == 6:
            nx, ny = _COS[i], _SIN[i]
        else:
            nx, ny = float((i == 0) - (i == 2)), float((i == 1) - (i == 3))
        # The side plane passes `apothem` from the axis at half height -half_height.
        ahead = nx * d[0] + ny * d[1] + taper * d[2]
        room = apothem - taper * half_height - (nx * o[0] + ny * o[1] + taper * o[2])
        if abs(ahead) < 1e-9:
            if room < 0.0:
                return _MISS
        elif ahead < 0.0:
            if room / ahead > near:
                near, normal = room / ahead, (nx / length, ny / length, taper / length)
        else:
            far = min(far, room / ahead)
    if near > far or near < 1e-4:
        return _MISS
    return near, normal, False


@njit(error_model="numpy")
def _hit_revolution(o, d, profile, half_height, closed):
    """The solid x^2 + y^2 <= A + B z + C z^2, |z| <= half height; a cup if its top is open."""
    a0, a1, a2 = profile
    a = d[0] * d[0] + d[1] * d[1] - a2 * d[2] * d[2]
    b = o[0] * d[0] + o[1] * d[1] - 0.5 * a1 * d[2] - a2 * o[2] * d[2]
    c = o[0] * o[0] + o[1] * o[1] - a0 - a1 * o[2] - a2 * o[2] * o[2]
    best, normal = _FAR, (0.0, 0.0, 1.0)
    if abs(a) < 1e-12:
        a = 1e-12
    disc = b * b - a * c
    if disc >= 0.0:
        root = math.sqrt(disc)
        for side in (-1.0, 1.0):
            t = (-b + side * root) / a
            z = o[2] + t * d[2]
            if 1e-4 < t < best and abs(z) <= half_height:
                best = t
                slope = -0.5 * (a1 + 2.0 * a2 * z)
                normal = _unit((o[0] + t * d[0], o[1] + t * d[1], slope))
    if abs(d[2]) > 1e-9:
        for end in (-1.0, 1.0):
            z = end * half_height
            t = (z - o[2]) / d[2]
            x, y = o[0] + t * d[0], o[1] + t * d[1]
            inside = x * x + y * y <= a0 + a1 * z + a2 * z * z
            if inside and (end < 0.0 or closed) and 1e-4 < t < best:
                best, normal = t, (0.0, 0.0, end)
    if best == _FAR:
        return _MISS
    if _dot(normal, d) > 0.0:
        return best, (-normal[0], -normal[1], -normal[2]), True
    return best, normal, False


@njit(error_model="numpy")
def _hit_ball(o, d, radius):
    a, b, c = _dot(d, d), _dot(o, d), _dot(o, o) - radius * radius
    disc = b * b - a * c
    if disc < 0.0:
        return _MISS
    t = (-b - math.sqrt(disc)) / a
    if t < 1e-4:
        return _MISS
    return t, _unit(_along(o, d, t)), False


@njit(error_model="numpy")
def _hit_capsule(o, d, radius, reach):
    """All points within `radius` of the z axis between -reach and reach."""
    a = max(d[0] * d[0] + d[1] * d[1], 1e-12)
    b = o[0] * d[0] + o[1] * d[1]
    disc = b * b - a * (o[0] * o[0] + o[1] * o[1] - radius * radius)
    if disc < 0.0:
        return _MISS
    t = (-b - math.sqrt(disc)) / a
    z = o[2] + t * d[2]
    if abs(z) <= reach:
        if t < 1e-4:
            return _MISS
        return t, _unit((o[0] + t * d[0], o[1] + t * d[1], 0.0)), False
    return _hit_ball((o[0], o[1], o[2] - math.copysign(reach, z)), d, radius)


@njit(error_model="numpy")
def _add_solid(solids, kind, centre, axes, extents, extra, colour, inside, gloss):
    """Write one solid into the next free record of `solids` (its kind is negative)."""
    n = 0
    while solids[n].kind >= 0.0:
        n += 1
    solid = solids[n]
    solid.kind = kind
    solid.gloss = gloss
    for i in range(3):
        solid.centre[i] = centre[i]
        solid.extents[i] = extents[i]
        solid.extra[i] = extra[i]
        solid.rgb[i] = colour[i]
        solid.inside_rgb[i] = inside[i]
        for k in range(3):
            solid.axes[i, k] = axes[i][k]


@njit(error_model="numpy")
def _add_rod(solids, start, end, radius, across, colour, gloss):
    """A capsule between two points; `across` is any unit vector square to its axis."""
    span = _along(end, start, -1.0)
    axis = _unit(span)
    _add_solid(
        solids,
        _CAPSULE,
        _along(start, span, 0.5),
        (across, _cross(axis, across), axis),
        (radius, radius, 0.5 * math.sqrt(_dot(span, span)) + radius),
        _NONE,
        colour,
        colour,
        gloss,
    )


@njit(error_model="numpy")
def _add_arc(solids, middle, across, outwards, radius, half_angle, thickness, colour):
    """A bent rod: four capsules along an arc about the direction `outwards`."""
    side = _cross(across, outwards)
    for i in range(4):
        a, b = (0.5 * i - 1.0) * half_angle, (0.5 * i - 0.5) * half_angle
        start = _along(_along(middle, across, radius * math.sin(a)), outwards, radius * math.cos(a))
        end = _along(_along(middle, across, radius * math.sin(b)), outwards, radius * math.cos(b))
        _add_rod(solids, start, end, thickness, side, colour, 1.0)


@njit(error_model="numpy")
def _add_arm(solids, p, u, w, arm, shoulder, centre):
    axes = (w, u, _UP)
    base = _along(_NONE, w, p.plate_offset)
    half = 0.5 * p.plate[2]
    colour = _vector(p.plate_rgb)
    extents = (p.plate[0], p.plate[1], half)
    _add_solid(solids, _PLATE, _along(base, _UP, half), axes, extents, _NONE, colour, colour, 0.0)
    block = _along(_along(base, w, p.foot_block_offset), _UP, p.foot_block[2])
    extents, colour = _vector(p.foot_block), _vector(p.foot_block_rgb)
    _add_solid(solids, _BOX, block, axes, extents, _NONE, colour, colour, 0.0)
    head = _along(base, _UP, p.shoulder_height + p.head_rise)
    tip = _along(_NONE, w, p.shoulder_offset * p.head_reach)
    tip = _along(tip, _UP, p.shoulder_height + 0.5 * p.head_rise)
    colour = _along(_NONE, _vector(p.plate_rgb), p.head_brightness)
    _add_rod(solids, head, tip, p.head_radius, u, colour, 0.0)
    behind, before = _along(shoulder, arm, -p.bracket[1]), _along(shoulder, arm, p.bracket[2])
    _add_rod(solids, behind, before, p.bracket[0], w, _vector(p.bracket_rgb), 0.0)
    end = _along(centre, arm, -p.half_height)
    _add_rod(solids, shoulder, end, p.rod_radius, w, _vector(p.rod_rgb), 0.0)


@njit(error_model="numpy")
def _add_object(solids, p, centre, axes):
    shape, r, h = int(p.shape), p.radius, p.half_height
    x_axis, y_axis, z_axis = axes
    colour, inside = _vector(p.object_rgb), _vector(p.inside_rgb)
    if shape == _CROISSANT:
        back = _along(_NONE, z_axis, -1.0)  # it bulges towards the arm
        _add_arc(solids, _along(centre, back, -r), y_axis, back, r, 0.72, h, colour)
        return
    kind, extents, extra = _REVOLUTION, (r, r, h), (r * r, 0.0, 0.0)
    if shape == _CUBE:
        kind = _BOX
    elif shape == _HEXAGONAL:
        kind, extra = _SIDES, (6.0, 0.0, 0.0)
    elif shape == _PYRAMID:
        kind, extra = _SIDES, (4.0, 0.5 * r / h, 0.0)
    elif shape == _CONE:
        k = (0.5 * r / h) ** 2
        extra = (k * h * h, -2.0 * k * h, k)
    elif shape == _SPHERE:
        kind = _BALL
    elif shape == _TENNIS_BALL:
        kind = _SEAMED_BALL
    elif shape == _COFFEE_CUP:
        # A bowl, its foot a third as wide as its rim.
        kind, extra = _CUP, (2.0 / 3.0 * r * r, 4.0 / 9.0 * r * r / h, -r * r / (9.0 * h * h))
    elif shape == _BEER_CUP:
        kind = _CUP
    _add_solid(solids, kind, centre, axes, extents, extra, colour, inside, 1.0)
    if kind == _CUP:
        handle = _along(_along(centre, x_axis, 0.92 * r), z_axis, 0.2 * h)
        _add_arc(solids, handle, z_axis, x_axis, 0.5 * h, 1.2, 0.13 * h, colour)


@njit(error_model="numpy")
def _hit(kind, o, d, extents, extra):
    if kind in (_BOX, _PLATE):
        return _hit_box(o, d, extents)
    if kind == _SIDES:
        sides = int(extra[0])
        apothem = extents[0] * (math.sqrt(0.75) if sides == 6 else 1.0)
        return _hit_sides(o, d, sides, apothem, extents[2], extra[1])
    if kind in (_REVOLUTION, _CUP):
        return _hit_revolution(o, d, extra, extents[2], kind == _REVOLUTION)
    if kind == _CAPSULE:
        return _hit_capsule(o, d, extents[0], extents[2] - extents[0])
    return _hit_ball(o, d, extents[0])


@njit(error_model="numpy")
def _draw(solid, p, view, sun, depth, paint, box):
    """Cast one solid into the depth buffer (192, 192) and its colours (192, 192, 3).

    `box` holds the first and last (excluded) row and column, in pixels, of all that was drawn.
    """
    origin, right, up, forward = view
    kind, gloss = int(solid.kind), solid.gloss > 0.0
    centre, extents, extra = _vector(solid.centre), _vector(solid.extents), _vector(solid.extra)
    x_axis, y_axis, z_axis = _vector(solid.axes[0]), _vector(solid.axes[1]), _vector(solid.axes[2])

    low_x, high_x, low_y, high_y = _FAR, -_FAR, _FAR, -_FAR
    for corner in range(8):
        point = _along(centre, x_axis, extents[0] * (1.0 - 2.0 * (corner & 1)))
        point = _along(point, y_axis, extents[1] * (1.0 - (corner & 2)))
        point = _along(point, z_axis, extents[2] * (1.0 - 0.5 * (corner & 4)))
        x, y, _ = _project(p, view, point)
        low_x, high_x = min(low_x, x), max(high_x, x)
        low_y, high_y = min(low_y, y), max(high_y, y)
    top, bottom = max(int(low_y * _SAMPLES), 0), min(int(high_y * _SAMPLES) + 1, _FINE)
    left, end = max(int(low_x * _SAMPLES), 0), min(int(high_x * _SAMPLES) + 1, _FINE)
    if top >= bottom or left >= end:
        return
    box[0], box[1] = min(box[0], top // _SAMPLES), max(box[1], (bottom - 1) // _SAMPLES + 1)
    box[2], box[3] = min(box[2], left // _SAMPLES), max(box[3], (end - 1) // _SAMPLES + 1)

    away = _along(origin, centre, -1.0)
    o = (_dot(away, x_axis), _dot(away, y_axis), _dot(away, z_axis))
    ahead = (_dot(forward, x_axis), _dot(forward, y_axis), _dot(forward, z_axis))
    aside = (_dot(right, x_axis), _dot(right, y_axis), _dot(right, z_axis))
    above = (_dot(up, x_axis), _dot(up, y_axis), _dot(up, z_axis))
    light = (_dot(sun, x_axis), _dot(sun, y_axis), _dot(sun, z_axis))
    skyward = (x_axis[2], y_axis[2], z_axis[2])
    for row in range(top, bottom):
        line = _along(ahead, above, -((row + 0.5) / _SAMPLES - p.centre[1]) / p.focal)
        for column in range(left, end):
            d = _along(line, aside, ((column + 0.5) / _SAMPLES - p.centre[0]) / p.focal)
            t, normal, back = _hit(kind, o, d, extents, extra)
            if t >= depth[row, column]:
                continue
            factor = p.ambient * (1.0 + p.sky * _dot(normal, skyward))
            factor += p.diffuse * max(_dot(normal, light), 0.0)
            shine = 0.0
            if gloss:
                halfway = _unit(_along(light, _unit(d), -1.0))
                shine = p.specular * max(_dot(halfway, normal), 0.0) ** p.shininess
            if kind == _PLATE:
                z = o[2] + t * d[2] + extents[2]  # above the platform
                factor *= 0.8 + 0.4 * z / p.shoulder_height
                if normal[0] < 0.0:  # the face with screws and lighter patches
                    patch = min(max(int(8.0 * z / p.plate[2]), 0), 7)
                    factor *= p.plate_texture[patch, 1 if o[1] + t * d[1] > 0.0 else 0]
            elif back:  # the inside of a cup lights itself
                factor = 0.5 * (factor + p.ambient + p.diffuse)
            elif kind == _SEAMED_BALL:
                back = abs(normal[0] ** 2 - normal[1] ** 2 + 0.6 * normal[2]) < 0.16
            depth[row, column] = t
            for k in range(3):
                surface = solid.inside_rgb[k] if back else solid.rgb[k]
                paint[row, column, k] = surface * factor + shine


@njit(error_model="numpy")
def _cast_shadow(p, view, sun, centre, size, picture, box):
    """Darken the floor of `picture` under the object; widens `box` by what changed."""
    if p.shadow <= 0.0 or sun[2] < 0.1:
        return
    origin, right, up, forward = view
    reach = size * (0.8 + p.shadow_soft)
    middle = _along(centre, sun, -centre[2] / sun[2])
    low_x, high_x, low_y, high_y = 0.0, float(SIZE), 0.0, float(SIZE)
    x, y, ahead = _project(p, view, middle)
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
            d = _along(forward, right, (column + 0.5 - p.centre[0]) / p.focal)
            d = _along(d, up, -(row + 0.5 - p.centre[1]) / p.focal)
            if d[2] > -1e-5:
                continue
            point = _along(origin, d, -origin[2] / d[2])
            if point[0] ** 2 + point[1] ** 2 > p.wall_distance**2:
                continue
            away = _along(centre, point, -1.0)
            off = _along(away, sun, -_dot(away, sun))
            dark = 1.0 - _smoothstep(
                0.8 * size * (1.0 - p.shadow_soft), reach, math.sqrt(_dot(off, off))
            )
            for k in range(3):
                picture[row, column, k] *= np.float32(1.0 - p.shadow * dark)


@njit(error_model="numpy")
def _resolve(depth, paint, box, picture):
    """Average the samples of each pixel over the arm, the object and the platform behind."""
    share = np.float32(1.0 / _SAMPLES**2)
    for row in range(box[0], box[1]):
        for column in range(box[2], box[3]):
            hits = 0
            red, green, blue = np.float32(0.0), np.float32(0.0), np.float32(0.0)
            for y in range(row * _SAMPLES, (row + 1) * _SAMPLES):
                for x in range(column * _SAMPLES, (column + 1) * _SAMPLES):
                    if depth[y, x] < _FAR:
                        hits += 1
                        red += paint[y, x, 0]
                        green += paint[y, x, 1]
                        blue += paint[y, x, 2]
                    depth[y, x] = _FAR
            if hits:
                rest = np.float32(_SAMPLES**2 - hits)
                picture[row, column, 0] = (picture[row, column, 0] * rest + red) * share
                picture[row, column, 1] = (picture[row, column, 1] * rest + green) * share
                picture[row, column, 2] = (picture[row, column, 2] * rest + blue) * share


@njit(error_model="numpy")
def _blur(picture, deviation, top, bottom, left, end, scratch, out):
    """Gaussian blur (five taps) of picture[top:bottom, left:end] into the same part of out."""
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
                    w0 * picture[row, column, k]
                    + w1 * (picture[row, c1, k] + picture[row, c3, k])
                    + w2 * (picture[row, c0, k] + picture[row, c4, k])
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
def _copy(source, target):  # as a loop: compiles in a tenth of the time of target[:] = source
    for row in range(SIZE):
        for column in range(SIZE):
            for k in range(3):
                target[row, column, k] = source[row, column, k]


# Noise and colour response


@njit(error_model="numpy")
def _hash(x):
    """splitmix64: 64 well mixed bits of a counter."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(error_model="numpy")
def _bell(bits):
    """Sum of two 16 bit numbers, as a variable of mean 0 and standard deviation 1."""
    total = np.int64(bits & np.uint64(0xFFFF)) + np.int64(
        (bits >> np.uint64(16)) & np.uint64(0xFFFF)
    )
    return np.float32((total - 65535) * (math.sqrt(6.0) / 65536.0))


@njit(error_model="numpy")
def _add_patches(picture, strength, key):
    """Multiply by a smooth random field: values at a 5 x 5 grid, each channel its own."""
    grid = np.empty((5, 5, 3), np.float32)
    for i in range(25):
        common = _bell(_hash(key + np.uint64(8192 + 4 * i)))
        for k in range(3):
            own = _bell(_hash(key + np.uint64(8193 + 4 * i + k)))
            grid[i // 5, i % 5, k] = strength * (0.8 * common + 0.4 * own)
    for row in range(SIZE):
        y = (row + 0.5) / 16.0
        fy = _smoothstep(0.0, 1.0, y - int(y))
        for column in range(SIZE):
            x = (column + 0.5) / 16.0
            fx = _smoothstep(0.0, 1.0, x - int(x))
            i, j = int(y), int(x)
            for k in range(3):
                upper = grid[i, j, k] + fx * (grid[i, j + 1, k] - grid[i, j, k])
                lower = grid[i + 1, j, k] + fx * (grid[i + 1, j + 1, k] - grid[i + 1, j, k])
                picture[row, column, k] *= np.float32(1.0 + upper + fy * (lower - upper))


@njit(error_model="numpy")
def _develop(p, picture, key, image):
    """Colour response, noise and rounding of `picture` float32 into `image` uint8."""
    third, half = np.float32(1.0 / 3.0), np.float32(0.5)
    saturation, gamma = np.float32(p.saturation), np.float32(p.gamma)
    noise, colour_noise = np.float32(p.noise), np.float32(p.colour_noise)
    top = np.float32(255.0)
    middle = np.float32(0.5 * (SIZE - 1))
    vignette = np.float32(p.vignette / (2.0 * (SIZE / 2) ** 2))
    for row in range(SIZE):
        for column in range(SIZE):
            pixel = picture[row, column]
            off = (np.float32(row) - middle) ** 2 + (np.float32(column) - middle) ** 2
            light = np.float32(1.0) - vignette * off
            grey = (pixel[0] + pixel[1] + pixel[2]) * third
            counter = key + np.uint64(2 * (SIZE * row + column))
            bits, more = _hash(counter), _hash(counter + np.uint64(1))
            common = noise * _bell(bits)
            for k in range(3):
                value = light * (grey + (pixel[k] - grey) * saturation)
                value = max(value * p.gain[k] + p.bias[k], np.float32(0.0))
                if gamma != np.float32(1.0):
                    value = top * (value / top) ** gamma
                own = (
                    _bell(bits >> np.uint64(32))
                    if k == 0
                    else _bell(more >> np.uint64(32 * k - 32))
                )
                value += common + colour_noise * own
                image[row, column, k] = np.uint8(min(max(value + half, np.float32(0.0)), top))


@njit(error_model="numpy")
def _render_image(p, layer, key, solids, depth, paint, picture, scratch, blurred, image):
    view = _camera_axes(p)
    sun = _unit(_vector(p.light))
    u = (math.sin(p.pan), math.cos(p.pan), 0.0)
    w = (math.cos(p.pan), -math.sin(p.pan), 0.0)
    arm = _along(_along(_NONE, u, math.sin(p.tilt)), _UP, math.cos(p.tilt))
    shoulder = _along((0.0, 0.0, p.shoulder_height), w, p.shoulder_offset)
    centre = _along(shoulder, arm, p.arm_length)
    side = _cross(arm, w)
    sin_roll, cos_roll = math.sin(p.object_roll), math.cos(p.object_roll)
    x_axis = _along(_along(_NONE, w, cos_roll), side, sin_roll)
    y_axis = _along(_along(_NONE, side, cos_roll), w, -sin_roll)
    for solid in solids:
        solid.kind = -1.0
    _add_arm(solids, p, u, w, arm, shoulder, centre)
    _add_object(solids, p, centre, (x_axis, y_axis, arm))

    _copy(layer[0], picture)
    _copy(layer[1], blurred)
    shadow_box = np.array([SIZE, 0, SIZE, 0])
    size = math.sqrt(0.5 * (p.radius**2 + p.half_height**2)) * 1.3
    _cast_shadow(p, view, sun, centre, size, picture, shadow_box)
    box = np.array([SIZE, 0, SIZE, 0])
    for solid in solids:
        if solid.kind >= 0.0:
            _draw(solid, p, view, sun, depth, paint, box)
    _resolve(depth, paint, box, picture)
    for changed in (shadow_box, box):
        _blur(
            picture, p.blur, max(changed[0] - 2, 0), min(changed[1] + 2, SIZE),
            max(changed[2] - 2, 0), min(changed[3] + 2, SIZE), scratch, blurred,
        )  # fmt: skip
    if p.patch_noise > 0.0:
        _add_patches(blurred, p.patch_noise, key)
    _develop(p, blurred, key, image)


@njit(nogil=True, error_model="numpy")
def _render_images(parameters, layers, layer_of, keys, images, worker, workers):
    solids = np.empty(_MOST_SOLIDS, _SOLID)
    depth = np.empty((_FINE, _FINE), np.float32)
    for row in range(_FINE):
        for column in range(_FINE):
            depth[row, column] = _FAR
    paint = np.empty((_FINE, _FINE, 3), np.float32)
    picture = np.empty((SIZE, SIZE, 3), np.float32)
    scratch = np.empty((SIZE, SIZE, 3), np.float32)
    blurred = np.empty((SIZE, SIZE, 3), np.float32)
    for i in range(worker, len(parameters), workers):
        _render_image(
            parameters[i], layers[layer_of[i]], _hash(keys[i]), solids, depth, paint,
            picture, scratch, blurred, images[i],
        )  # fmt: skip
