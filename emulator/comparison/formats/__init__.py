"""Formats of annotation tools and evaluation kits: COCO, MOT, CVAT, Label Studio, a flat table."""
