"""Vectors as tuples of three floats, and the camera's axes, for compiled code."""

import math

from numba import njit

SIZE = 64
FAR = 1e9
ZERO, UP = (0.0, 0.0, 0.0), (0.0, 0.0, 1.0)


@njit(error_model="numpy")
def dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@njit(error_model="numpy")
def cross(a, b):
    return (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])


@njit(error_model="numpy")
def along(a, b, s):
    """The point a + s b."""
    return (a[0] + s * b[0], a[1] + s * b[1], a[2] + s * b[2])


@njit(error_model="numpy")
def unit(a):
    s = 1.0 / math.sqrt(dot(a, a) + 1e-20)
    return (a[0] * s, a[1] * s, a[2] * s)


@njit(error_model="numpy")
def smoothstep(low, high, x):
    t = min(max((x - low) / (high - low), 0.0), 1.0)
    return t * t * (3.0 - 2.0 * t)


@njit(error_model="numpy")
def vec3(column):
    """The three elements of an array as a tuple."""
    return (column[0], column[1], column[2])


@njit(error_model="numpy")
def camera_axes(p):
    """Position and the directions right, up, forward of the camera."""
    sin_yaw, cos_yaw = math.sin(p.yaw), math.cos(p.yaw)
    sin_pitch, cos_pitch = math.sin(p.pitch), math.cos(p.pitch)
    forward = (sin_yaw * cos_pitch, cos_yaw * cos_pitch, -sin_pitch)
    level = (cos_yaw, -sin_yaw, 0.0)
    above = cross(level, forward)
    sin_roll, cos_roll = math.sin(p.roll), math.cos(p.roll)
    right = along(along(ZERO, level, cos_roll), above, sin_roll)
    up = along(along(ZERO, above, cos_roll), level, -sin_roll)
    return vec3(p.camera), right, up, forward


@njit(error_model="numpy")
def project(p, view, point):
    """Column and row in the image, and distance along the camera's axis."""
    origin, right, up, forward = view
    ray = along(point, origin, -1.0)
    ahead = max(dot(ray, forward), 1e-3)
    scale = p.focal / ahead
    return p.centre[0] + scale * dot(ray, right), p.centre[1] - scale * dot(ray, up), ahead
