"""What an image of the rig depends on: one record of parameters, and a domain's numbers for it."""

from dataclasses import dataclass

import numpy as np

from submission.data import factors

DATASET_NAMES = {
    "toy": "mpi3d_toy",
    "realistic": "mpi3d_realistic",
    "real": "mpi3d_real",
    "complex": "mpi3d_real_complex",
}
DOMAINS = tuple(DATASET_NAMES)

# The official names of the last two columns leave open which axis is which; in every file that is
# rendered here, column 5 (counting from 0) tilts the arm and column 6 turns it.
FACTOR_NAMES = (*factors.FACTOR_NAMES[:5], "tilt", "pan")
AXIS_VALUES = 40

# Codes of the solids that the ray caster knows; the first six are MPI3D's shape factor.
CONE, CUBE, CYLINDER, HEXAGONAL, PYRAMID, SPHERE = range(6)
COFFEE_CUP, TENNIS_BALL, CROISSANT, BEER_CUP = range(6, 10)

# Everything an image depends on, one record of float32 each. `scene.parameters` fills it with a
# domain's own values; a caller may change any column of any image before rendering.
PARAMETERS = np.dtype(
    [
        # camera: position, angles in radians, focal length and principal point in pixels
        ("camera", "f4", 3),
        ("yaw", "f4"),
        ("pitch", "f4"),
        ("roll", "f4"),
        ("focal", "f4"),
        ("centre", "f4", 2),
        # platform: coloured ring (three sectors), thin ring about the foot, walls
        ("ring_inner", "f4"),
        ("ring_turn", "f4"),  # azimuth of a sector boundary, radians from +y towards +x
        ("ring_soft", "f4"),  # share of a sector that blends into the next
        ("ring_rgb", "f4", (3, 3)),
        ("floor_rgb", "f4", 3),
        ("table_rgb", "f4", 3),  # outside the ring
        ("floor_gradient", "f4", 2),  # relative change of brightness per unit along x, y
        ("floor_falloff", "f4"),  # relative loss of brightness at radius 1
        ("foot_shadow", "f4", 2),  # strength, radius of the darker floor about the pillar
        ("foot_ring", "f4", 2),  # inner, outer radius
        ("foot_ring_rgb", "f4", 3),
        ("foot_rgb", "f4", 3),  # inside the foot ring
        ("wall_distance", "f4"),
        ("wall_turn", "f4"),  # azimuth of the first of six walls, radians
        ("wall_rgb", "f4", 3),
        ("wall_gradient", "f4"),  # relative change of brightness per unit of height
        ("wall_spot", "f4"),  # extra brightness in the middle of the back wall
        ("seam", "f4"),  # darkness of the corners between walls, 0..1
        ("seam_width", "f4"),  # as a share of a wall's half width
        # arm
        ("pan", "f4"),
        ("tilt", "f4"),
        ("shoulder_height", "f4"),
        ("shoulder_offset", "f4"),  # along w, see `arm_direction`
        ("arm_length", "f4"),  # shoulder to object centre
        ("rod_radius", "f4"),
        ("rod_rgb", "f4", 3),
        ("bracket", "f4", 3),  # radius, reach behind and before the shoulder
        ("bracket_rgb", "f4", 3),
        ("plate", "f4", 3),  # half size along w, along u, height
        ("plate_offset", "f4"),
        ("plate_rgb", "f4", 3),
        ("plate_texture", "f4", (8, 2)),  # brightness of patches of the face towards -w
        ("head_radius", "f4"),
        ("head_rise", "f4"),  # of the head above the shoulder
        ("head_reach", "f4"),  # as a share of shoulder_offset
        ("head_brightness", "f4"),
        ("foot_block", "f4", 3),  # half sizes along w, u, z
        ("foot_block_offset", "f4"),
        ("foot_block_rgb", "f4", 3),
        # object
        ("shape", "f4"),
        ("radius", "f4"),
        ("half_height", "f4"),
        ("object_roll", "f4"),
        ("object_rgb", "f4", 3),
        ("inside_rgb", "f4", 3),  # a cup's inside, a tennis ball's seam
        # light; `light` is the direction towards it, not normalised
        ("light", "f4", 3),
        ("ambient", "f4"),
        ("sky", "f4"),  # share of the ambient light that comes from above
        ("diffuse", "f4"),
        ("specular", "f4"),
        ("shininess", "f4"),
        ("shadow", "f4"),  # darkness of the shadow, 0..1
        ("shadow_soft", "f4"),
        # colour response and noise of the camera
        ("vignette", "f4"),  # relative loss of brightness in the corners
        ("saturation", "f4"),
        ("gain", "f4", 3),
        ("bias", "f4", 3),
        ("gamma", "f4"),
        ("blur", "f4"),  # standard deviation in pixels
        ("noise", "f4"),  # standard deviation, the same in all channels of a pixel
        ("colour_noise", "f4"),  # standard deviation, each channel by itself
        ("patch_noise", "f4"),  # relative, slowly varying over the image
        ("palette", "f4"),  # number of colours of the image's own palette, 0 for any colour
    ]
)
COLUMNS = PARAMETERS.names or ()

