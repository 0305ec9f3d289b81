"""Scikit-learn estimators over trained learners: `fit` stores the context, `predict` is a forward pass.

They need the extra `estimators`, which brings scikit-learn.
"""

try:
    import sklearn  # noqa: F401
except ImportError:
    raise ImportError("quickstudy.estimators needs scikit-learn: pip install 'quickstudy[estimators]'") from None

from quickstudy.estimators.classifier import InContextClassifier as InContextClassifier
from quickstudy.estimators.few_shot_images import FewShotImageClassifier as FewShotImageClassifier
from quickstudy.estimators.regressor import InContextRegressor as InContextRegressor
