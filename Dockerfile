# The image of every Penstock process in docker-compose.yml: worker, api and the one-shot services.
#
#   docker build -t penstock:0.1.0 .
#   docker build -t penstock:0.1.0-embedded --target embedded .    # for `penstock up` and `store`
#
# Behind an index of one's own: --build-arg PIP_INDEX_URL=..., which no image keeps in its history but
# those of the stages. With certificates of one's own: --build-arg PYTHON_IMAGE=<an image with them>.
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm

FROM ${PYTHON_IMAGE} AS libraries
ARG PIP_INDEX_URL
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/penstock
WORKDIR /source
COPY requirements/server.lock requirements/
RUN /opt/penstock/bin/pip install --quiet --only-binary=:all: --require-hashes -r requirements/server.lock

FROM libraries AS installed
COPY . .
RUN /opt/penstock/bin/pip install --quiet --no-deps --no-build-isolation .

# With the embedded engine (0.6 GB), which the distributed stack does not use.
FROM installed AS embedded
ENV PATH=/opt/penstock/bin:$PATH PYTHONUNBUFFERED=1
RUN useradd --uid 10001 --user-group --create-home --home-dir /var/lib/penstock penstock
USER 10001:10001
WORKDIR /var/lib/penstock
ENTRYPOINT ["penstock"]
CMD ["--help"]

# Nothing that builds or tests is shipped; pandas is there for chdb alone.
FROM installed AS stripped
RUN /opt/penstock/bin/pip uninstall --quiet --yes chdb chdb-core pandas setuptools pip \
    && find /opt/penstock/lib -type d \( -name tests -o -name include \) -prune -exec rm -rf {} +

FROM ${PYTHON_IMAGE} AS penstock
LABEL org.opencontainers.image.title=penstock \
      org.opencontainers.image.licenses=Apache-2.0
ENV PATH=/opt/penstock/bin:$PATH PYTHONUNBUFFERED=1
RUN useradd --uid 10001 --user-group --create-home --home-dir /var/lib/penstock penstock
COPY --from=stripped /opt/penstock /opt/penstock
USER 10001:10001
WORKDIR /var/lib/penstock
ENTRYPOINT ["penstock"]
CMD ["--help"]
