-- Run once by `postgres --single` while a cluster is made, before anybody can connect; one statement per line.
-- tenant: none, because it makes the login role and the database themselves.
CREATE ROLE outrider LOGIN CREATEROLE CREATEDB NOSUPERUSER PASSWORD '@password@';
CREATE DATABASE outrider OWNER outrider;
