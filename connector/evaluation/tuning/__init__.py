"""Tuning: how small passages can be stored for the user's own data, and what that costs in quality."""

from connector.evaluation.tuning.sweep import Tuning, tune
from connector.evaluation.tuning.task import Task, task_of_collection, task_of_source
from connector.evaluation.tuning.trials import Trial

__all__ = ["Task", "Trial", "Tuning", "task_of_collection", "task_of_source", "tune"]
