# The image of every Penstock process in docker-compose.yml: worker, api and the one-shot services.
#
#   docker build -t penstock:0.1.0 .
#   docker build -t penstock:0.1.0-embedded --target embedded .    # for `penstock up` and `store`
#
# Behind an index of one's own: --build-arg PIP_INDEX_URL=...; it is not in the history of the image.
# With certificates of one's own: --build-arg PYTHON_IMAGE=<an image that has them>.
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm

FROM ${PYTHON_IMAGE} AS libraries
ARG PIP_INDEX_URL
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/penstock
COPY requirements/server.lock /source/requirements/
RUN /opt/penstock/bin/pip install --quiet --only-binary=:all: --no-deps --require-hashes -r /source/requirements/server.lock

# Our own code by itself, so that a change of it is a small layer.
FROM libraries AS code
WORKDIR /source
COPY . .
RUN /opt/penstock/bin/pip install --quiet --no-deps --no-build-isolation --prefix /opt/code .

# Nothing that builds or tests is shipped, nor the embedded engine (0.6 GB; pandas is its companion).
FROM libraries AS lean
RUN /opt/penstock/bin/pip uninstall --quiet --yes chdb chdb-core pandas setuptools pip \
    && find /opt/penstock/lib -type d \( -name tests -o -name include \) -prune -exec rm -rf {} +

FROM ${PYTHON_IMAGE} AS runtime
LABEL org.opencontainers.image.title=penstock \
      org.opencontainers.image.licenses=Apache-2.0
ENV PATH=/opt/penstock/bin:$PATH PYTHONUNBUFFERED=1
RUN useradd --uid 10001 --user-group --create-home --home-dir /var/lib/penstock penstock
WORKDIR /var/lib/penstock
ENTRYPOINT ["penstock"]
CMD ["--help"]

FROM runtime AS embedded
COPY --from=libraries /opt/penstock /opt/penstock
COPY --from=code /opt/code /opt/penstock
USER 10001:10001

FROM runtime AS penstock
COPY --from=lean /opt/penstock /opt/penstock
COPY --from=code /opt/code /opt/penstock
USER 10001:10001
