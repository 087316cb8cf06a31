"""Regions of a map: boxes and areas in pixels of the picture, each region whole."""

import numpy as np

from ndpnet.inference.regions import find_regions


def test_boxes_and_areas_are_in_pixels_of_the_picture() -> None:
    above = np.zeros((8, 8), dtype=bool)
    above[2:4, 1:3] = True
    above[4, 3] = True  # touches by its corner: the same region
    above[7, 7] = True
    scores = np.where(above, 0.5, 0.0)
    scores[7, 7] = 0.75
    first, second = find_regions(above, scores, size=(16, 24))
    assert (first.left, first.top, first.width, first.height, first.area, first.score) == (21, 14, 3, 2, 6, 0.75)
    assert (second.left, second.top, second.width, second.height, second.area) == (3, 4, 9, 6, 30)
    small = find_regions(above, scores, size=(4, 4))
    assert [(region.left, region.top, region.width, region.height, region.area) for region in small] == [
        (3, 3, 1, 1, 1),
        (0, 1, 2, 2, 1),
    ]
    assert find_regions(np.zeros((8, 8), dtype=bool), scores, size=(16, 16)) == ()
