# gearmand, as Debian packages it.
FROM debian:12-slim

# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gearman-job-server gearman-tools \
    && rm -rf /var/lib/apt/lists/*

# hadolint ignore=DL3066
USER gearman
CMD ["gearmand", "--listen=0.0.0.0", "--log-file=stderr"]
EXPOSE 4730
HEALTHCHECK --interval=10s --timeout=5s CMD ["gearadmin", "--server-version"]
