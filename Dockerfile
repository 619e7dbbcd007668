# syntax=docker/dockerfile:1
#
#   docker build --build-arg LASTGOOD_COMMIT=$(git rev-parse --short=12 HEAD) --tag lastgood .
#
# One image for every role: `producer`, `consumer`, and all other commands.

ARG RUST_VERSION=1.95
ARG DEBIAN=bookworm

FROM rust:${RUST_VERSION}-slim-${DEBIAN} AS build
ARG LASTGOOD_COMMIT=unknown
ENV SQLX_OFFLINE=true LASTGOOD_COMMIT=${LASTGOOD_COMMIT}
WORKDIR /build
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --release --locked --bin lastgood \
    && install -D target/release/lastgood /out/lastgood

FROM debian:${DEBIAN}-slim
ARG DEBIAN
# A dump is made and restored by the tools of exactly the server's major version.
ARG POSTGRES_MAJORS="14 15 16 17 18"
# postgresql-common brings the key of PostgreSQL's own archive, which has all majors.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates postgresql-common \
    && echo "deb [signed-by=/usr/share/postgresql-common/pgdg/apt.postgresql.org.asc] https://apt.postgresql.org/pub/repos/apt ${DEBIAN}-pgdg main" \
        > /etc/apt/sources.list.d/pgdg.list \
    && apt-get update \
    && for major in ${POSTGRES_MAJORS}; do apt-get install --yes --no-install-recommends "postgresql-client-${major}" || exit 1; done \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --user-group --no-create-home --home-dir /nonexistent lastgood \
    && install --directory --owner lastgood --group lastgood --mode 0700 /var/lib/lastgood
COPY --from=build /out/lastgood /usr/local/bin/lastgood
COPY plans.yaml /etc/lastgood/plans.yaml
COPY LICENSE-APACHE LICENSE-MIT /usr/share/doc/lastgood/

# The services answer on every address of the container, and nowhere else until a port is published.
ENV LASTGOOD_PLANS=/etc/lastgood/plans.yaml \
    LASTGOOD_LISTEN=0.0.0.0:9750 \
    LASTGOOD_LOG_FORMAT=json
USER lastgood
WORKDIR /var/lib/lastgood
EXPOSE 9750
HEALTHCHECK --interval=10s --timeout=6s --start-period=20s --retries=3 CMD ["lastgood", "health"]
ENTRYPOINT ["lastgood"]
