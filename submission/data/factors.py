"""MPI3D's seven factors of variation, and the grids of its files."""

FACTOR_NAMES = (
    *("object_color", "object_shape", "object_size", "camera_height"),
    *("background_color", "horizontal_axis", "vertical_axis"),
)
IMAGE_SHAPE = (64, 64, 3)

# Today's files, by the name the challenge gives them. disentanglement_lib 1.5 hard-codes
# [4, 4, 2, 3, 3, 40, 40] for toy and realistic, which is true of their first release only.
SIZES_BY_COUNT: dict[int, tuple[int, ...]] = {
    1_036_800: (6, 6, 2, 3, 3, 40, 40),
    460_800: (4, 4, 2, 3, 3, 40, 40),
}
