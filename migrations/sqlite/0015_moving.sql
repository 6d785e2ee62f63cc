-- Identifier of the account in another system, such as its former integer id; null for none.
alter table users add external_id text;
create unique index users_external_id on users (external_id);
-- JSON object of administrators about the account.
alter table users add metadata text not null default '{}';

-- Algorithm and parameters of the password hash. The distinct ones tell how long the slowest hash
-- takes. Null in a row that an older version wrote.
alter table users add hash_cost text;
update users set hash_cost = 'pbkdf2-sha256:' || substr(password_hash, 18, instr(password_hash, ',') - 18)
where password_hash like '_pbkdf2-sha256$i=%';
create index users_hash_cost on users (hash_cost);

-- Deletions after which names and addresses have not yet been removed from the audit log.
create index audit_log_deletions on audit_log (at) where action = 'user.deleted' and detail is not null;
