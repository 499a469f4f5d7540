"""A run's life in MLflow."""
