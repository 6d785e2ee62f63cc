-- Creates the role that the service runs with, sets its password and grants its rights. Run it as
-- the owner of the database, after each `portcullis migrate`:
--
--     PGOPTIONS='-c portcullis.service_password=…' psql --file service-role.sql
--
-- The service reads and writes rows. It cannot change the schema, create roles or read files.
do $$
begin
    if not exists (select from pg_roles where rolname = 'portcullis_service') then
        create role portcullis_service login;
    end if;
    execute format('alter role portcullis_service password %L',
                   current_setting('portcullis.service_password'));
end $$;

grant usage on schema public to portcullis_service;
grant select, insert, update, delete on all tables in schema public to portcullis_service;
