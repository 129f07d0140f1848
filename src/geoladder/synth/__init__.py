"""The synthetic Earth: a seeded generator that writes real formats.

What enters: an `Earth`, grid cells and dates. What leaves: scenes (`scene.render`), MajorTOM Core-S2L2A
archives (`archive.write_archive`) and PhilEO Bench files (`bench.write_bench`). Nothing here is read by a training
run: readers know only the formats. The reasoning, sources and what failed: docs/synthetic_earth.md.

    earth       named random streams, packaged tables    place       grid cell -> climate, coast, people, relief
    seasons     date -> sun, temperature, greenness      materials   spectra
    styles      vegetation and settlement of a place     landscape   terrain, water, parcels, cover
    settlement  plan of roads and buildings              drawing     the plan at 2.5 m, averaged to 10 m
    surface     reflectance of the ground on a date      atmosphere  sun, haze, clouds, shadow
    scene       all of it: one tile on one date          encode      reflectance -> DN -> GeoTIFF bytes
    rows        rows and faults of an archive            archive     MajorTOM writer
    regions     places of PhilEO Bench                   bench       PhilEO Bench writer
    labels      labels of an archive's chips                pool        many tiles on several processes
"""
