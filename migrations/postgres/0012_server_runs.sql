-- Identity of the run of the server. A recovery from a crash ends the run: it empties every unlogged
-- table, and may assign again the ids of transactions from shortly before. An instance that finds
-- the table empty inserts a row; the least of several counts. There is no constraint, which the rows
-- of a dump could violate.
create unlogged table server_runs (id uuid not null);
