# BreastUSAI headless, on the CPU, with the models that ship. Research use only; not a medical device.
#
#   docker build -t breastusai .
#   docker run --rm --user "$(id -u):$(id -g)" --network none \
#     -v /data/studies:/in:ro -v /data/results:/out breastusai run /in --output /out --jobs 4 --time-limit 10m --memory-limit 8G
#
# Nothing is fetched when it runs: the weights are part of the package, and are checked against their SHA-256.
FROM python:3.12-slim-bookworm AS build
WORKDIR /src
COPY requirements.lock pyproject.toml README.md LICENSE ./
RUN python -m venv /opt/breastusai \
 && /opt/breastusai/bin/pip install --no-cache-dir --disable-pip-version-check \
      --extra-index-url https://download.pytorch.org/whl/cpu "torch==2.13.0+cpu"
COPY BreastUSAILib BreastUSAILib
# The versions of the lock file, and of these only what the package and its extras for runs need. SimpleITK, numpy and the like come as
# wheels; slicer-core (scene.mrb) is left out, as it needs an X11 library or two.
RUN grep -v '^torch==' requirements.lock > constraints.txt \
 && /opt/breastusai/bin/pip install --no-cache-dir --disable-pip-version-check -c constraints.txt ".[tables,cluster,dicom]"

FROM python:3.12-slim-bookworm
COPY --from=build /opt/breastusai /opt/breastusai
ENV PATH=/opt/breastusai/bin:$PATH PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin breastusai \
 && breastusai models verify
USER 10001
WORKDIR /tmp
ENTRYPOINT ["breastusai"]
CMD ["--help"]
