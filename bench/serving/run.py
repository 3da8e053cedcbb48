"""The serving runtime beside its rivals: `python bench/serving/run.py [--only json grpc …] [--quick]`.

Everything it needs is made on first use: models and the rivals' environments below .local/bench.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.serving.main import main

if __name__ == "__main__":
    sys.exit(main())
