"""Every training has a folder of its own: what was set, by which code, what came of each epoch, and its model."""

from swin_umamba.runs.folders import choose_run_folder
from swin_umamba.runs.training_run import TrainingRun

__all__ = ["TrainingRun", "choose_run_folder"]
