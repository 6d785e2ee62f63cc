-- Built-in roles have permissions that the program knows, and those of their rows.
create table roles (
    name         text primary key,
    -- Separated by spaces.
    permissions  text not null,
    -- Latest session that was ended since a permission was taken away, in the order of their ids;
    -- null if none is left to end.
    ending_after blob
) strict;
insert into roles (name, permissions) values ('user', ''), ('admin', ''), ('introspector', '');

create table clients (
    id          blob    primary key,
    name        text    not null unique,
    permissions text    not null,
    -- Audiences of the tokens of the client, separated by spaces, with `.` for the service; null for all.
    audience    text,
    -- Audiences of the tokens that the client may introspect, likewise.
    resource    text,
    created_at  integer not null,
    expires_at  integer,
    disabled_at integer
) strict;

create table client_secrets (
    id               blob    primary key,
    client_id        blob    not null references clients (id) on delete cascade,
    -- SHA-256.
    hash             blob    not null,
    -- The `sid` claim of the tokens that were issued for the secret. It changes when they end.
    session_id       blob    not null,
    created_at       integer not null,
    -- Number of its tokens that were revoked one by one.
    revoked_tokens   integer not null default 0,
    -- Latest expiry of the tokens that may have been issued; null before the first one.
    tokens_expire_at integer
) strict;

create index client_secrets_client_id on client_secrets (client_id);
