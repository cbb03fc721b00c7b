"""Rendered test videos with exactly known ground truth."""

from emulator.factory.action_scoring import ActionScore, score_actions
from emulator.factory.actors import PATTERNS, SHAPES, Box, Object, Shape
from emulator.factory.backgrounds import BACKGROUNDS, Camera, Light
from emulator.factory.choreography import ACTION_KINDS, ACTIVITIES, MOMENTS
from emulator.factory.documentation import documentation_clip
from emulator.factory.encode import CODECS, Encoder, FactoryError
from emulator.factory.figure_drawing import Look, random_look
from emulator.factory.figures import Action, Figure, action_documentation_clip
from emulator.factory.film import Film
from emulator.factory.label_scoring import LabelScore, score_labels
from emulator.factory.random_clips import random_clip
from emulator.factory.scene import (
    Actor,
    Clip,
    Frame,
    Layer,
    Moment,
    Painter,
    Sighting,
    Stage,
    Truth,
    TruthFrame,
    TruthTrack,
    render,
    truth_of,
)
from emulator.factory.scoring import TrackingScore, score_tracking
from emulator.factory.silhouettes import KINDS

__all__ = [
    "Clip",
    "Object",
    "Shape",
    "Box",
    "Camera",
    "Light",
    "BACKGROUNDS",
    "KINDS",
    "PATTERNS",
    "SHAPES",
    "CODECS",
    "render",
    "truth_of",
    "random_clip",
    "documentation_clip",
    "Film",
    "Truth",
    "TruthTrack",
    "TruthFrame",
    "score_tracking",
    "TrackingScore",
    "Actor",
    "Layer",
    "Moment",
    "Painter",
    "Stage",
    "Frame",
    "Sighting",
    "Figure",
    "Action",
    "Look",
    "random_look",
    "ACTION_KINDS",
    "ACTIVITIES",
    "MOMENTS",
    "action_documentation_clip",
    "LabelScore",
    "score_labels",
    "ActionScore",
    "score_actions",
    "Encoder",
    "FactoryError",
]
