"""Uses of a trained network beyond its scores: predictions, features, export.

>>> from inference import load_trained
>>> trained = load_trained("runs/demo/glore_motion")  # doctest: +SKIP
>>> trained.task.class_names[:2]  # doctest: +SKIP
('left', 'right')
"""

from inference.prediction import Prediction
from inference.predictor import Predictor
from inference.sharing import save_pretrained
from inference.trained import TrainedNetwork, load_trained
from pretrained import from_pretrained

__all__ = ["Prediction", "Predictor", "TrainedNetwork", "from_pretrained", "load_trained", "save_pretrained"]
