"""From a process's start to its end: the model's checks, the workers, the pod's limits."""
