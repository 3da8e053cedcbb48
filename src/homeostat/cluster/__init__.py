"""The API server: client, informers, stores, server-side apply, Events, Lease."""
