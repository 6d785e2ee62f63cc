-- Since when nobody can log in.
alter table users add disabled_at integer;

-- No foreign keys: a record outlives whom it is about.
create table audit_log (
    id         integer primary key autoincrement,
    at         integer not null,
    action     text    not null,
    actor_id   blob,
    subject_id blob    not null,
    session_id blob,
    detail     text,
    address    text,
    user_agent text
) strict;

create index audit_log_at on audit_log (at);
create index audit_log_actor_id on audit_log (actor_id, id);
create index audit_log_subject_id on audit_log (subject_id, id);
