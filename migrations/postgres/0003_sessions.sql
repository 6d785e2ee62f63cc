create table sessions (
    id           uuid        primary key,
    user_id      uuid        not null
        constraint sessions_user_id_fkey references users (id) on delete cascade,
    -- How often the refresh token was exchanged; all that is kept of it.
    generation   bigint      not null,
    -- When it was last, by this clock: instances whose clocks differ have to agree on the grace.
    rotated_at   timestamptz not null default clock_timestamp(),
    created_at   timestamptz not null,
    last_used_at timestamptz not null,
    expires_at   timestamptz not null,
    address      text        not null,
    user_agent   text        not null
);

create index sessions_user_id on sessions (user_id);
create index sessions_expires_at on sessions (expires_at);
