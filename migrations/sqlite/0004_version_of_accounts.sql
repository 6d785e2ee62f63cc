-- Goes up with whatever ends the sessions of an account: a login that was checked before is not good after.
alter table users add version integer not null default 0;
