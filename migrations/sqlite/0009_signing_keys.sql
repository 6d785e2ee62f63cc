-- State of which every instance holds a copy, apart from revocations. Every change of the signing
-- keys raises the version; an instance that sees a new version reads all of them again.
create table shared_state (
    is_single integer primary key default 1 check (is_single = 1),
    version   integer not null default 0,
    -- The `iss` claim of the instance that started last.
    issuer    text
) strict;
insert into shared_state default values;

-- The root key, encrypted once with each JWT_SECRET_KEY that may unwrap it.
create table root_key_wrappings (
    secret_id   text    primary key,
    wrapped_key blob    not null,
    created_at  integer not null
) strict;

create table signing_keys (
    id                 text    primary key,
    state              text    not null,
    public_key         blob    not null,
    sealed_private_key blob    not null,
    published_at       integer not null,
    -- From this time on every verifier knows the key.
    known_at           integer not null,
    activated_at       integer,
    signs_until        integer not null
) strict;

-- At most one pending and one active key.
create unique index signing_keys_state on signing_keys (state) where state <> 'retiring';

-- The tokens of all sessions so far were made with JWT_SECRET_KEY, which makes none any more.
delete from sessions;

-- Audiences of the access tokens of the session, separated by spaces, with `.` for the service; null
-- for all.
alter table sessions add audience text;

-- `subject_id` may be null, for an action on a signing key. SQLite cannot change a column.
create table new_audit_log (
    id         integer primary key autoincrement,
    at         integer not null,
    action     text    not null,
    actor_id   blob,
    subject_id blob,
    session_id blob,
    detail     text,
    address    text,
    user_agent text
) strict;

insert into new_audit_log (id, at, action, actor_id, subject_id, session_id, detail, address, user_agent)
select id, at, action, actor_id, subject_id, session_id, detail, address, user_agent from audit_log;
drop table audit_log;
alter table new_audit_log rename to audit_log;

create index audit_log_at on audit_log (at);
create index audit_log_actor_id on audit_log (actor_id, id);
create index audit_log_subject_id on audit_log (subject_id, id);
