"""The MPI3D rig in numbers: cameras, geometry, colours and light of the four domains.

The numbers are estimates, fitted to the sample animations that the makers of MPI3D published
(CC BY 4.0, Gondal et al., NeurIPS 2019); the makers' own values are not known. World frame:
origin at the pillar's foot on the platform, z up, unit of length = outer radius of the coloured
ring. Colours and noise are in grey levels, 0..255.
"""

from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

from submission import data
from submission.errors import UserError

DOMAINS = ("toy", "realistic", "real", "complex")
DATASET_NAMES = {
    "toy": "mpi3d_toy",
    "realistic": "mpi3d_realistic",
    "real": "mpi3d_real",
    "complex": "mpi3d_real_complex",
}
# The official names of the last two columns leave open which axis is which; in every file that is
# rendered here, column 5 (counting from 0) tilts the arm and column 6 turns it.
FACTOR_NAMES = (*data.FACTOR_NAMES[:5], "tilt", "pan")
AXIS_VALUES = 40

# Codes of the solids that the ray caster knows; the first six are MPI3D's shape factor.
CONE, CUBE, CYLINDER, HEXAGONAL, PYRAMID, SPHERE = range(6)
COFFEE_CUP, TENNIS_BALL, CROISSANT, BEER_CUP = range(6, 10)

# Everything a picture depends on, one record of float32 an image. `parameters` fills it with a
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
        ("patch_noise", "f4"),  # relative, slowly varying over the picture
        ("palette", "f4"),  # number of colours of the picture's own palette, 0 for any colour
    ]
)
COLUMNS = PARAMETERS.names or ()
# The columns that decide the picture of the empty platform: from the camera up to the walls.
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
    object_scale: Scalar  # correction of the object's size in each camera's picture
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


# The numbers below come out of a fit of rendered to published frames (mean absolute difference).
# The samples' palettes falsify brown, olive and salmon: those colours are set by hand, and so is
# complex's purple ring. Each domain's samples show two of the cameras in one pose only.
TOY = Rig(
    cameras=(
        (0.345, -1.06, 1.56, -16.6, 49.5, -0.1),
        (0.318, -1.27, 1.295, -15.06, 37.76, 0.0),
        (0.404, -1.481, 0.959, -13.5, 22.42, 0.1),
    ),
    focal=97.95,
    tilt_step=4.7425,
    tilt_zero=0.16,
    pan_step=4.6612,
    pan_zero=1.38,
    colours=(
        (236, 236, 236),
        (40, 160, 38),
        (218, 0, 0),
        (42, 110, 215),
        (85, 52, 34),
        (123, 122, 50),
    ),
    shapes=(
        (CONE, 0.0826, 0.0792, 0, 0.0),
        (CUBE, 0.0872, 0.0826, 3, 0.0),
        (CYLINDER, 0.0795, 0.0870, 0, 0.0),
        (HEXAGONAL, 0.0955, 0.0857, -29, 0.0),
        (PYRAMID, 0.0821, 0.0793, 1, 0.0),
        (SPHERE, 0.0841, 0.0841, 0, 0.0),
    ),
    small=0.7,
    object_scale=(0.97, 0.95, 0.98),
    ring_colours=((93, 69, 133), (65, 91, 87), (100, 70, 79)),
    ring_inner=0.8089,
    floor_rgb=(52, 52, 52),
    table_rgb=(52, 52, 52),
    wall_rgb=(52, 52, 52),
    foot_ring=(0.0416, 0.0729),
    foot_ring_rgb=(161, 161, 161),
    foot_rgb=(174, 174, 174),
    shoulder_height=0.3303,
    shoulder_offset=-0.0467,
    arm_length=0.3484,
    rod_rgb=(170, 171, 172),
    bracket_rgb=(168, 164, 167),
    plate=(0.0223, 0.0404, 0.345),
    plate_rgb=(139, 140, 140),
    head_radius=0.037,
    head_rise=0.0202,
    head_brightness=1.18,
    foot_block_rgb=(194, 195, 192),
    light=(0.02, -0.12, 1.0),
    ambient=0.48,
    diffuse=0.57,
    specular=1.3,
    shadow=0.0,
    blur=0.3,
    noise=0.2,
    colour_noise=0.3,
    ring_turn=-69.06,
    ring_soft=0.02,
    seam=0.0,
    rod_radius=0.0099,
    bracket=(0.0185, 0.0262, 0.0673),
    plate_texture=(
        (2.46, 2.43),
        (0.98, 1.46),
        (1.04, 1.04),
        (0.95, 0.97),
        (1.27, 1.03),
        (0.94, 0.94),
        (0.97, 1.02),
        (1.24, 0.82),
    ),
    head_reach=0.31,
    foot_block=(0.0116, 0.0402, 0.045),
    foot_block_offset=0.0204,
    sky=0.18,
    shininess=2.4,
)

