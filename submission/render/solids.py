"""The solids that arm and objects are made of, and where a ray hits them.

Solids are stated in their own frame: z is the axis, extents are half sizes. An array of SOLID is
filled by add_arm and object_solids.add_object; raycast.py draws it.
"""

import math

import numpy as np
from numba import njit

from submission.render.vectors import FAR, UP, ZERO, along, cross, dot, unit, vec3

BOX, PLATE, SIDES, REVOLUTION, CUP, BALL, SEAMED_BALL, CAPSULE = range(8)
SUPERQUADRIC, TORUS = 8, 9
SOLID = np.dtype(
    [
        *(("kind", "f8"), ("centre", "f8", 3), ("axes", "f8", (3, 3)), ("extents", "f8", 3)),
        # sides and taper of _hit_sides, profile of _hit_revolution, exponents of a superquadric
        ("extra", "f8", 3),
        *(("rgb", "f8", 3), ("inside_rgb", "f8", 3)),  # of a cup's inside, a ball's seam
        ("stripes", "f8", 2),
        ("gloss", "f8"),
    ]
)
MOST_SOLIDS = 12
_LIP = 0.85  # where the rim of a cup begins, as a share of its radius squared
# Each `_hit` function returns the distance along o + t d, d not normalised, to the nearest hit in
# front (FAR for none), the outward normal there, and whether the surface is seen from inside.
_MISS = (FAR, (0.0, 0.0, 1.0), False)


@njit(error_model="numpy")
def _hit_box(o, d, extents):
    near, far = -FAR, FAR
    axis, sign = 0, 1.0
    for i in range(3):
        slope = d[i] if abs(d[i]) > 1e-9 else 1e-9
        low, high = (-extents[i] - o[i]) / slope, (extents[i] - o[i]) / slope
        if min(low, high) > near:
            near, axis, sign = min(low, high), i, -1.0 if low < high else 1.0
        far = min(far, max(low, high))
    if near > far or near < 1e-4:
        return _MISS
    normal = (sign if axis == 0 else 0.0, sign if axis == 1 else 0.0, sign if axis == 2 else 0.0)
    return near, normal, False


_COS = np.cos(np.arange(6) * np.pi / 3.0)
_SIN = np.sin(np.arange(6) * np.pi / 3.0)


@njit(error_model="numpy")
def _hit_sides(o, d, sides, apothem, half_height, taper):
    """A prism of 3 to 8 sides, tapered, or (taper = apothem / height) a pyramid with its apex at
    +z."""
    slope = d[2] if abs(d[2]) > 1e-9 else 1e-9
    near, far = (-half_height - o[2]) / slope, (half_height - o[2]) / slope
    normal = (0.0, 0.0, -1.0)
    if near > far:
        near, far, normal = far, near, (0.0, 0.0, 1.0)
    length = math.sqrt(1.0 + taper * taper)
    for i in range(sides):
        if sides == 6:
            nx, ny = _COS[i], _SIN[i]
        elif sides == 4:
            nx, ny = float((i == 0) - (i == 2)), float((i == 1) - (i == 3))
        else:
            turn = 2.0 * math.pi * i / sides
            nx, ny = math.cos(turn), math.sin(turn)
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
def apothem_of(sides):
    """Of a polygon about which the unit circle goes; a square's half side is 1."""
    if sides == 4:
        return 1.0
    return math.sqrt(0.75) if sides == 6 else math.cos(math.pi / sides)


@njit(error_model="numpy")
def _hit_revolution(o, d, profile, half_height, closed):
    """The solid x^2 + y^2 <= A + B z + C z^2, |z| <= half height; a cup if its top is open."""
    a0, a1, a2 = profile
    a = d[0] * d[0] + d[1] * d[1] - a2 * d[2] * d[2]
    b = o[0] * d[0] + o[1] * d[1] - 0.5 * a1 * d[2] - a2 * o[2] * d[2]
    c = o[0] * o[0] + o[1] * o[1] - a0 - a1 * o[2] - a2 * o[2] * o[2]
    best, normal = FAR, (0.0, 0.0, 1.0)
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
                normal = unit((o[0] + t * d[0], o[1] + t * d[1], slope))
    if abs(d[2]) > 1e-9:
        for end in (-1.0, 1.0):
            z = end * half_height
            t = (z - o[2]) / d[2]
            x, y = o[0] + t * d[0], o[1] + t * d[1]
            away, edge = x * x + y * y, a0 + a1 * z + a2 * z * z
            lip = away > _LIP * edge
            if away <= edge and (end < 0.0 or closed or lip) and 1e-4 < t < best:
                best, normal = t, (0.0, 0.0, end)
    if best == FAR:
        return _MISS
    if dot(normal, d) > 0.0:
        return best, (-normal[0], -normal[1], -normal[2]), True
    return best, normal, False


