-- State of which every instance holds a copy, apart from revocations. Every change of the signing
-- keys raises the version; an instance that sees a new version reads all of them again.
create table shared_state (
    is_single boolean primary key default true check (is_single),
    version   bigint  not null default 0,
    -- The `iss` claim of the instance that started last.
    issuer    text
);
insert into shared_state default values;

create trigger shared_state_notify after update on shared_state
    for each statement execute function notify_of_revocations();

-- The root key, encrypted once with each JWT_SECRET_KEY that may unwrap it.
create table root_key_wrappings (
    secret_id   text        primary key,
    wrapped_key bytea       not null,
    created_at  timestamptz not null default clock_timestamp()
);

create table signing_keys (
    id                 text        primary key,
    state              text        not null,
    public_key         bytea       not null,
    sealed_private_key bytea       not null,
    published_at       timestamptz not null,
    -- From this time on every verifier knows the key.
    known_at           timestamptz not null,
    activated_at       timestamptz,
    signs_until        timestamptz not null
);

-- At most one pending and one active key.
create unique index signing_keys_state on signing_keys (state) where state <> 'retiring';

-- The tokens of all sessions so far were made with JWT_SECRET_KEY, which makes none any more.
delete from sessions;

-- Audiences of the access tokens of the session, separated by spaces, with `.` for the service; null
-- for all.
alter table sessions add audience text;

-- Null for an action on a signing key.
alter table audit_log alter subject_id drop not null;
