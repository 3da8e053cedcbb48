"""Terminates calls of the runtime that are past their limit, from a thread of its own: the loop may be inside one."""

import threading
import time
from typing import Any, Final

import onnxruntime as ort

WATCH_SECONDS: Final = 0.05
_NEVER: Final = float("inf")


class Watch:
    """Looks after one call at a time."""

    def __init__(self) -> None:
        self._watched: tuple[float, Any] = _NEVER, _options()  # together, so that a limit never meets another call
        threading.Thread(target=self._look, name="watch", daemon=True).start()

    def begin(self, limit: float) -> Any:
        """A call begins; `limit` in monotonic seconds. Returns its `RunOptions`."""
        options = self._watched[1]
        if options.terminate:
            options = _options()
        self._watched = limit, options
        return options

    def end(self) -> bool:
        """The call ended. Whether it was terminated; then the next one gets options of its own."""
        options = self._watched[1]
        self._watched = _NEVER, options
        return bool(options.terminate)

    def stop(self) -> None:
        """End the running call."""
        self._watched[1].terminate = True

    def _look(self) -> None:
        while True:
            time.sleep(WATCH_SECONDS)
            limit, options = self._watched
            if time.monotonic() > limit:
                options.terminate = True


def _options() -> Any:
    made = ort.RunOptions()
    made.log_severity_level = 4  # what a request did wrong is in its answer
    return made
