"""Short names become absolute addresses."""

from homeostat.domain.references import absolute, repository


def test_a_name_without_scheme_is_a_repository_of_the_namespace() -> None:
    assert absolute("flights:latest", "oci://registry:5000", "ml") == "oci://registry:5000/ml/flights:latest"


def test_a_prefix_of_the_installation_is_kept() -> None:
    assert absolute("flights", "oci://ghcr.io/acme/", "ml") == "oci://ghcr.io/acme/ml/flights"


def test_an_address_with_scheme_stays_as_it_is() -> None:
    assert absolute("oci://elsewhere/x@sha256:ab", "oci://registry", "ml") == "oci://elsewhere/x@sha256:ab"


def test_bundles_go_to_the_repository_of_the_training() -> None:
    assert repository("oci://registry:5000", "ml", "flights") == "oci://registry:5000/ml/flights"
