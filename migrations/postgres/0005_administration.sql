-- Since when nobody can log in.
alter table users add disabled_at timestamptz;

-- Accounts are listed in the order of bytes, whatever the collation of the database.
create index users_username_key_in_order on users (username_key collate "C");
create index users_admins on users (id) where 'admin' = any (roles);

-- No foreign keys: a record outlives whom it is about.
create table audit_log (
    id         bigint      generated always as identity primary key,
    at         timestamptz not null,
    action     text        not null,
    actor_id   uuid,
    subject_id uuid        not null,
    session_id uuid,
    detail     text,
    address    text,
    user_agent text
);

create index audit_log_at on audit_log (at);
create index audit_log_actor_id on audit_log (actor_id, id);
create index audit_log_subject_id on audit_log (subject_id, id);
