"""What an image of the rig depends on: one record of parameters."""

import numpy as np

from submission.data import factors

DOMAINS = ("toy", "realistic", "real", "complex")
_NAMES = ("mpi3d_toy", "mpi3d_realistic", "mpi3d_real", "mpi3d_real_complex")
DATASET_NAMES = dict(zip(DOMAINS, _NAMES, strict=True))
# The official names of the last two columns leave open which axis is which; in every file that is
# rendered here, column 5 (counting from 0) tilts the arm and column 6 turns it.
FACTOR_NAMES = (*factors.FACTOR_NAMES[:5], "tilt", "pan")
AXIS_VALUES = 40
# Codes of the solids that the ray caster knows; the first six are MPI3D's shape factor.
CONE, CUBE, CYLINDER, HEXAGONAL, PYRAMID, SPHERE = range(6)
COFFEE_CUP, TENNIS_BALL, CROISSANT, BEER_CUP = range(6, 10)
SOLIDS = (
    *("cone", "cube", "cylinder", "hexagonal", "pyramid", "sphere"),
    *("coffee_cup", "tennis_ball", "croissant", "beer_cup"),
)
# Families of free objects, which no data set shows: see objects.py.
SUPERQUADRIC, TORUS, CAPSULE, PRISM, MUG, CRESCENT, TWO_PARTS = range(10, 17)
# What the heads of an extractor that has seen complex objects name: all colours and solids of the
# four looks; those of the complex objects by their place among them.
COLOURS = ("white", "green", "red", "blue", "brown", "olive", "yellow")
COMPLEX_COLOURS = (6, 1, 5, 2)
COMPLEX_SOLIDS = (COFFEE_CUP, TENNIS_BALL, CROISSANT, BEER_CUP)

# Everything an image depends on, one record of float32 each. `scene.parameters` fills it with a
# domain's own values; a caller may change any column of any image before rendering. Lengths are in
# radii of the platform, colours in grey levels, angles in radians.
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
        ("form", "f4", 5),  # of a complex or free object: see object_solids.py
        # stripes of inside_rgb: 0 none, 1 along the arm, 2 across, 3 a seam; their wave number
        ("stripes", "f4", 2),
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
