-- Account that a revocation counts for; null for one that an older version wrote. No foreign key: a
-- revocation outlives its account.
alter table revocations add user_id blob;
create index revocations_user_id on revocations (user_id, expires_at) where user_id is not null;

-- Origin of the latest exchange of the refresh token; null before the first.
alter table sessions add last_address text;
alter table sessions add last_user_agent text;
