-- Built-in roles have permissions that the program knows, and those of their rows.
create table roles (
    name         text   primary key,
    permissions  text[] not null,
    -- Latest session that was ended since a permission was taken away, in the order of their ids;
    -- null if none is left to end.
    ending_after uuid
);
insert into roles (name, permissions)
values ('user', '{}'), ('admin', '{}'), ('introspector', '{}');

create table clients (
    id          uuid        primary key,
    name        text        not null constraint clients_name_unique unique,
    permissions text[]      not null,
    -- Audiences of the tokens of the client, separated by spaces, with `.` for the service; null for all.
    audience    text,
    -- Audiences of the tokens that the client may introspect, likewise.
    resource    text,
    created_at  timestamptz not null,
    expires_at  timestamptz,
    disabled_at timestamptz
);

create table client_secrets (
    id               uuid        primary key,
    client_id        uuid        not null
        constraint client_secrets_client_id_fkey references clients (id) on delete cascade,
    -- SHA-256.
    hash             bytea       not null,
    -- The `sid` claim of the tokens that were issued for the secret. It changes when they end.
    session_id       uuid        not null,
    created_at       timestamptz not null,
    -- Number of its tokens that were revoked one by one.
    revoked_tokens   integer     not null default 0,
    -- Latest expiry of the tokens that may have been issued; null before the first one.
    tokens_expire_at timestamptz
);

create index client_secrets_client_id on client_secrets (client_id);
