create table users (
    id            uuid        primary key,
    username      text        not null,
    -- RFC 8265 UsernameCaseMapped: what makes `Alice` and `alice` one account.
    username_key  text        not null constraint users_username_key_unique unique,
    password_hash text        not null,
    roles         text[]      not null,
    created_at    timestamptz not null
);

create table revocations (
    id         uuid        primary key,
    expires_at timestamptz not null,
    -- The position in the feed: see docs/architecture.md on why it is not a serial.
    xid        xid8        not null default pg_current_xact_id()
);

create index revocations_xid on revocations (xid);
create index revocations_expires_at on revocations (expires_at);
