"""What pixels and places are called: bands and reflectance, encoded places, climates, classes of maps.

Enters: DN, coordinates in degrees, codes. Leaves: reflectance, encodings and classes. Imports no other room of data.
"""
