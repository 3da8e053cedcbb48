"""Trace context, and OpenTelemetry's spans where they are asked for."""