REALISTIC = Rig(
    cameras=(
        (0.341, -1.048, 1.544, -16.8, 48.88, -0.3),
        (0.33, -1.235, 1.27, -16.4, 37.05, -0.25),
        (0.39, -1.42, 0.955, -14.5, 22.4, 0.0),
    ),
    focal=98.05,
    tilt_step=4.6138,
    tilt_zero=1.69,
    pan_step=4.6006,
    pan_zero=-0.73,
    colours=(
        (254, 264, 254),
        (83, 149, 84),
        (203, 32, 26),
        (54, 109, 173),
        (72, 58, 45),
        (110, 112, 55),
    ),
    shapes=(
        (CONE, 0.0734, 0.0835, 0, 0.0),
        (CUBE, 0.0780, 0.0798, 1, 0.0),
        (CYLINDER, 0.0743, 0.0789, 0, 0.0),
        (HEXAGONAL, 0.0908, 0.0786, -24, 0.0),
        (PYRAMID, 0.0758, 0.0771, 12, 0.0),
        (SPHERE, 0.0766, 0.0766, 0, 0.0),
    ),
    small=0.7,
    object_scale=(0.93, 0.92, 0.95),
    ring_colours=((91, 85, 121), (73, 104, 89), (97, 86, 82)),
    ring_inner=0.7969,
    floor_rgb=((51, 59, 51), (53, 61, 53), (61, 70, 61)),
    table_rgb=((45, 52, 45), (45, 52, 45), (51, 59, 50)),
    wall_rgb=((21, 24, 20), (18, 21, 18), (17, 20, 17)),
    foot_ring=(0.078, 0.1),
    foot_ring_rgb=(62, 71, 61),
    foot_rgb=(43, 50, 47),
    shoulder_height=0.332,
    shoulder_offset=-0.0403,
    arm_length=0.3335,
    rod_rgb=(60, 67, 60),
    bracket_rgb=(62, 72, 63),
    plate=(0.0152, 0.0405, 0.3572),
    plate_rgb=(29, 34, 29),
    head_radius=0.0199,
    head_rise=0.0293,
    head_brightness=2.8,
    foot_block_rgb=(34, 30, 28),
    light=(0.1, -0.15, 1.0),
    ambient=0.49,
    diffuse=0.58,
    specular=53.7,
    shadow=0.1,
    blur=0.42,
    noise=1.5,
    colour_noise=1.0,
    ring_turn=-67.0,
    ring_soft=0.09,
    floor_gradient=((0.02, 0.04), (-0.07, 0.02), (0.0, 0.05)),
    floor_falloff=(0.02, 0.0, 0.0),
    foot_shadow=((0.06, 0.29), (0.08, 0.28), (0.15, 0.3)),
    wall_distance=1.1051,
    wall_turn=-16.26,
    wall_gradient=(0.17, -0.03, -0.48),
    wall_spot=(0.03, 0.27, 0.58),
    seam=(0.12, 0.0, 0.4),
    seam_width=0.05,
    rod_radius=0.0074,
    bracket=(0.0212, 0.0211, 0.11),
    plate_offset=0.0022,
    plate_texture=(
        (1.85, 1.64),
        (1.77, 1.39),
        (1.5, 1.0),
        (1.41, 1.3),
        (1.34, 1.01),
        (1.08, 0.49),
        (0.9, 0.33),
        (1.11, 1.89),
    ),
    head_reach=0.65,
    foot_block=(0.0161, 0.0323, 0.0316),
    foot_block_offset=0.0189,
    sky=-0.12,
    shininess=3.5,
    shadow_soft=0.9,
    saturation=1.05,
)

