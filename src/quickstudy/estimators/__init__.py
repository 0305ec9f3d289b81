"""Scikit-learn estimators over trained learners."""
