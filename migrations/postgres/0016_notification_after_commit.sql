-- A transaction that notifies holds a lock of the whole server while it commits, so that such commits
-- follow one another. One that has set `portcullis.notifies` to `later` notifies after its commit.
create or replace function notify_of_revocations() returns trigger language plpgsql as $$
begin
    if current_setting('portcullis.notifies', true) is distinct from 'later' then
        perform pg_notify('portcullis_revocations', '');
    end if;
    return null;
end $$;
