# Both stages are the same Debian release, so that the binary meets the libc it was linked with.
FROM rust:1.95-slim-bookworm AS build
WORKDIR /build

# The dependencies are compiled against empty sources first; this layer is reused until the manifest or
# the lock file changes. Cargo refuses a manifest whose benches are missing, and the image has no use
# for them: they leave the manifest.
COPY Cargo.toml Cargo.lock ./
RUN awk '/^\[/ { keep = !/^\[\[(bench|test|example)\]\]/ } keep' Cargo.toml > trimmed.toml \
 && mv trimmed.toml Cargo.toml \
 && mkdir src && touch src/lib.rs && echo 'fn main() {}' > src/main.rs \
 && cargo build --release --locked

# Copied files keep their times, which may be older than the empty sources': without the touch, cargo
# would take the empty program for the current one.
COPY migrations migrations
COPY src src
RUN touch src/lib.rs src/main.rs && cargo build --release --locked


FROM debian:bookworm-20260824-slim

# Whom to trust when Postgres is reached over TLS.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /build/target/release/portcullis /usr/local/bin/portcullis

# Where SQLite and its signing secret live; keep them with `-v portcullis:/data`. Not declared a VOLUME:
# on Postgres nothing is written here, and each container would leave an empty volume behind.
RUN install --directory --owner=10001 --group=10001 --mode=0700 /data

# A number, so that an orchestrator can see that it is not root.
USER 10001:10001

ENV HOST=0.0.0.0 \
    DATABASE_URL=sqlite:///data/portcullis.db
EXPOSE 5000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s CMD ["portcullis", "healthcheck"]
ENTRYPOINT ["portcullis"]
