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

# Everything an image depends on, one record of float32 each. `scene.parameters` fills it with a
# domain's own values; a caller may change any column of any image before rendering. Lengths are in
# radii of the platform, colours in grey levels, angles in radians; () is a single number.
_SHAPES: dict[str, int | tuple[int, ...]] = {
    # camera: position, angles, focal length and principal point in pixels
    **dict(camera=3, yaw=(), pitch=(), roll=(), focal=(), centre=2),
    # platform: coloured ring (three sectors), thin ring about the foot, walls
    # ring_turn: azimuth of a sector boundary, from +y towards +x
    # ring_soft: share of a sector that blends into the next
    **dict(ring_inner=(), ring_turn=(), ring_soft=(), ring_rgb=(3, 3)),
    **dict(floor_rgb=3, table_rgb=3),  # within the ring, outside it
    **dict(floor_gradient=2),  # relative change of brightness per unit along x, y
    **dict(floor_falloff=()),  # relative loss of brightness at radius 1
    **dict(foot_shadow=2),  # strength, radius of the darker floor about the pillar
    **dict(foot_ring=2, foot_ring_rgb=3, foot_rgb=3),  # inner, outer radius; colour inside it
    **dict(wall_distance=(), wall_turn=(), wall_rgb=3),  # wall_turn: azimuth of the first of six
    **dict(wall_gradient=()),  # relative change of brightness per unit of height
    **dict(wall_spot=()),  # extra brightness in the middle of the back wall
    **dict(seam=()),  # darkness of the corners between walls, 0..1
    **dict(seam_width=()),  # as a share of a wall's half width
    # arm: offsets along the horizontal square to it; length from shoulder to object centre
    **dict(pan=(), tilt=(), shoulder_height=(), shoulder_offset=(), arm_length=()),
    **dict(rod_radius=(), rod_rgb=3),
    **dict(bracket=3, bracket_rgb=3),  # radius, reach behind and before the shoulder
    **dict(plate=3, plate_offset=(), plate_rgb=3),  # half size along w, along u, height
    **dict(plate_texture=(8, 2)),  # brightness of patches of the face towards -w
    # head_rise: above the shoulder; head_reach: as a share of shoulder_offset
    **dict(head_radius=(), head_rise=(), head_reach=(), head_brightness=()),
    **dict(foot_block=3, foot_block_offset=(), foot_block_rgb=3),  # half sizes along w, u, z
    # object; inside_rgb: a cup's inside, a tennis ball's seam
    **dict(shape=(), radius=(), half_height=(), object_roll=(), object_rgb=3, inside_rgb=3),
    # light: the direction towards it, not normalised; sky: share of the ambient light from above
    **dict(light=3, ambient=(), sky=(), diffuse=(), specular=(), shininess=()),
    **dict(shadow=(), shadow_soft=()),  # darkness of the shadow, 0..1
    # colour response and noise of the camera; vignette: relative loss of brightness in the corners
    **dict(vignette=(), saturation=(), gain=3, bias=3, gamma=()),
    **dict(blur=()),  # standard deviation in pixels
    # standard deviations: the same in all channels of a pixel, each channel by itself
    **dict(noise=(), colour_noise=()),
    **dict(patch_noise=()),  # relative, slowly varying over the image
    **dict(palette=()),  # number of colours of the image's own palette, 0 for any colour
}
PARAMETERS = np.dtype([(name, "f4", shape) for name, shape in _SHAPES.items()])
COLUMNS = PARAMETERS.names or ()
# The columns that decide how the empty platform looks: from the camera up to the walls.
BACKGROUND_COLUMNS = (*COLUMNS[: COLUMNS.index("pan")], "blur")
