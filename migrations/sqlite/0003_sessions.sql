create table sessions (
    id           blob    primary key not null,
    user_id      blob    not null references users (id) on delete cascade,
    -- How often the refresh token was exchanged; all that is kept of it.
    generation   integer not null,
    -- When it was last.
    rotated_at   integer not null,
    created_at   integer not null,
    last_used_at integer not null,
    expires_at   integer not null,
    address      text    not null,
    user_agent   text    not null
) strict, without rowid;

create index sessions_user_id on sessions (user_id);
create index sessions_expires_at on sessions (expires_at);
