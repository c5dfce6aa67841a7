"""Stages that turn a log of learners' answers into numbers that teachers act on."""

__version__ = "0.1.0"
