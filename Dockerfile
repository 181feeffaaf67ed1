# The submission as the evaluation server builds and starts it.
#   docker build -t submission . && docker run --rm submission     # the dry run
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE}

# pip's settings behind a closed network; unset, pip asks PyPI.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_TRUSTED_HOST
ARG PIP_CERT

# The packages come before the project: a change of code leaves their 6 GB in the layer cache.
# A venv, because Debian's own Python takes no packages from pip.
COPY requirements.lock /opt/requirements.lock
RUN python3 -m venv /opt/venv \
    && /opt/venv/bin/pip install --require-hashes --no-deps --no-cache-dir \
        -r /opt/requirements.lock

# Whoever the server starts the image as (aicrowd, or root with the project mounted elsewhere),
# and even if all else is read-only, working files and every library's cache go to /scratch.
RUN useradd --create-home --uid 1000 --shell /bin/bash aicrowd \
    && mkdir -m 1777 /scratch
ENV PATH=/opt/venv/bin:$PATH \
    SUBMISSION_HOME=/scratch \
    TMPDIR=/scratch \
    NUMBA_CACHE_DIR=/scratch/numba \
    MPLCONFIGDIR=/scratch/matplotlib \
    PYTHONDONTWRITEBYTECODE=1

COPY --chown=aicrowd:aicrowd . /home/aicrowd
WORKDIR /home/aicrowd
USER aicrowd
CMD ["./run.sh"]
