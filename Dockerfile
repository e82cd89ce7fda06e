# The suite with its packages, in the versions of constraints.txt. docs/sharing.md explains how to use it.
#
#     docker build -t graph-reasoning .                                   for the CPU
#     docker build -t graph-reasoning --build-arg TORCH=cu130 .           for NVIDIA GPUs
FROM python:3.11-slim

# PyTorch's package index: cpu, or a release of CUDA. Its wheels include CUDA; the driver is the host's.
ARG TORCH=cpu

# The packages first, so that a change to the code does not install them again.
WORKDIR /suite
COPY pyproject.toml constraints.txt ./
RUN python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" \
        > /tmp/requirements.txt \
    && pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/${TORCH} \
        -c constraints.txt -r /tmp/requirements.txt
COPY . .

# Any user may run it: caches go to /tmp, and runs to the folder mounted at /work.
ENV HOME=/tmp PYTHONDONTWRITEBYTECODE=1
WORKDIR /work
ENTRYPOINT ["/suite/run_local.sh"]
