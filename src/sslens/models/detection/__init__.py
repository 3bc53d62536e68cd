"""Mask R-CNN's heads as ViTDet has them: proposals, boxes and masks from a feature pyramid."""
