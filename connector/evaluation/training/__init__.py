"""Training of small heads on a frozen encoder: a projection of the tokens, and their saliency."""

from connector.evaluation.training.dataset import TrainingSet, load_training_set
from connector.evaluation.training.head import HeadTraining, train_head

__all__ = ["HeadTraining", "TrainingSet", "load_training_set", "train_head"]
