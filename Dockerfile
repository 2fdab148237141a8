# One image for every process; compose.yaml says which command makes it which.
# The first stage builds, the second one has neither pip's cache nor a build backend nor a shell history of it.
FROM python:3.13.7-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1
WORKDIR /build

# Dependencies first: this layer changes only when the lock does.
COPY requirements.runtime.lock requirements.build.lock ./
RUN python -m venv /opt/quittance \
    && /opt/quittance/bin/pip install --require-hashes --requirement requirements.runtime.lock \
    && python -m venv /opt/backend \
    && /opt/backend/bin/pip install --require-hashes --requirement requirements.build.lock

# What of the checkout gets in is said in .dockerignore.
COPY . .
RUN /opt/backend/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /build/wheels . \
    && /opt/quittance/bin/pip install --no-deps /build/wheels/*.whl \
    && /opt/quittance/bin/pip uninstall --yes pip

FROM python:3.13.7-slim
LABEL org.opencontainers.image.title="Quittance" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/opt/quittance/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
COPY --from=build /opt/quittance /opt/quittance
# A number, so that a cluster can tell without looking into the image that this is not root.
USER 10001:10001
EXPOSE 8080 8081
CMD ["python", "-m", "ingest"]
