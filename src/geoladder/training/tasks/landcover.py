"""Land cover of ESA WorldCover, in its codes and colours."""

from geoladder.training.class_map import ClassMap

WORLDCOVER = (
    (10, "tree", "#006400"),
    (20, "shrub", "#ffbb22"),
    (30, "grass", "#ffff4c"),
    (40, "crop", "#f096ff"),
    (50, "built", "#fa0000"),
    (60, "bare", "#b4b4b4"),
    (70, "snow", "#f0f0f0"),
    (80, "water", "#0064c8"),
    (90, "wetland", "#0096a0"),
    (95, "mangrove", "#00cf75"),
    (100, "moss", "#fae6a0"),
)

TASK = ClassMap(
    name="landcover",
    title="Land cover",
    label="lc",
    codes=tuple(code for code, _, _ in WORLDCOVER),
    classes=tuple(name for _, name, _ in WORLDCOVER),
    colours=tuple(colour for _, _, colour in WORLDCOVER),
    by_default=True,
)
