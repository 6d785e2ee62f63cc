-- JWT_ALGORITHM of the instance that started last.
alter table shared_state add algorithm text;
