"""The solids of which the objects on the arm's end are made."""

import math

from numba import njit

from submission.render import rig
from submission.render.solids import (
    BALL,
    BOX,
    CAPSULE,
    CUP,
    REVOLUTION,
    SEAMED_BALL,
    SIDES,
    SUPERQUADRIC,
    TORUS,
    add_arc,
    add_rod,
    add_solid,
    apothem_of,
)
from submission.render.vectors import ZERO, along, vec3


@njit(error_model="numpy")
def add_object(solids, p, centre, axes):
    """The manipulated object of the record `p`, its z axis along the arm."""
    first = 0
    while solids[first].kind >= 0.0:
        first += 1
    if int(p.shape) < rig.SUPERQUADRIC:
        _add_named(solids, p, centre, axes)
    else:
        _add_free(solids, p, centre, axes)
    for n in range(first, len(solids)):
        solids[n].stripes[0], solids[n].stripes[1] = p.stripes[0], p.stripes[1]


@njit(error_model="numpy")
def _add_named(solids, p, centre, axes):
    """One of MPI3D's ten objects."""
    shape, r, h = int(p.shape), p.radius, p.half_height
    colour, inside = vec3(p.object_rgb), vec3(p.inside_rgb)
    if shape == rig.CROISSANT:
        _add_croissant(solids, p, centre, axes)
        return
    if shape in (rig.COFFEE_CUP, rig.BEER_CUP):
        _add_cup(solids, p, centre, axes)
        return
    kind, extents, extra = REVOLUTION, (r, r, h), (r * r, 0.0, 0.0)
    if shape == rig.CUBE:
        kind = BOX
    elif shape == rig.HEXAGONAL:
        kind, extra = SIDES, (6.0, 0.0, 0.0)
    elif shape == rig.PYRAMID:
        kind, extra = SIDES, (4.0, 0.5 * r / h, 0.0)
    elif shape == rig.CONE:
        extra = _cone(r, h)
    elif shape == rig.SPHERE:
        kind = BALL
    elif shape == rig.TENNIS_BALL:
        kind = SEAMED_BALL
    add_solid(solids, kind, centre, axes, extents, extra, colour, inside, 1.0)


@njit(error_model="numpy")
def _add_cup(solids, p, centre, axes):
    """Half an ellipse turned about the arm, upright at the rim and cut off where its foot is.

    `form`: the foot's share of the rim's radius; the handle's radius, place and thickness in half
    heights, its half angle.
    """
    r, h = p.radius, p.half_height
    foot, reach, place, thickness, half_angle = p.form
    colour, inside = vec3(p.object_rgb), vec3(p.inside_rgb)
    b = (1.0 - foot**2) * r * r
    profile = (r * r - 0.25 * b, 0.5 * b / h, -0.25 * b / (h * h))
    add_solid(solids, CUP, centre, axes, (r, r, h), profile, colour, inside, 1.0)
    x_axis, _, z_axis = axes
    wall = math.sqrt(r * r - 0.25 * b * (1.0 - place) ** 2)
    middle = along(along(centre, x_axis, wall), z_axis, place * h)
    add_arc(solids, middle, z_axis, x_axis, reach * h, half_angle, thickness * h, colour)


@njit(error_model="numpy")
def _add_croissant(solids, p, centre, axes):
    """Six rods along an arc square to the arm, thin at its ends.

    `form`: half angle; the ends' loss of thickness; how far the bulge leans along the arm, in
    radians; how far its middle lies off the arm, in radii.
    """
    r, half_angle, taper, lean, shift = p.radius, p.form[0], p.form[1], p.form[2], p.form[3]
    x_axis, y_axis, z_axis = axes
    bulge = along(along(ZERO, x_axis, -math.cos(lean)), z_axis, math.sin(lean))
    middle = along(centre, bulge, (shift - 1.0) * r)
    colour = vec3(p.object_rgb)
    for i in range(6):
        a, b = (i / 3.0 - 1.0) * half_angle, ((i + 1) / 3.0 - 1.0) * half_angle
        start = along(along(middle, y_axis, r * math.sin(a)), bulge, r * math.cos(a))
        end = along(along(middle, y_axis, r * math.sin(b)), bulge, r * math.cos(b))
        thickness = p.half_height * (1.0 - taper * abs((i + 0.5) / 3.0 - 1.0))
        add_rod(solids, start, end, thickness, z_axis, colour, 1.0)


@njit(error_model="numpy")
def _cone(r, h):
    """Profile of a cone: radius r at -h, 0 at h."""
    k = (0.5 * r / h) ** 2
    return (k * h * h, -2.0 * k * h, k)


@njit(error_model="numpy")
def _add_handle(solids, p, centre, axes, radius, thickness):
    x_axis, _, z_axis = axes
    handle = along(along(centre, x_axis, 0.92 * p.radius), z_axis, 0.2 * p.half_height)
    colour = vec3(p.object_rgb)
    add_arc(solids, handle, z_axis, x_axis, radius, 1.2, thickness, colour)


@njit(error_model="numpy")
def _add_free(solids, p, centre, axes):
    """An object of a free family, of the three numbers `form` beside radius and half height."""
    shape, r, h = int(p.shape), p.radius, p.half_height
    a, b, c = p.form[0], p.form[1], p.form[2]
    _, y_axis, z_axis = axes
    colour, inside = vec3(p.object_rgb), vec3(p.inside_rgb)
    if shape == rig.CRESCENT:  # half angle, sign of its bulge
        back = along(ZERO, z_axis, -1.0 if b < 0.5 else 1.0)
        add_arc(solids, along(centre, back, -r), y_axis, back, r, a, h, colour)
        return
    kind, extents, extra = SUPERQUADRIC, (r, a * r, h), (b, c, 0.0)  # width, two exponents
    if shape == rig.TORUS:
        kind, extents = TORUS, (r, r, h)
    elif shape == rig.CAPSULE:
        kind, extents = CAPSULE, (min(r, h), min(r, h), h)
    elif shape == rig.PRISM:  # sides, taper: 0 none, 1 to an apex
        kind, extents = SIDES, (r, r, h)
        extra = (a, 0.5 * b * r * apothem_of(int(a)) / h, 0.0)
    elif shape == rig.MUG:  # the foot's share of the rim's radius, whether there is a handle
        foot = a * a * r * r
        kind, extents = CUP, (r, r, h)
        extra = (0.5 * (r * r + foot), 0.5 * (r * r - foot) / h, 0.0)
        if b > 0.5:
            _add_handle(solids, p, centre, axes, c * h, 0.25 * c * h)
    elif shape == rig.TWO_PARTS:  # which two, the upper one's share of the height
        lower = along(centre, z_axis, -c * h)
        upper = along(centre, z_axis, (1.0 - c) * h)
        _add_part(solids, int(a) // 4, lower, axes, r, (1.0 - c) * h, colour, inside)
        _add_part(solids, int(a) % 4, upper, axes, b * r, c * h, inside, colour)
        return
    add_solid(solids, kind, centre, axes, extents, extra, colour, inside, 1.0)


@njit(error_model="numpy")
def _add_part(solids, part, centre, axes, r, h, colour, inside):
    """A cylinder, box, cone or ellipsoid."""
    kind, extra = REVOLUTION, (r * r, 0.0, 0.0)
    if part == 1:
        kind = BOX
    elif part == 2:
        extra = _cone(r, h)
    elif part == 3:
        kind, extra = SUPERQUADRIC, (2.0, 2.0, 0.0)
    add_solid(solids, kind, centre, axes, (r, r, h), extra, colour, inside, 1.0)
