"""The kopf handlers and the composition root; the only importer of kopf."""