REAL = Rig(
    cameras=(
        (0.38, -0.95, 1.56, -20.5, 50.3, 1.4),
        (0.321, -1.244, 1.311, -14.0, 37.47, 0.53),
        (0.41, -1.428, 0.966, -15.3, 23.08, 0.73),
    ),
    focal=98.0,
    tilt_step=4.6003,
    tilt_zero=0.3,
    pan_step=4.6036,
    pan_zero=-0.05,
    colours=(
        (208, 241, 228),
        (62, 111, 73),
        (178, 56, 53),
        (78, 112, 145),
        (85, 72, 66),
        (98, 112, 78),
    ),
    shapes=(
        (CONE, 0.0800, 0.0785, 0, 0.0),
        (CUBE, 0.0745, 0.0771, -4, 0.0),
        (CYLINDER, 0.0784, 0.0774, 0, 0.0),
        (HEXAGONAL, 0.0900, 0.0785, 28, 0.0),
        (PYRAMID, 0.0839, 0.0794, -1, 0.0),
        (SPHERE, 0.0807, 0.0807, 0, 0.0),
    ),
    small=0.7,
    object_scale=(0.97, 1.0, 0.98),
    ring_colours=((117, 110, 166), (95, 131, 126), (119, 106, 103)),
    ring_inner=0.8182,
    floor_rgb=((49, 58, 51), (42, 52, 46), (42, 53, 45)),
    table_rgb=((45, 69, 54), (61, 80, 69), (43, 78, 39)),
    wall_rgb=((5, 10, 6), (11, 16, 13), (7, 11, 8)),
    foot_ring=(0.08, 0.1),
    foot_ring_rgb=(32, 40, 35),
    foot_rgb=((56, 66, 58), (34, 44, 37), (15, 25, 20)),
    shoulder_height=0.3294,
    shoulder_offset=-0.0526,
    arm_length=0.3715,
    rod_rgb=(24, 30, 25),
    bracket_rgb=(36, 46, 40),
    plate=(0.0151, 0.0413, 0.3676),
    plate_rgb=((14, 24, 15), (15, 22, 15), (9, 10, 10)),
    head_radius=0.0228,
    head_rise=-0.0003,
    head_brightness=0.73,
    foot_block_rgb=(18, 20, 18),
    light=(0.64, -0.23, 1.0),
    ambient=0.46,
    diffuse=0.6,
    specular=0.0,
    shadow=0.27,
    blur=0.36,
    noise=0.5,
    colour_noise=0.6,
    ring_soft=0.1,
    floor_gradient=((0.13, -0.22), (0.04, -0.16), (0.13, -0.09)),
    floor_falloff=(0.28, 0.41, 0.52),
    wall_distance=1.1009,
    wall_turn=-17.96,
    wall_gradient=(-0.46, -0.11, 0.85),
    wall_spot=(1.98, 1.52, 3.08),
    seam=(0.09, 0.29, 0.53),
    seam_width=0.18,
    rod_radius=0.0087,
    bracket=(0.0185, 0.0224, 0.0605),
    plate_offset=0.0004,
    plate_texture=(
        (1.65, 2.05),
        (1.71, 1.91),
        (1.62, 1.47),
        (1.18, 1.67),
        (1.22, 1.37),
        (0.77, 0.76),
        (0.47, 0.3),
        (0.3, 1.39),
    ),
    head_reach=0.86,
    foot_block=(0.0239, 0.0347, 0.0344),
    foot_block_offset=0.0372,
    sky=0.03,
    shininess=17.7,
    shadow_soft=0.9,
    vignette=(0.06, 0.1, 0.06),
    saturation=(1.15, 1.18, 1.06),
    gain=((1.04, 1.0, 1.02), (1.0, 1.0, 1.0), (1.24, 1.14, 1.21)),
    bias=((0.0, -0.6, 0.0), (0.0, 0.0, 0.0), (-8.18, -4.64, -8.84)),
)