# The columns that decide how the empty platform looks: from the camera up to the walls.
BACKGROUND_COLUMNS = (*COLUMNS[: COLUMNS.index("pan")], "blur")
Rgb = tuple[float, float, float]
Scalar = float | tuple[float, float, float]
Colour = Rgb | tuple[Rgb, Rgb, Rgb]


@dataclass(frozen=True)
class Rig:
    """One domain. A field named as a column of PARAMETERS holds that column's value, or three of
    them for the top, center and bottom camera. Angles are in degrees here."""

    # x, y, z, yaw, pitch down, roll
    cameras: tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]
    focal: Scalar
    tilt_step: float
    tilt_zero: float  # tilt angle at index 19.5
    pan_step: float
    pan_zero: float
    colours: tuple[Rgb, ...]  # in the order of the colour factor
    # of a large object: code, radius, half height, roll, shift of its centre along the arm
    shapes: tuple[tuple[int, float, float, float, float], ...]
    small: float  # size of a small object relative to a large one
    object_scale: Scalar  # correction of the object's size in each camera's image
    ring_colours: tuple[Rgb, Rgb, Rgb]  # purple, sea green, salmon
    ring_inner: float
    floor_rgb: Colour
    table_rgb: Colour
    wall_rgb: Colour
    foot_ring: tuple[float, float]
    foot_ring_rgb: Colour
    foot_rgb: Colour
    shoulder_height: float
    shoulder_offset: float
    arm_length: float
    rod_rgb: Colour
    bracket_rgb: Colour
    plate: tuple[float, float, float]
    plate_rgb: Colour
    head_radius: float
    head_rise: float
    head_brightness: float
    foot_block_rgb: Colour
    light: Rgb
    ambient: Scalar
    diffuse: Scalar
    specular: Scalar
    shadow: Scalar
    blur: Scalar
    noise: Scalar
    colour_noise: Scalar
    inside_rgb: Colour = (190.0, 225.0, 195.0)
    ring_turn: float = -70.0
    ring_soft: float = 0.12
    floor_gradient: tuple[float, float] | tuple[tuple[float, float], ...] = (0.0, 0.0)
    floor_falloff: Scalar = 0.0
    foot_shadow: tuple[float, float] | tuple[tuple[float, float], ...] = (0.0, 0.15)
    wall_distance: float = 1.07
    wall_turn: float = -17.0
    wall_gradient: Scalar = 0.0
    wall_spot: Scalar = 0.0
    seam: Scalar = 0.7
    seam_width: float = 0.1
    rod_radius: float = 0.0085
    bracket: tuple[float, float, float] = (0.014, 0.025, 0.06)
    plate_offset: float = 0.004
    plate_texture: tuple[tuple[float, float], ...] = ((1.0, 1.0),) * 8
    head_reach: float = 0.75
    foot_block: tuple[float, float, float] = (0.018, 0.028, 0.032)
    foot_block_offset: float = 0.032
    sky: Scalar = 0.3
    shininess: Scalar = 12.0
    shadow_soft: float = 0.5
    vignette: Scalar = 0.0
    saturation: Scalar = 1.0
    gain: Colour = (1.0, 1.0, 1.0)
    bias: Colour = (0.0, 0.0, 0.0)
    gamma: Scalar = 1.0
    centre: tuple[float, float] = (32.0, 32.0)
    patch_noise: float = 0.0
    palette: float = 0.0
