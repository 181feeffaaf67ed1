"""The empty platform: floor, coloured ring and walls."""

import math

import numpy as np
from numba import njit

from submission.render.camera import blur
from submission.render.vectors import FAR, SIZE, along, camera_axes, smoothstep, vec3

_PLATFORM_SAMPLES = 2


@njit(error_model="numpy")
def _wall_shade(p, wall, point, side):
    shade = max(1.0 + p.wall_gradient * point[2], 0.1)
    if wall == 0:  # the back wall
        shade += p.wall_spot * math.exp(-2.0 * side * side - 3.0 * (point[2] - 0.9) ** 2)
    return shade * (1.0 - p.seam * smoothstep(1.0 - p.seam_width, 1.0 - 0.5 * p.seam_width, side))


@njit(error_model="numpy")
def _platform_colour(p, walls, origin, d):
    """Colour of the empty platform, or of the walls with normals (6, 2), along a ray."""
    t = -origin[2] / d[2] if d[2] < -1e-5 else FAR
    x, y = origin[0] + t * d[0], origin[1] + t * d[1]
    radius = math.sqrt(x * x + y * y)
    nearest, wall, wall_x, wall_y = FAR, 0, 0.0, 0.0
    if radius > p.wall_distance:  # the walls' inscribed circle
        for i in range(6):
            nx, ny = walls[i, 0], walls[i, 1]
            towards = d[0] * nx + d[1] * ny
            if towards > 1e-6:
                distance = (p.wall_distance - origin[0] * nx - origin[1] * ny) / towards
                if distance < nearest:
                    nearest, wall, wall_x, wall_y = distance, i, nx, ny
    if nearest < t:
        point = along(origin, d, nearest)
        half_width = p.wall_distance * math.tan(math.pi / 6.0)
        side = abs(point[1] * wall_x - point[0] * wall_y) / half_width
        shade = _wall_shade(p, wall, point, side)
        return (p.wall_rgb[0] * shade, p.wall_rgb[1] * shade, p.wall_rgb[2] * shade)

    shade = 1.0 + p.floor_gradient[0] * x + p.floor_gradient[1] * y
    shade = max(shade - p.floor_falloff * radius * radius, 0.2)
    from_shadow = (x * x + (y + 0.06) ** 2) / p.foot_shadow[1] ** 2
    shade *= 1.0 - p.foot_shadow[0] * math.exp(-from_shadow)
    if radius < p.foot_ring[0]:
        colour, shade = vec3(p.foot_rgb), 1.0
    elif radius < p.foot_ring[1]:
        colour, shade = vec3(p.foot_ring_rgb), 1.0
    elif radius < p.ring_inner:
        colour = vec3(p.floor_rgb)
    elif radius < 1.0:
        turn = (math.atan2(x, y) - p.ring_turn) / (2.0 * math.pi) * 3.0
        turn -= 3.0 * math.floor(turn / 3.0)
        sector = min(int(turn), 2)
        here, there = p.ring_rgb[sector], p.ring_rgb[(sector + 1) % 3]
        mix = smoothstep(1.0 - p.ring_soft, 1.0, turn - sector)
        red, green = here[0] + mix * (there[0] - here[0]), here[1] + mix * (there[1] - here[1])
        colour = (red, green, here[2] + mix * (there[2] - here[2]))
        shade = 0.5 + 0.5 * shade  # the ring is glossier than the floor
    else:
        colour = vec3(p.table_rgb)
    return (colour[0] * shade, colour[1] * shade, colour[2] * shade)


@njit(nogil=True, error_model="numpy")
def cast_platforms(parameters, layers, worker, workers):
    """Fill layers, float32 (n, 2, 64, 64, 3): each record's empty platform, sharp and blurred."""
    scratch = np.empty((SIZE, SIZE, 3), np.float32)
    walls = np.empty((6, 2))
    for i in range(worker, len(parameters), workers):
        p = parameters[i]
        origin, right, up, forward = camera_axes(p)
        for wall in range(6):
            walls[wall, 0] = math.sin(p.wall_turn + wall * math.pi / 3.0)
            walls[wall, 1] = math.cos(p.wall_turn + wall * math.pi / 3.0)
        for row in range(SIZE):
            for column in range(SIZE):
                red, green, blue = 0.0, 0.0, 0.0
                for sample in range(_PLATFORM_SAMPLES**2):
                    sx = (sample % _PLATFORM_SAMPLES + 0.5) / _PLATFORM_SAMPLES
                    sy = (sample // _PLATFORM_SAMPLES + 0.5) / _PLATFORM_SAMPLES
                    d = along(forward, right, (column + sx - p.centre[0]) / p.focal)
                    d = along(d, up, -(row + sy - p.centre[1]) / p.focal)
                    colour = _platform_colour(p, walls, origin, d)
                    red, green, blue = red + colour[0], green + colour[1], blue + colour[2]
                for k, total in enumerate((red, green, blue)):
                    layers[i, 0, row, column, k] = total / _PLATFORM_SAMPLES**2
        blur(layers[i, 0], p.blur, 0, SIZE, 0, SIZE, scratch, layers[i, 1])
