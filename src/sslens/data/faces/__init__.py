"""Faces that are blurred for privacy: lists of boxes, the blur, and the manifest of what was
blurred."""