COMPLEX = replace(
    REAL,
    cameras=(
        (0.356, -0.977, 1.561, -19.61, 49.64, 0.16),
        (0.305, -1.233, 1.315, -13.99, 37.48, -0.08),
        (0.385, -1.441, 0.965, -15.15, 23.08, 0.49),
    ),
    tilt_step=4.6068,
    tilt_zero=-2.47,
    pan_step=4.92,
    pan_zero=-0.32,
    colours=((225, 150, 90), (50, 139, 70), (95, 105, 80), (344, 67, 44)),
    shapes=(
        (COFFEE_CUP, 0.1278, 0.0874, -6, -0.0075),
        (TENNIS_BALL, 0.0728, 0.0728, 0, 0.005),
        (CROISSANT, 0.0914, 0.0146, -30, -0.0161),
        (BEER_CUP, 0.0508, 0.0812, -63, -0.0024),
    ),
    small=0.69,
    object_scale=1.0,
    ring_colours=((106, 100, 150), (98, 124, 107), (121, 108, 107)),
    ring_inner=0.8039,
    floor_rgb=((42, 48, 43), (34, 46, 40), (35, 51, 40)),
    table_rgb=((66, 79, 56), (69, 96, 78), (43, 65, 38)),
    wall_rgb=((7, 6, 4), (10, 15, 11), (8, 12, 8)),
    foot_ring_rgb=(21, 31, 26),
    foot_rgb=((14, 17, 11), (16, 26, 20), (10, 18, 9)),
    shoulder_height=0.3377,
    shoulder_offset=-0.0563,
    arm_length=0.3581,
    rod_rgb=(24, 29, 23),
    bracket_rgb=(18, 24, 18),
    plate=(0.0156, 0.0464, 0.3441),
    plate_rgb=((23, 24, 20), (18, 25, 18), (16, 19, 12)),
    head_radius=0.0209,
    head_rise=-0.0095,
    head_brightness=1.1,
    foot_block_rgb=(19, 19, 17),
    light=(0.06, -0.27, 1.0),
    ambient=0.34,
    diffuse=0.8,
    shadow=0.12,
    inside_rgb=(200, 219, 191),
    ring_soft=0.03,
    floor_gradient=((0.09, -0.38), (0.07, -0.25), (0.0, -0.31)),
    floor_falloff=(0.4, 0.61, 0.58),
    foot_shadow=((0.14, 0.11), (0.01, 0.15), (0.5, 0.12)),
    wall_distance=1.0962,
    wall_turn=-14.66,
    wall_gradient=(-0.53, -0.1, 0.3),
    wall_spot=(0.74, 0.77, 2.21),
    seam=(0.08, 0.25, 0.3),
    seam_width=0.23,
    rod_radius=0.0058,
    bracket=(0.017, 0.0222, 0.1248),
    plate_offset=0.0129,
    plate_texture=(
        (1.05, 1.22),
        (0.97, 1.12),
        (0.85, 1.04),
        (0.9, 1.16),
        (0.55, 0.85),
        (0.43, 0.68),
        (0.43, 0.59),
        (0.57, 1.25),
    ),
    head_reach=0.83,
    foot_block=(0.0337, 0.0466, 0.0391),
    foot_block_offset=0.0219,
    sky=0.2,
    shininess=6.9,
    vignette=(0.04, 0.01, 0.07),
    saturation=(1.17, 1.12, 1.1),
    gain=((1.03, 0.97, 0.96), (1.0, 1.0, 1.0), (1.16, 1.1, 1.08)),
    bias=((-6.17, -2.04, -1.92), (0.0, 0.0, 0.0), (-8.1, -6.88, -5.08)),
)

