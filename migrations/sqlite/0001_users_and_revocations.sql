create table users (
    id            blob    primary key not null,
    username      text    not null,
    -- RFC 8265 UsernameCaseMapped: what makes `Alice` and `alice` one account.
    username_key  text    not null unique,
    password_hash text    not null,
    -- Role names separated by spaces.
    roles         text    not null,
    -- Microseconds since the Unix epoch, as everywhere in this schema.
    created_at    integer not null
) strict, without rowid;

create table revocations (
    -- The position in the feed. AUTOINCREMENT never gives a swept position out again.
    position   integer primary key autoincrement,
    id         blob    not null unique,
    expires_at integer not null
) strict;

create index revocations_expires_at on revocations (expires_at);
