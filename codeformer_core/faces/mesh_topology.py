"""Which of the 468 points of MediaPipe's face mesh lie where: numbers of its canonical face model.

Left and right are those of the image: the left eye of an upright face is on its left.
"""

from __future__ import annotations

MESH_POINTS = 468
# The corners of the eye and of the mouth that are on the left of an upright face come first. An eye's centre is the
# middle between its corners: neither where it looks nor a blink moves it, as both move an iris.
LEFT_EYE = (33, 133)
RIGHT_EYE = (362, 263)
NOSE_TIP = 1
LEFT_MOUTH_CORNER = 61
RIGHT_MOUTH_CORNER = 291
FOREHEAD, CHIN = 10, 152

# The mesh's points for the usual 68, part by part in their order: of each contour those nearest to the mean of the
# annotated 68 (the jaw's at about equal distances along the face's oval).
JAW = (127, 234, 93, 132, 58, 172, 150, 176, CHIN, 400, 379, 397, 288, 361, 323, 454, 356)
BROWS = (70, 63, 52, 65, 55, 285, 295, 282, 293, 300)
NOSE = (6, 197, 5, NOSE_TIP, 98, 97, 2, 326, 327)
EYES = (33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380)
OUTER_LIPS = (LEFT_MOUTH_CORNER, 40, 37, 0, 267, 270, RIGHT_MOUTH_CORNER, 321, 314, 17, 84, 91)
INNER_LIPS = (78, 82, 13, 312, 308, 317, 14, 87)
POINTS_OF_68 = (*JAW, *BROWS, *NOSE, *EYES, *OUTER_LIPS, *INNER_LIPS)

# Closed contours, every point of the mesh on them in order. The upper half of the oval goes from the left ear to the
# right one, along the upper forehead; the lower half goes back under the chin.
OVAL_ABOVE = (127, 162, 21, 54, 103, 67, 109, FOREHEAD, 338, 297, 332, 284, 251, 389, 356)
OVAL_BELOW = (454, 323, 361, 288, 397, 365, 379, 378, 400, 377, CHIN, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234)
LEFT_EYE_CONTOUR = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
RIGHT_EYE_CONTOUR = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
LEFT_BROW_CONTOUR = (70, 63, 105, 66, 107, 55, 65, 52, 53, 46)
RIGHT_BROW_CONTOUR = (300, 293, 334, 296, 336, 285, 295, 282, 283, 276)
NOSE_CONTOUR = (
    *(168, 193, 245, 188, 174, 217, 126, 142, 129, 98, 97),
    *(2, 326, 327, 358, 371, 355, 437, 399, 412, 465, 417),
)
# From the left corner of the mouth to the right one.
UPPER_LIP_ABOVE = (LEFT_MOUTH_CORNER, 185, 40, 39, 37, 0, 267, 269, 270, 409, RIGHT_MOUTH_CORNER)
UPPER_LIP_BELOW = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
LOWER_LIP_ABOVE = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
LOWER_LIP_BELOW = (LEFT_MOUTH_CORNER, 146, 91, 181, 84, 17, 314, 405, 321, 375, RIGHT_MOUTH_CORNER)
