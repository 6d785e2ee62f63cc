# All stages use the same Debian release, so that the binary runs with the libc of its build.
FROM rust:1.95-slim-bookworm AS chef
RUN cargo install --locked cargo-chef --version 0.1.78
WORKDIR /build

# The recipe lists the dependencies. It changes only with the manifest and the lock file.
FROM chef AS plan
COPY . .
RUN cargo chef prepare --recipe-path recipe.json

# The layer with the compiled dependencies is reused until the recipe changes.
FROM chef AS build
COPY --from=plan /build/recipe.json recipe.json
RUN cargo chef cook --release --locked --recipe-path recipe.json
COPY . .
# Commit that `portcullis --version` names, since .git is not copied: its hash and, after a comma, its
# date.
ARG PORTCULLIS_COMMIT
RUN cargo build --release --locked --bin portcullis


FROM debian:bookworm-20260824-slim

# Root certificates for TLS connections to PostgreSQL.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /build/target/release/portcullis /usr/local/bin/portcullis

# The licence of the list of common passwords wants to be with the binary.
COPY --from=build /build/src/domain/blocklist/LICENSE /usr/share/doc/portcullis/LICENSE.blocklist

# Directory of the SQLite database and its signing key; mount a volume there: `-v portcullis:/data`.
# It is not declared as a VOLUME: with PostgreSQL it is unused, and each container would leave an
# empty volume.
RUN install --directory --owner=10001 --group=10001 --mode=0700 /data

# A numeric user, so that an orchestrator can verify that it is not root.
USER 10001:10001

ENV HOST=0.0.0.0 \
    DATABASE_URL=sqlite:///data/portcullis.db
# 5001 is the usual port of MANAGEMENT_ADDRESS.
EXPOSE 5000 5001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s CMD ["portcullis", "healthcheck"]
ENTRYPOINT ["portcullis"]
