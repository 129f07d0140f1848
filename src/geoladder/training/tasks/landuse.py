"""Land use as OpenStreetMap's polygons name it (`fclass` of Geofabrik's extracts), for scenes of `bench-from-image`.

Uses are not covers: a residential area has roofs, lawns and trees. So these are classes of their own, and not those
of WorldCover under other names.
"""

from geoladder.training.class_map import ClassMap

USES = (
    (1, "forest", "#006400"),
    (2, "scrub", "#ffbb22"),
    (3, "meadow", "#ffff4c"),
    (4, "farm", "#f096ff"),
    (5, "residential", "#fa0000"),
    (6, "water", "#0064c8"),
    (7, "wetland", "#0096a0"),
)

TASK = ClassMap(
    name="landuse",
    title="Land use",
    label="landuse",
    codes=tuple(code for code, _, _ in USES),
    classes=tuple(name for _, name, _ in USES),
    colours=tuple(colour for _, _, colour in USES),
)
