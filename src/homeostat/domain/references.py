"""Where artifacts are: short names of the spec as absolute addresses."""


def absolute(uri: str, artifacts_uri: str, namespace: str) -> str:
    """`uri` with a scheme.

    One without (`flights:latest`) is a repository of the namespace below `artifacts_uri` (`oci://host[/prefix]`).
    """
    if "://" in uri:
        return uri
    return f"{artifacts_uri.rstrip('/')}/{namespace}/{uri.lstrip('/')}"


def repository(artifacts_uri: str, namespace: str, name: str) -> str:
    """The repository, without tag, that bundles of the training `name` are pushed to."""
    return absolute(name, artifacts_uri, namespace)
