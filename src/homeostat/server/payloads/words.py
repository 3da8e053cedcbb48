"""What the supervisor says to the logger on its control socket, whose end means `END` too."""

from typing import Final

HURRY: Final = b"h"  # the pod ends soon: rows wait no longer than `HURRY_SECONDS`
END: Final = b"e"  # no more rows come: send the rest within `FINISH_SECONDS`, then end
HURRY_SECONDS: Final = 0.5
FINISH_SECONDS: Final = 4.0
