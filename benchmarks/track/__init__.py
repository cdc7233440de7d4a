"""``python -m benchmarks.track``: a run's numbers and its report in an experiment tracker."""
