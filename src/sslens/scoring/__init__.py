"""Scores of detected objects, equal to pycocotools'."""
