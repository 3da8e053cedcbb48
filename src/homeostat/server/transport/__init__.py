"""Bytes to requests and back: HTTP/1.1, HTTP/2, gRPC, TLS, listening sockets. Knows nothing of models."""
