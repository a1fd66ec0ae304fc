"""How large subjects are, where they stand, how they are lit and what shadows they cast: the numbers that
both composers share, this package's (`compose`) and the one on the device (`device`).

Lengths are fractions of the frame. A pair is the range of a uniform distribution.
"""

import re

MARGIN = 0.02  # between a subject and the frame
EXTENT_ALONE = (0.42, 0.75)  # the longer side of a subject
EXTENT_OF_TWO = (0.36, 0.5)
# By the number of subjects that stand side by side: the longer side of each, and where their middles are.
EXTENTS = {2: EXTENT_OF_TWO, 3: (0.28, 0.36), 4: (0.22, 0.28)}
SLOTS = {2: (0.27, 0.73), 3: (0.19, 0.5, 0.81), 4: (0.14, 0.38, 0.62, 0.86)}
SLOT_SPREAD = 0.03
UPRIGHT_SPREAD, LOOSE_SPREAD = 5, 12  # degrees: on the ground, and elsewhere
MOST_DEGREES = 30
LEFT_LONGER, TOP_LONGER = 0.12, 0.08  # the most that perspective lengthens or shortens that side
# Never mirrored: a "magnifying glass tilted left" would tilt right, a "1st place medal" bear a mirrored 1.
SIDED = re.compile(r"\b(left|right)\b|\d")

LIGHT_SIDE = (0.3, 1)
LIGHT_CONTRAST = (0.05, 0.3)
LIGHT_BRIGHTNESS = (0.92, 1.08)
LIGHT_TINT = (0.97, 1.03)
DOWN = 0.6  # how much the light falls off downwards, of how much it falls off sideways

# On a wall or seen from above: the silhouette, moved away from the light.
WALL_SHIFT, WALL_DROP, WALL_BLUR = 0.03, 0.025, 0.02
WALL_DARKENS, WALL_OPACITY = 0.85, 0.75
# Lying on the ground behind the subject: squashed, and sheared away from the light.
GROUND_SQUASH, GROUND_SHEAR, GROUND_BLUR = 0.3, 0.9, 0.012
GROUND_DARKENS, CAST_OPACITY, CONTACT_OPACITY = 0.8, 0.4, 0.6
# A dark ellipse where the subject meets the ground, as wide as its lowest part.
CONTACT_HEIGHT, CONTACT_WIDTH, CONTACT_SINKS = 0.025, 0.7, 0.4
LOWEST_PART = 8  # the last eighth of a subject's height
TOUCHING = 0.3  # of the largest alpha there
