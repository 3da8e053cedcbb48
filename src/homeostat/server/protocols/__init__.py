"""The protocols of the serving ports: each reads a request into `Work`, which knows how its answer is written."""