@njit(error_model="numpy")
def _hit_ball(o, d, radius):
    a, b, c = dot(d, d), dot(o, d), dot(o, o) - radius * radius
    disc = b * b - a * c
    if disc < 0.0:
        return _MISS
    t = (-b - math.sqrt(disc)) / a
    if t < 1e-4:
        return _MISS
    return t, unit(along(o, d, t)), False


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
        return t, unit((o[0] + t * d[0], o[1] + t * d[1], 0.0)), False
    return _hit_ball((o[0], o[1], o[2] - math.copysign(reach, z)), d, radius)


@njit(error_model="numpy")
def _superquadric(x, y, z, extents, extra):
    """Below 0 inside of (|x/a|^p + |y/b|^p)^(q/p) + |z/c|^q = 1, exponents p, q >= 1 in `extra`:
    2, 2 an ellipsoid, large ones a box, 1 an octahedron."""
    p, q = extra[0], extra[1]
    level = abs(x / extents[0]) ** p + abs(y / extents[1]) ** p
    return level ** (q / p) + abs(z / extents[2]) ** q - 1.0


@njit(error_model="numpy")
def _torus(x, y, z, extents, extra):
    """Below 0 inside of the ring about z: the tube's radius is extents[2], its middle's the rest of
    extents[0]; `extra` is not used."""
    away = math.sqrt(x * x + y * y) - (extents[0] - extents[2])
    return (away * away + z * z) / (extents[2] * extents[2]) - 1.0


_MARCH, _HALVINGS = 40, 14


@njit(error_model="numpy")
def _hit_implicit(o, d, inside, extents, extra):
    """The first change of sign of inside(x, y, z, extents, extra) along the ray, looked for at even
    steps across the solid's box."""
    near, far = 1e-4, FAR
    for i in range(3):
        slope = d[i] if abs(d[i]) > 1e-9 else 1e-9
        low, high = (-extents[i] - o[i]) / slope, (extents[i] - o[i]) / slope
        near, far = max(near, min(low, high)), min(far, max(low, high))
    if near >= far:
        return _MISS
    step = (far - near) / _MARCH
    high = -1.0
    for k in range(1, _MARCH + 1):
        t = near + k * step
        if inside(o[0] + t * d[0], o[1] + t * d[1], o[2] + t * d[2], extents, extra) <= 0.0:
            high = t
            break
    if high < 0.0:
        return _MISS
    low = high - step
    for _ in range(_HALVINGS):
        t = 0.5 * (low + high)
        if inside(o[0] + t * d[0], o[1] + t * d[1], o[2] + t * d[2], extents, extra) <= 0.0:
            high = t
        else:
            low = t
    x, y, z = o[0] + high * d[0], o[1] + high * d[1], o[2] + high * d[2]
    e = 1e-4 * extents[2]
    slope = (
        inside(x + e, y, z, extents, extra) - inside(x - e, y, z, extents, extra),
        inside(x, y + e, z, extents, extra) - inside(x, y - e, z, extents, extra),
        inside(x, y, z + e, extents, extra) - inside(x, y, z - e, extents, extra),
    )
    return high, unit(slope), False


@njit(error_model="numpy")
def add_solid(solids, kind, centre, axes, extents, extra, colour, inside, gloss):
    """Fill the next free record of `solids` (its kind is negative)."""
    n = 0
    while solids[n].kind >= 0.0:
        n += 1
    solid = solids[n]
    solid.kind, solid.gloss = kind, gloss
    solid.stripes[:] = 0.0
    for i in range(3):
        solid.centre[i] = centre[i]
        solid.extents[i] = extents[i]
        solid.extra[i] = extra[i]
        solid.rgb[i] = colour[i]
        solid.inside_rgb[i] = inside[i]
        for k in range(3):
            solid.axes[i, k] = axes[i][k]


