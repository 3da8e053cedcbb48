"""Keyed queue, workers, clock. Knows neither kopf nor models."""
