# One image for the three services of docker-compose.yml; the models are inside, so it starts without internet.
FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /audiophile

# An index with CPU builds of torch and torchaudio makes the image several GB smaller (untested).
ARG TORCH_INDEX=""
COPY pyproject.toml constraints.txt README.md LICENSE prefect.yaml ./
COPY api api
COPY features features
COPY flows flows
COPY models models
COPY storage storage
RUN if [ -n "$TORCH_INDEX" ]; then pip install -c constraints.txt --index-url "$TORCH_INDEX" torch torchaudio; fi \
 && pip install -c constraints.txt -e . \
 && useradd --create-home --uid 10001 audiophile \
 && install -d -o audiophile -g audiophile /data
USER audiophile
VOLUME /data
