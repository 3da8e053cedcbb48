# The product's images: operator, server, trainer. `make images` builds them on a machine without a registry; anywhere else:
#   docker build --target server -t homeostat/server:dev .
# BASE is any image with Python 3.11 or newer and its venv module. The PIP_* arguments are pip's own settings, for building behind an index of your own.
# compileall may fail on a library's own test files; pip's failure counts.
ARG BASE=docker.io/library/python:3.11-slim-bookworm

FROM ${BASE} AS python
RUN echo 'homeostat:x:65532:65532::/tmp:/usr/sbin/nologin' >> /etc/passwd && echo 'homeostat:x:65532:' >> /etc/group \
 && python3 -m venv /opt/homeostat
ENV PATH=/opt/homeostat/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /tmp

FROM python AS wheel
ARG PIP_CONFIG_FILE=/dev/null
ARG PIP_CACHE_DIR=/tmp/pip
COPY deploy/local/build-requirements.txt /src/
RUN pip install --disable-pip-version-check --require-hashes -r /src/build-requirements.txt
COPY pyproject.toml README.md /src/
COPY src /src/src
RUN pip wheel --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir /wheel /src \
 && pip install --disable-pip-version-check --no-index --no-deps --root /installed /wheel/*.whl

FROM python AS operator-libraries
ARG PIP_CONFIG_FILE=/dev/null
ARG PIP_CACHE_DIR=/tmp/pip
COPY requirements/operator.txt /tmp/requirements.txt
RUN pip install --disable-pip-version-check --no-compile --require-hashes -r /tmp/requirements.txt \
 && { python -m compileall -q -j 0 /opt/homeostat/lib || true; } && rm -rf /tmp/*

FROM operator-libraries AS operator
USER 65532:65532
ENTRYPOINT ["homeostat"]
CMD ["operator"]
COPY --from=wheel /installed/opt/homeostat /opt/homeostat

FROM python AS server-libraries
ARG PIP_CONFIG_FILE=/dev/null
ARG PIP_CACHE_DIR=/tmp/pip
COPY requirements/server.txt /tmp/requirements.txt
RUN pip install --disable-pip-version-check --no-compile --require-hashes -r /tmp/requirements.txt \
 && { python -m compileall -q -j 0 /opt/homeostat/lib || true; } && rm -rf /tmp/*

FROM server-libraries AS server
USER 65532:65532
LABEL com.amazonaws.sagemaker.capabilities.accept-bind-to-port=true
ENTRYPOINT ["homeostat"]
CMD ["serve"]
COPY --from=wheel /installed/opt/homeostat /opt/homeostat

FROM python AS trainer-libraries
ARG PIP_CONFIG_FILE=/dev/null
ARG PIP_CACHE_DIR=/tmp/pip
COPY requirements/trainer.txt /tmp/requirements.txt
RUN pip install --disable-pip-version-check --no-compile --require-hashes -r /tmp/requirements.txt \
 && { python -m compileall -q -j 0 /opt/homeostat/lib || true; } && rm -rf /tmp/*

FROM trainer-libraries AS trainer
# Threads of a fit sleep at their barriers: spinning ones take three times as long on a node that is busy.
ENV OMP_WAIT_POLICY=PASSIVE
USER 65532:65532
ENTRYPOINT ["homeostat"]
CMD ["train"]
COPY --from=wheel /installed/opt/homeostat /opt/homeostat
