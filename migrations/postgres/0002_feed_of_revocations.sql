-- When the revocation was made, by this clock: what the lag of the feed is measured from.
alter table revocations add revoked_at timestamptz not null default clock_timestamp();

-- Tells whoever listens that there is something to read. Once a statement, not once a row, and without
-- a word about what: it is only a hint.
create function notify_of_revocations() returns trigger language plpgsql as $$
begin
    perform pg_notify('portcullis_revocations', '');
    return null;
end $$;

create trigger revocations_notify after insert on revocations
    for each statement execute function notify_of_revocations();
