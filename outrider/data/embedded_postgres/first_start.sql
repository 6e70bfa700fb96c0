-- Run once by `postgres --single` while a cluster is made, before anybody can connect; one statement per line. The last one writes as
-- much WAL as is to be made ahead, as long as that may take: the checkpoint at the end of this run keeps its segments for what comes.
-- tenant: none, because it makes the login role and the database themselves.
CREATE ROLE outrider LOGIN CREATEROLE CREATEDB NOSUPERUSER PASSWORD '@password@';
CREATE DATABASE outrider OWNER outrider;
DO $$ BEGIN FOR n IN 1..@segments@ LOOP EXIT WHEN clock_timestamp() > now() + interval '@within_s@ s'; PERFORM pg_logical_emit_message(false, 'outrider', repeat('-', 16777216)); END LOOP; END $$;
