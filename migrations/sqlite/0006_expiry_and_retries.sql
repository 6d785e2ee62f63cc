-- Latest expiry of the access tokens issued so far; null for a session that an older version opened.
alter table sessions add tokens_expire_at integer;

-- Generation whose token the latest exchange consumed, and the time of that exchange.
alter table sessions add parent integer;
alter table sessions add exchanged_at integer;

-- Number of single access tokens revoked so far.
alter table sessions add revoked_tokens integer not null default 0;
