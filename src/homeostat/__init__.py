"""Homeostat keeps machine-learning models healthy on Kubernetes."""

__version__ = "0.1.0"
