"""What annotation tools and evaluation kits read and write: COCO, MOT, CVAT, Label Studio, a flat table."""
