"""`python -m homeostat.server.check FILE`: is this a well-formed ONNX model? In a process of its own: the file is hostile.

Exit 0: yes. Exit 3: no, and standard output says `reason` and `message` as JSON.
"""

import json
import resource
import sys
from pathlib import Path

ADDRESS_SPACE = 16 << 30


def main(path: Path) -> int:
    """Check one file. A protobuf that parses by chance has no graph; the checker then finds what is missing."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        onnx.checker.check_model(str(path))
    except (DecodeError, onnx.checker.ValidationError, UnicodeDecodeError, RuntimeError, ValueError) as error:
        first = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
        fix = "export the model to ONNX (for example with skl2onnx or torch.onnx) and push that file"
        sys.stdout.write(
            json.dumps({"reason": "NotOnnx", "message": f"{path.name} is not a valid ONNX model: {first}; {fix}"})
        )
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
