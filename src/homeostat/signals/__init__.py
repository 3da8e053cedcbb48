"""Live numbers from serving pods."""