@njit(error_model="numpy")
def add_rod(solids, start, end, radius, across, colour, gloss):
    """A capsule between two points; `across` is any unit vector square to its axis."""
    span = along(end, start, -1.0)
    axis, centre = unit(span), along(start, span, 0.5)
    axes = (across, cross(axis, across), axis)
    extents = (radius, radius, 0.5 * math.sqrt(dot(span, span)) + radius)
    add_solid(solids, CAPSULE, centre, axes, extents, ZERO, colour, colour, gloss)


@njit(error_model="numpy")
def add_arc(solids, middle, across, outwards, radius, half_angle, thickness, colour):
    """A bent rod: four capsules along an arc about the direction `outwards`."""
    side = cross(across, outwards)
    for i in range(4):
        a, b = (0.5 * i - 1.0) * half_angle, (0.5 * i - 0.5) * half_angle
        start = along(along(middle, across, radius * math.sin(a)), outwards, radius * math.cos(a))
        end = along(along(middle, across, radius * math.sin(b)), outwards, radius * math.cos(b))
        add_rod(solids, start, end, thickness, side, colour, 1.0)


@njit(error_model="numpy")
def add_arm(solids, p, u, w, arm, shoulder, centre):
    """Pillar, its head and foot, bracket and rod of the record `p`."""
    axes = (w, u, UP)
    base = along(ZERO, w, p.plate_offset)
    half = 0.5 * p.plate[2]
    colour = vec3(p.plate_rgb)
    extents = (p.plate[0], p.plate[1], half)
    add_solid(solids, PLATE, along(base, UP, half), axes, extents, ZERO, colour, colour, 0.0)
    block = along(along(base, w, p.foot_block_offset), UP, p.foot_block[2])
    extents, colour = vec3(p.foot_block), vec3(p.foot_block_rgb)
    add_solid(solids, BOX, block, axes, extents, ZERO, colour, colour, 0.0)
    head = along(base, UP, p.shoulder_height + p.head_rise)
    tip = along(ZERO, w, p.shoulder_offset * p.head_reach)
    tip = along(tip, UP, p.shoulder_height + 0.5 * p.head_rise)
    colour = along(ZERO, vec3(p.plate_rgb), p.head_brightness)
    add_rod(solids, head, tip, p.head_radius, u, colour, 0.0)
    behind, before = along(shoulder, arm, -p.bracket[1]), along(shoulder, arm, p.bracket[2])
    add_rod(solids, behind, before, p.bracket[0], w, vec3(p.bracket_rgb), 0.0)
    end = along(centre, arm, -p.half_height)
    add_rod(solids, shoulder, end, p.rod_radius, w, vec3(p.rod_rgb), 0.0)


@njit(error_model="numpy")
def hit(kind, o, d, extents, extra):
    """Where the ray hits a solid of this kind, all in the solid's frame."""
    if kind in (BOX, PLATE):
        return _hit_box(o, d, extents)
    if kind == SIDES:
        sides = int(extra[0])
        apothem = extents[0] * apothem_of(sides)
        return _hit_sides(o, d, sides, apothem, extents[2], extra[1])
    if kind in (REVOLUTION, CUP):
        return _hit_revolution(o, d, extra, extents[2], kind == REVOLUTION)
    if kind == CAPSULE:
        return _hit_capsule(o, d, extents[0], extents[2] - extents[0])
    if kind == SUPERQUADRIC:
        return _hit_implicit(o, d, _superquadric, extents, extra)
    if kind == TORUS:
        return _hit_implicit(o, d, _torus, extents, extra)
    return _hit_ball(o, d, extents[0])


@njit(error_model="numpy")
def on_seam(normal, bend, width):
    """Whether a ball with this outward normal shows its seam there."""
    return abs(normal[0] ** 2 - normal[1] ** 2 + bend * normal[2]) < width


@njit(error_model="numpy")
def on_stripe(stripes, point, normal):
    """Whether a striped solid (rig.PARAMETERS) has its second colour at a point of its frame."""
    if stripes[0] == 3.0:
        return on_seam(normal, 0.6, 0.16)
    place = point[2] if stripes[0] == 1.0 else point[0]
    return math.sin(stripes[1] * place) > 0.0
