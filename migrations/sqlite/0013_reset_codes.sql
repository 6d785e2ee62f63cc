-- SHA-256 of the reset code of an account; null for none. Columns, not a table: an account has one
-- code at most, and every change of the account that voids it updates the row anyway.
alter table users add reset_code_hash blob;
alter table users add reset_code_expires_at integer;

create unique index users_reset_code_hash on users (reset_code_hash) where reset_code_hash is not null;
