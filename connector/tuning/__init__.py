"""Tuning: how small passages can be stored for the user's own data, and what that costs in quality."""

from __future__ import annotations

from connector.tuning.frontier import Trial
from connector.tuning.sweep import Tuning, tune
from connector.tuning.task import Task, task_of_collection, task_of_source

__all__ = ["Task", "Trial", "Tuning", "task_of_collection", "task_of_source", "tune"]
