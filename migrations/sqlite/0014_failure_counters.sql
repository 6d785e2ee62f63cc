-- Wrong passwords in a row: of an account, of a username without one, of a known device, of an account
-- from a known network, or of a session. The id is a keyed hash of the subject, since people type passwords as usernames.
-- An attempt is counted here before its password is hashed, by every instance.
create table failure_counters (
    id blob primary key,
    -- Account that the subject belongs to; null for a username that no account has. No foreign key:
    -- to insert a row would wait for the deletion of its account.
    user_id blob,
    failures integer not null,
    -- Attempts that are being hashed.
    in_flight integer not null,
    -- Time of the latest attempt.
    latest_at integer not null,
    -- Time of the next attempt that is not refused; null for no delay.
    next_at integer
) strict;
create index failure_counters_user_id on failure_counters (user_id) where user_id is not null;
create index failure_counters_latest_at on failure_counters (latest_at);

-- Networks from which the owner of an account has logged in. The id is a keyed hash of both.
create table known_networks (
    id blob primary key,
    user_id blob not null,
    latest_login_at integer not null
) strict;
create index known_networks_user_id on known_networks (user_id, latest_login_at);
create index known_networks_latest_login_at on known_networks (latest_login_at);
