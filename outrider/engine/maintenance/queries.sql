-- Statements of upkeep: retention and partitions over every tenant.

-- name: short_lock :run
-- Wait for table locks two seconds at most, so that upkeep never stands in the way of sending.
-- tenant: none, because it sets a limit of this transaction
SELECT set_config('lock_timeout', '2000', true);

-- name: make_partitions :value
-- Make the monthly partitions of the coming months; gives how many were made.
-- tenant: none, because partitions hold every tenant's rows
SELECT outrider_make_partitions($1);

-- name: drop_month :value
-- Drop one month (YYYYMM) of the ledger and its events.
-- tenant: none, because partitions hold every tenant's rows
SELECT outrider_drop_month($1);
