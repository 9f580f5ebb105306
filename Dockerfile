# msgbench and its scenarios, nothing else: the systems under test run elsewhere
# (--set system.NAME.url=...), or are the embedded reference broker. Runs as a user without rights,
# also in a cluster with a read-only root, /results and /tmp mounted.
FROM rust:1.89-bookworm AS build
WORKDIR /src
RUN apt-get update && apt-get install -y --no-install-recommends make g++ \
    && rm -rf /var/lib/apt/lists/*
COPY Cargo.toml Cargo.lock ./
COPY src src
# Not compiled, but Cargo wants the files of all targets that the manifest names.
COPY benches benches
COPY tests/zz_skipped.rs tests/zz_skipped.rs
COPY scripts/kafka scripts/kafka
COPY scenarios scenarios
RUN cargo build --locked --release --bin msgbench

FROM debian:bookworm-slim
COPY --from=build /src/target/release/msgbench /usr/local/bin/msgbench
COPY --from=build /src/scenarios /scenarios
# What TLS servers are checked against.
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --system --uid 10001 msgbench && mkdir /results && chown msgbench /results
USER 10001
WORKDIR /
VOLUME ["/results"]
ENTRYPOINT ["msgbench"]
CMD ["--help"]
