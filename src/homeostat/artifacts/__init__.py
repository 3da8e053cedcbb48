"""Artifacts in registries: addresses, the OCI client, and the commands `push` and `pull`."""
