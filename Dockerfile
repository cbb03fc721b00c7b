# The emulator as an image. Targets:
#
#   cpu     everything, models run on the CPU (the default)
#   slim    no inference: canned models only, without OpenCV, ONNX Runtime and numpy
#   cuda    everything, models run on an NVIDIA GPU
#   sample  the CPU image with Google's SDK and examples/sample.py, a client that shows it all
#
# All that is downloaded is downloaded while it is built. docs/docker.md says how to run it.

# Any Debian image with Python 3.11 or newer and its venv module, for amd64 or arm64.
ARG PYTHON_IMAGE=python:3.12-slim


FROM ${PYTHON_IMAGE} AS build
# Optional parts of the package, separated by blanks.
ARG EXTRAS="gcs"
# Wheels only: nothing needs a compiler on either architecture, and nothing shall.
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ONLY_BINARY=:all: PIP_ROOT_USER_ACTION=ignore
RUN apt-get update && apt-get install --yes --no-install-recommends binutils && rm -rf /var/lib/apt/lists/* \
  && python3 -m venv /build && /build/bin/pip install --quiet --upgrade "pip>=25.1" \
  && python3 -m venv --without-pip /opt/emulator
WORKDIR /src
# What it depends on first: that changes seldom, and this layer is kept until then.
COPY pyproject.toml ./
RUN python3 -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
print(*p['dependencies'], *sum((p['optional-dependencies'].get(e, []) for e in '${EXTRAS}'.split()), []), sep='\n')" \
  > requirements.txt && /build/bin/pip --python /opt/emulator/bin/python install --requirement requirements.txt
# What no run needs, a hundred megabytes of it: debugging symbols, packages' own tests, what is for building
# against them, and ONNX Runtime's tools and its library for C (Python's module has all of it inside).
RUN cd /opt/emulator/lib/python3*/site-packages \
  && find uvloop sqlalchemy httptools lap -name "*.so" -exec strip --strip-debug {} + \
  && rm -rf numpy/tests numpy/*/tests numpy/f2py numpy/distutils numpy/_core/include numpy/_core/lib \
    onnxruntime/transformers onnxruntime/quantization onnxruntime/tools onnxruntime/capi/libonnxruntime.so.* \
    sqlalchemy/testing \
  && find . -name "*.py[ix]" -delete
COPY README.md LICENSE ./
COPY models models
COPY emulator emulator
RUN /build/bin/pip --python /opt/emulator/bin/python install --no-deps .


# Only worker processes import these, and only for models that are not canned.
FROM build AS build-slim
RUN /build/bin/pip --python /opt/emulator/bin/python uninstall --yes \
  numpy opencv-python-headless onnxruntime flatbuffers lap \
  && rm -rf /opt/emulator/lib/python3*/site-packages/emulator/_models


# CUDA and cuDNN come as wheels with the runtime; the driver comes from the host.
FROM build AS build-cuda
RUN /build/bin/pip --python /opt/emulator/bin/python uninstall --yes onnxruntime \
  && /build/bin/pip --python /opt/emulator/bin/python install "onnxruntime-gpu[cuda,cudnn]>=1.21"


FROM ${PYTHON_IMAGE} AS runtime
ARG VERSION="" REVISION=""
LABEL org.opencontainers.image.title="vertex-batch-emulator" \
  org.opencontainers.image.description="A local emulator of Vertex AI batch prediction for video models" \
  org.opencontainers.image.licenses="Apache-2.0" \
  org.opencontainers.image.version="${VERSION}" \
  org.opencontainers.image.revision="${REVISION}"
# A new volume takes its owner from here: /data for the emulator, /vertex-client for the files that its clients need.
RUN mkdir /data /vertex-client && chown 10001:10001 /data /vertex-client
ENV PATH=/opt/emulator/bin:$PATH \
  HOME=/data \
  PYTHONUNBUFFERED=1 \
  PYTHONDONTWRITEBYTECODE=1 \
  VERTEX_EMULATOR_HOST=0.0.0.0 \
  VERTEX_EMULATOR_DATA_DIR=/data
# By number, so that Kubernetes can see that it is not root.
USER 10001:10001
WORKDIR /data
# Database, buckets, models, certificates. Nothing else is written but temporary files.
VOLUME /data
# REST and Cloud Storage, gRPC in plain text, both over TLS (with VERTEX_EMULATOR_TLS=true).
EXPOSE 8080 8081 8443
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["vertex-emulator", "wait", "--timeout", "0"]
# Unfinished jobs are handed back, and the next start on the same volume resumes them.
STOPSIGNAL SIGTERM
ENTRYPOINT ["vertex-emulator"]
CMD ["serve"]


FROM runtime AS slim
# They could be listed, but not run.
ENV VERTEX_EMULATOR_BUNDLED_MODELS=false
COPY --from=build-slim /opt/emulator /opt/emulator


FROM runtime AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all \
  NVIDIA_DRIVER_CAPABILITIES=compute,utility \
  VERTEX_EMULATOR_PROVIDER=cuda
COPY --from=build-cuda /opt/emulator /opt/emulator
USER 0
RUN find /opt/emulator -path "*/nvidia/*/lib" -type d > /etc/ld.so.conf.d/emulator-cuda.conf && ldconfig
USER 10001:10001


FROM build AS build-sample
RUN /build/bin/pip --python /opt/emulator/bin/python install "google-cloud-aiplatform>=1.71"


FROM runtime AS sample
COPY --from=build-sample /opt/emulator /opt/emulator
COPY examples/sample.py /sample.py
ENTRYPOINT ["python", "/sample.py"]
CMD []


# The last one is what a build without a target gives.
FROM runtime AS cpu
COPY --from=build /opt/emulator /opt/emulator
