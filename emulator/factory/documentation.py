"""The documentation's object tracking example as a clip."""

from __future__ import annotations

from emulator.factory.actors import Object
from emulator.factory.backgrounds import Light
from emulator.factory.scene import Clip


def documentation_clip() -> Clip:
    """A cat and a dog from 1.2 s to 3.4 s, and another cat at 4.8 s only, as in the documented output."""
    cat = Object(
        "cat",
        start=1.2,
        end=3.4,
        path=[(0.08, 0.50, 0.34, 0.86), (0.30, 0.49, 0.56, 0.85)],
        colour=(40, 120, 225),
        pattern="stripes",
        head=0.6,
        tail=0.8,
    )
    dog = Object(
        "dog",
        start=1.2,
        end=3.4,
        path=[(0.66, 0.40, 0.97, 0.85), (0.60, 0.40, 0.91, 0.85)],
        colour=(120, 160, 200),
        pattern="fur",
        pace=1.0,
        stride=0.8,
    )
    visitor = Object(
        "cat",
        start=4.8,
        end=4.8,
        path=[(0.14, 0.46, 0.44, 0.88)],
        colour=(60, 60, 65),
        pattern="fur",
        facing="right",
        head=0.2,
        tail=1.0,
    )
    return Clip(
        size=(640, 360),
        fps=30.0,
        duration=6.0,
        seed=48,
        background="landscape",
        light=Light(swing=0.05),
        noise=2.0,
        objects=[cat, dog, visitor],
    )
