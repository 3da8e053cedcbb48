"""Names that others rely on (labels, annotations, ports). Changing one is a breaking change."""

import re
from typing import Final

GROUP: Final = "homeostat.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
FIELD_MANAGER: Final = "homeostat"

LABEL_NAME: Final = "app.kubernetes.io/name"
LABEL_COMPONENT: Final = "app.kubernetes.io/component"
LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
LABEL_MODEL: Final = f"{GROUP}/model"
LABEL_VERSION: Final = f"{GROUP}/version"
LABEL_TRAINING: Final = f"{GROUP}/training"
LABEL_RUN: Final = f"{GROUP}/run"

ANNOTATION_ROUTE: Final = f"{GROUP}/route"
ANNOTATION_DIGEST: Final = f"{GROUP}/applied-digest"
ANNOTATION_ROLE: Final = f"{GROUP}/track"

REQUESTS: Final = ("retrain", "rollback", "promote", "promote-full", "abort", "pause", "resume", "lift", "refresh")


def request_annotation(verb: str) -> str:
    """The annotation by which people and monitors ask for `verb`, one of REQUESTS."""
    return f"{GROUP}/{verb}-requested"


PORT_REST: Final = 8080
PORT_GRPC: Final = 8081
PORT_ADMIN: Final = 8082

DEPLOYMENT_NAME_LENGTH: Final = 45
TRAINING_NAME_LENGTH: Final = 50
NAME_PATTERN: Final = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
DIGEST_PATTERN: Final = r"^sha256:[0-9a-f]{64}$"
DIGEST: Final = re.compile(DIGEST_PATTERN)
