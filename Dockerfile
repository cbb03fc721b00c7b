# The emulator as an image. Targets:
#
#   cpu     everything, models run on the CPU (the default)
#   slim    no inference: canned models only, without OpenCV, ONNX Runtime and numpy
#   cuda    everything, models run on an NVIDIA GPU
#   sample  the CPU image with Google's SDK and examples/sample.py, a client that shows it all
#
# All that is downloaded is downloaded while it is built. docs/docker.md says how to run it.

# Any Debian image with Python 3.11 or newer and its venv module, for amd64 or arm64.
ARG PYTHON_IMAGE=python:3.12.11-slim-bookworm


FROM ${PYTHON_IMAGE} AS dependencies
# Optional parts of the package, separated by blanks; each has a lock in requirements/.
ARG EXTRAS="gcs"
# Wheels only: nothing needs a compiler on either architecture, and nothing shall.
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ONLY_BINARY=:all: PIP_ROOT_USER_ACTION=ignore
RUN apt-get update && apt-get install --yes --no-install-recommends binutils && rm -rf /var/lib/apt/lists/* \
  && python3 -m venv /build && python3 -m venv --without-pip /opt/emulator
WORKDIR /src
# What it depends on, by hash: that changes seldom, and this layer is kept until then.
COPY requirements requirements
RUN /build/bin/pip install --quiet --require-hashes --requirement requirements/image.txt \
  && /build/bin/pip --python /opt/emulator/bin/python install --no-compile --require-hashes \
  $(printf -- "--requirement requirements/%s.txt " runtime ${EXTRAS})
# No run needs these: symbols for debuggers and linkers (strip breaks what auditwheel has repaired, so only the named
# packages), packages' own tests and typing, SQLAlchemy's other databases, numpy's modules for its tests and builds,
# ONNX Runtime's tools and its library for C (Python's module has all of it inside), OpenCV's cascades, and the colours
# of source code. Byte code of what is imported only.
RUN /build/bin/pip --python /opt/emulator/bin/python uninstall --yes pygments \
  && cd /opt/emulator/lib/python3*/site-packages \
  && find uvloop sqlalchemy httptools grpc pydantic_core cryptography yaml lap google -name "*.so" \
    -exec strip --strip-unneeded {} + \
  && rm -rf numpy/f2py numpy/distutils numpy/_core/include numpy/_core/lib numpy/_core/_simd.*.so numpy/_core/*_tests.*.so \
    onnxruntime/transformers onnxruntime/quantization onnxruntime/tools onnxruntime/capi/libonnxruntime.so.* \
    cv2/data sqlalchemy/testing sqlalchemy/dialects/mssql sqlalchemy/dialects/mysql sqlalchemy/dialects/oracle \
  && find . -type d \( -name tests -o -name testdata \) -prune -exec rm -rf {} + \
  && find . -name "*.py[ix]" -delete \
  && /opt/emulator/bin/python -c "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]" \
    cv2 cryptography.x509 fastapi.openapi.utils google.protobuf.json_format google_crc32c grpc lap numpy onnxruntime \
    prometheus_client.exposition python_multipart rich.console rich.markup rich.progress rich.table sqlalchemy \
    sqlalchemy.dialects.sqlite starlette.responses typer uvicorn uvicorn.lifespan.on uvicorn.loops.auto \
    uvicorn.protocols.http.auto


# A layer of its own: it changes with each version, and is small.
FROM dependencies AS code
COPY pyproject.toml README.md LICENSE ./
COPY models models
COPY emulator emulator
RUN /build/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /wheel . \
  && /build/bin/pip --python /opt/emulator/bin/python install --no-deps --root /code /wheel/*.whl \
  && /build/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
    --output-file /code/opt/emulator/sbom.cdx.json /opt/emulator/bin/python


# Only worker processes import these, and only for models that are not canned.
FROM dependencies AS dependencies-slim
RUN /build/bin/pip --python /opt/emulator/bin/python uninstall --yes \
  numpy opencv-python-headless onnxruntime flatbuffers lap


FROM dependencies-slim AS code-slim
COPY pyproject.toml ./
COPY --from=code /code /code
RUN rm -rf /code/opt/emulator/lib/python3*/site-packages/emulator/_models \
  && /build/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
    --output-file /code/opt/emulator/sbom.cdx.json /opt/emulator/bin/python


# CUDA and cuDNN come as wheels with the runtime; the driver comes from the host.
FROM dependencies AS dependencies-cuda
RUN /build/bin/pip --python /opt/emulator/bin/python uninstall --yes onnxruntime \
  && /build/bin/pip --python /opt/emulator/bin/python install "onnxruntime-gpu[cuda,cudnn]>=1.21"