RIGS = {"toy": TOY, "realistic": REALISTIC, "real": REAL, "complex": COMPLEX}


def rig_of(domain: str) -> Rig:
    """The rig of a domain; UserError if there is no such domain."""
    if domain not in RIGS:
        raise UserError(f"Unknown domain '{domain}': choose one of {', '.join(DOMAINS)}.")
    return RIGS[domain]


def factor_sizes(domain: str, axis_steps: int = AXIS_VALUES) -> tuple[int, ...]:
    """Number of values of each factor, in the order of FACTOR_NAMES."""
    rig = rig_of(domain)
    return (len(rig.colours), len(rig.shapes), 2, 3, 3, axis_steps, axis_steps)


def axis_indices(axis_steps: int) -> npt.NDArray[np.int64]:
    """Which of the 40 values of an axis a grid of `axis_steps` values keeps, int64 (axis_steps,).

    They are spread evenly from 0 to 39 and rounded to whole indices, so that a thinned set holds
    a subset of the full set's images. UserError outside 2..40.
    """
    if not 2 <= axis_steps <= AXIS_VALUES:
        raise UserError(
            f"--axis-steps {axis_steps} is outside 2..{AXIS_VALUES}: choose how many of the "
            f"{AXIS_VALUES} values of each axis to keep."
        )
    return np.rint(np.linspace(0, AXIS_VALUES - 1, axis_steps)).astype(np.int64)


def parameters(domain: str, factors: npt.NDArray[np.int64], rig: Rig | None = None) -> np.ndarray:
    """What the pictures of these factors depend on, before any randomisation.

    `factors` is int (n, 7) in the order of FACTOR_NAMES, with the axes as indices 0..39. Returns
    a structured array (n,) of dtype PARAMETERS; its `.view(np.float32).reshape(n, -1)` is a plain
    float32 matrix. `rig` replaces the domain's own numbers.
    """
    rig = rig or rig_of(domain)
    colour, shape, size, height, background, tilt, pan = factors.T
    columns = np.zeros(len(factors), PARAMETERS)
    for field in fields(rig):
        if field.name in COLUMNS:
            value = np.asarray(getattr(rig, field.name), np.float32)
            per_camera = value.ndim > len(PARAMETERS[field.name].shape)
            columns[field.name] = value[height] if per_camera else value
    for name in ("ring_turn", "wall_turn"):
        columns[name] = np.radians(columns[name])

    cameras = np.asarray(rig.cameras)[height]
    columns["camera"] = cameras[:, :3]
    columns["yaw"], columns["pitch"], columns["roll"] = np.radians(cameras[:, 3:]).T
    middle = (AXIS_VALUES - 1) / 2
    columns["tilt"] = np.radians((tilt - middle) * rig.tilt_step + rig.tilt_zero)
    columns["pan"] = np.radians((pan - middle) * rig.pan_step + rig.pan_zero)

    shapes = np.asarray(rig.shapes)[shape]
    correction = np.broadcast_to(np.asarray(rig.object_scale), (3,))[height]
    scale = np.where(size == 1, 1.0, rig.small) * correction
    columns["shape"] = shapes[:, 0]
    columns["radius"] = shapes[:, 1] * scale
    columns["half_height"] = shapes[:, 2] * scale
    columns["object_roll"] = np.radians(shapes[:, 3])
    columns["arm_length"] += shapes[:, 4] * scale
    columns["object_rgb"] = np.asarray(rig.colours)[colour]
    # The factor's colour lies at the far side; clockwise from it come the others as fixed on
    # the turning platform.
    order = (background[:, None] + np.array([0, 2, 1])) % 3
    columns["ring_rgb"] = np.asarray(rig.ring_colours)[order]
    return columns
