"""Training: the loop, what is measured and logged on the way, and checkpoints to go on from."""

from agnostic_ad.nn.trainer.callbacks import Callback, EarlyStopping
from agnostic_ad.nn.trainer.checkpoints import Checkpoints, CheckpointWarning
from agnostic_ad.nn.trainer.drawings import ConfusionPlot, Curves, Drawing, draw_confusion, draw_curves
from agnostic_ad.nn.trainer.logs import CSVLog, FileLog, JSONLog, ProgressBar, TensorBoard
from agnostic_ad.nn.trainer.metrics import F1, Accuracy, ConfusionMatrix, Metric, Perplexity, TopK
from agnostic_ad.nn.trainer.states import CheckpointError, load_state, save_state
from agnostic_ad.nn.trainer.trainer import Trainer

__all__ = [
    "F1",
    "Accuracy",
    "CSVLog",
    "Callback",
    "CheckpointError",
    "CheckpointWarning",
    "Checkpoints",
    "ConfusionMatrix",
    "ConfusionPlot",
    "Curves",
    "Drawing",
    "EarlyStopping",
    "FileLog",
    "JSONLog",
    "Metric",
    "Perplexity",
    "ProgressBar",
    "TensorBoard",
    "TopK",
    "Trainer",
    "draw_confusion",
    "draw_curves",
    "load_state",
    "save_state",
]