# Debian with Python, without what no run needs: installers of Python packages, help texts, tests, character sets
# of C programs, leap seconds' time zones. Byte code of the standard library as far as the emulator imports it;
# official images have none, which costs each start.
FROM ${PYTHON_IMAGE} AS base
RUN rm -rf /usr/share/python-wheels /usr/share/bash-completion /usr/share/info /usr/share/lintian /usr/share/zoneinfo/right \
    /usr/lib/*/gconv /var/cache/debconf/*-old /var/lib/apt/lists/* /usr/local/bin/pip* /usr/local/bin/idle* \
  && cd "$(python3 -c "import sysconfig; print(sysconfig.get_path('stdlib'))")" \
  && rm -rf ensurepip idlelib lib2to3 pydoc_data test turtledemo site-packages/pip* site-packages/setuptools* \
  && find . -name __pycache__ -prune -exec rm -rf {} + \
  && python3 -c "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]" \
    __future__ asyncio bz2 colorsys configparser csv ctypes difflib encodings.idna encodings.raw_unicode_escape \
    encodings.unicode_escape fractions gettext gzip html http.cookiejar http.server importlib.metadata \
    importlib.resources logging.config lzma multiprocessing.connection multiprocessing.util pickle platform secrets \
    shlex sqlite3 statistics timeit tomllib uuid wsgiref.simple_server xml.etree.ElementTree xml.sax.saxutils zipfile \
    zoneinfo email.mime.application email.mime.multipart email.mime.nonmultipart


# Copied, not derived: removing a file would not shrink the image that it came with.
FROM scratch AS runtime
COPY --from=base / /
ARG VERSION="" REVISION="" CREATED="" SOURCE=""
LABEL org.opencontainers.image.title="vertex-batch-emulator" \
  org.opencontainers.image.description="A local emulator of Vertex AI batch prediction for video models" \
  org.opencontainers.image.licenses="Apache-2.0" \
  org.opencontainers.image.version="${VERSION}" \
  org.opencontainers.image.revision="${REVISION}" \
  org.opencontainers.image.created="${CREATED}" \
  org.opencontainers.image.source="${SOURCE}"
# A new volume takes its owner from here: /data for the emulator, /vertex-client for the files that its clients need.
RUN mkdir /data /vertex-client && chown 10001:10001 /data /vertex-client
ENV PATH=/opt/emulator/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  LANG=C.UTF-8 \
  HOME=/data \
  PYTHONUNBUFFERED=1 \
  PYTHONDONTWRITEBYTECODE=1 \
  VERTEX_EMULATOR_HOST=0.0.0.0 \
  VERTEX_EMULATOR_DATA_DIR=/data
COPY emulator/healthcheck.py /opt/emulator/healthcheck.py
# By number, so that Kubernetes can see that it is not root.
USER 10001:10001
WORKDIR /data
# Database, buckets, models, certificates. Nothing else is written but temporary files.
VOLUME /data
# REST and Cloud Storage, gRPC in plain text, both over TLS (with VERTEX_EMULATOR_TLS=true).
EXPOSE 8080 8081 8443
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["python", "-I", "-S", "/opt/emulator/healthcheck.py"]
# Unfinished jobs are handed back, and the next start on the same volume resumes them.
STOPSIGNAL SIGTERM
ENTRYPOINT ["vertex-emulator"]
CMD ["serve"]


FROM runtime AS slim
# They could be listed, but not run.
ENV VERTEX_EMULATOR_BUNDLED_MODELS=false
COPY --from=dependencies-slim /opt/emulator /opt/emulator
COPY --from=code-slim /code/ /


FROM runtime AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all \
  NVIDIA_DRIVER_CAPABILITIES=compute,utility \
  VERTEX_EMULATOR_PROVIDER=cuda
COPY --from=dependencies-cuda /opt/emulator /opt/emulator
COPY --from=code /code/ /
USER 0
RUN find /opt/emulator -path "*/nvidia/*/lib" -type d > /etc/ld.so.conf.d/emulator-cuda.conf && ldconfig
USER 10001:10001


FROM dependencies AS dependencies-sample
RUN /build/bin/pip --python /opt/emulator/bin/python install "google-cloud-aiplatform>=1.71"


FROM runtime AS sample
COPY --from=dependencies-sample /opt/emulator /opt/emulator
COPY --from=code /code/ /
COPY examples/sample.py /sample.py
ENTRYPOINT ["python", "/sample.py"]
CMD []


# The last one is what a build without a target gives.
FROM runtime AS cpu
COPY --from=dependencies /opt/emulator /opt/emulator
COPY --from=code /code/ /
