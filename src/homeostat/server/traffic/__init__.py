"""Which version answers a request: the route, shares and keys, forwarding, fallback, mirroring."""
