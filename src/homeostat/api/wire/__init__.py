"""Schemas between our own parts. Each carries `v`; the version before is still read."""
