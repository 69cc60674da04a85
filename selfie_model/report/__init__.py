"""A run's or a study's web page."""
