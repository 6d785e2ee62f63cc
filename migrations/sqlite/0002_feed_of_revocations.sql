-- When the revocation was made: what the lag of the feed is measured from.
alter table revocations add revoked_at integer not null default 0;
