"""Payload logging: sampled requests with their predictions go from the workers to a process that writes or sends them.

`sampling` runs in a worker and copies what was drawn into frames (`frames`), which a bounded queue hands over (`channel`).
`logger` is the process behind: it drops and hashes columns (`columns`), and writes `parquet` files or `events` to a sink
(`sinks`). `child` is what the supervisor does about that process.
"""
