"""Rows to predictions: what a model takes and gives, its session, batches, and what a batch gave."""
