-- name: run_begin :one
-- Begin a run: fenced by its number; repeating it with the same token is harmless. Nothing comes back when the job was
-- cancelled, withdrawn or put back meanwhile, or its queue is paused.
WITH begun AS (
  UPDATE jobs SET state = 'processing', reason = '', attempt = attempt + 1, run_token = $4, worker_id = $5, started_at = clock_timestamp(),
         deadline_at = clock_timestamp() + make_interval(secs => timeout_s), changes = changes + 1, changed_at = now(), waiting_since = NULL,
         progress_from = NULL, progress_since = NULL, error_code = NULL, error = NULL
  WHERE tenant_id = $1 AND id = $2 AND run = $3 AND state = 'enqueued' AND cancel_requested_at IS NULL
    AND type = ANY ($6::text[]) AND queue IN (SELECT name FROM job_queues WHERE paused_at IS NULL)
  RETURNING tenant_id, id, type, queue, arguments, attempt, max_attempts, timeout_s, created_by, changes
), told AS (
  INSERT INTO job_states (tenant_id, job_id, seq, state, actor, worker_id, attempt)
  SELECT tenant_id, id, changes, 'processing', 'worker', $5, attempt FROM begun
)
SELECT type, queue, arguments, attempt, max_attempts, timeout_s, created_by FROM begun
UNION ALL
SELECT type, queue, arguments, attempt, max_attempts, timeout_s, created_by FROM jobs
WHERE tenant_id = $1 AND id = $2 AND run = $3 AND state = 'processing' AND run_token = $4;

-- name: run_look :one
-- Why a run could not begin.
SELECT j.state, j.run, j.type, q.paused_at IS NOT NULL AS is_paused
FROM jobs j JOIN job_queues q ON q.name = j.queue WHERE j.tenant_id = $1 AND j.id = $2 FOR UPDATE OF j;

-- name: run_set_aside :run
-- Let a job wait that this worker could not begin: it is promoted again at its time, and still waits since it did. The
-- longer it has waited the rarer, so that days without its worker do not fill its history.
WITH changed AS (
  UPDATE jobs SET state = 'scheduled', reason = $4, changes = changes + 1, changed_at = now(),
         run_at = now() + greatest(make_interval(secs => $5::float8), least((now() - waiting_since) / 10, make_interval(secs => $6::float8)))
  WHERE tenant_id = $1 AND id = $2 AND run = $3 AND state = 'enqueued' RETURNING tenant_id, id, changes
)
INSERT INTO job_states (tenant_id, job_id, seq, state, reason, actor) SELECT tenant_id, id, changes, 'scheduled', $4, 'worker' FROM changed;

-- name: run_hold :one
-- Lock the job of a run against being taken over; nothing comes back when that has happened. A process that stands still
-- or whose machine is gone must not keep the lock: its transaction ends before others take it for dead.
SELECT id, set_config('idle_in_transaction_session_timeout', $4, true) AS lets_go_after
FROM jobs WHERE tenant_id = $1 AND id = $2 AND run_token = $3 AND state = 'processing' FOR SHARE;

-- name: run_progress :run
-- How far a run is; the first word of a run is what its rate is counted from.
UPDATE jobs SET progress_done = $4, progress_total = $5, progress_note = $6, progress_at = now(),
       progress_from = coalesce(progress_from, $4), progress_since = coalesce(progress_since, now())
WHERE tenant_id = $1 AND id = $2 AND run_token = $3 AND state = 'processing';

-- name: run_finish :one
-- End a run, fenced by its token: succeeded, failed, deleted, scheduled (the next attempt) or enqueued (handed back:
-- the attempt is not counted). What somebody wants cancelled is not tried again.
WITH changed AS (
  UPDATE jobs j SET state = t.state, reason = CASE WHEN t.state = 'deleted' THEN 'cancelled: ' || coalesce(j.cancel_reason, 'not given') ELSE $5 END,
         result = $6::jsonb, error_code = $7, error = $8,
         run_at = CASE WHEN t.state = 'scheduled' THEN now() + make_interval(secs => $9::float8) ELSE j.run_at END,
         run = CASE WHEN t.state = 'enqueued' THEN j.run + 1 ELSE j.run END, attempt = CASE WHEN t.state = 'enqueued' THEN j.attempt - 1 ELSE j.attempt END,
         waiting_since = CASE WHEN t.state = 'enqueued' THEN now() END, finished_at = CASE WHEN t.state IN ('scheduled', 'enqueued') THEN NULL ELSE now() END,
         progress_done = coalesce($11, j.progress_done), progress_total = coalesce($12, j.progress_total), progress_at = CASE WHEN $11 IS NULL THEN j.progress_at ELSE now() END,
         run_token = NULL, worker_id = NULL, deadline_at = NULL, changes = j.changes + 1, changed_at = now()
  FROM (SELECT CASE WHEN $4 IN ('scheduled', 'enqueued') AND o.cancel_requested_at IS NOT NULL THEN 'deleted' ELSE $4 END AS state
        FROM jobs o WHERE o.tenant_id = $1 AND o.id = $2 FOR UPDATE) t
  WHERE j.tenant_id = $1 AND j.id = $2 AND j.run_token = $3 AND j.state = 'processing'
  RETURNING j.tenant_id, j.id, j.run, j.queue, j.priority, j.state, j.reason, j.changes, j.attempt, CASE WHEN t.state = 'deleted' THEN j.cancel_by END AS by
), told AS (
  INSERT INTO job_states (tenant_id, job_id, seq, state, reason, actor, worker_id, attempt)
  SELECT tenant_id, id, changes, state, reason, coalesce(by, 'worker'), $10, attempt FROM changed
)
SELECT id, state, CASE WHEN state = 'enqueued' THEN outrider_run_add(tenant_id, id, run, queue, priority) END AS run FROM changed;

-- name: run_promote :many
-- Turn scheduled jobs whose time has come into enqueued ones, each with a new run.
-- tenant: none, because time passes for every tenant
WITH due AS (
  SELECT j.tenant_id, j.id FROM jobs j WHERE j.state = 'scheduled' AND j.run_at <= now() ORDER BY j.run_at LIMIT $1 FOR UPDATE SKIP LOCKED
), changed AS (
  UPDATE jobs j SET state = 'enqueued', run = run + 1, changes = changes + 1, changed_at = now(), waiting_since = coalesce(waiting_since, now()) FROM due
  WHERE j.tenant_id = due.tenant_id AND j.id = due.id RETURNING j.tenant_id, j.id, j.run, j.queue, j.priority, j.changes
), told AS (
  INSERT INTO job_states (tenant_id, job_id, seq, state, reason, actor) SELECT tenant_id, id, changes, 'enqueued', 'due', 'scheduler' FROM changed
)
SELECT id, outrider_run_add(tenant_id, id, run, queue, priority) AS run FROM changed;

-- name: queues_ready :many
-- Queues that are not paused and have something to claim.
-- tenant: none, because queues are the installation's
SELECT q.name, q.concurrency, q.worker_concurrency
FROM job_queues q WHERE q.paused_at IS NULL
  AND q.name IN (SELECT outrider_runs_ready(array_agg(name)) FROM job_queues WHERE paused_at IS NULL);

-- name: worker_beat :many
-- Say that this process lives and what it is running; gives the jobs among them that somebody wants cancelled.
-- tenant: none, because workers serve every tenant
WITH me AS (
  INSERT INTO job_workers (id, host, place, pid, types, queues, running, is_stopping)
  VALUES ($1, $2, $3, $4, $5, (SELECT array_agg(name ORDER BY name) FROM job_queues), $6, $7)
  ON CONFLICT (id) DO UPDATE SET heartbeat_at = now(), queues = excluded.queues, running = excluded.running, is_stopping = excluded.is_stopping
)
SELECT id FROM jobs WHERE worker_id = $1 AND state = 'processing' AND cancel_requested_at IS NOT NULL;

-- name: worker_gone :run
-- This process has handed back everything and ends.
-- tenant: none, because workers serve every tenant
DELETE FROM job_workers WHERE id = $1;

-- name: workers_forget :run
-- Forget processes silent for long that run nothing any more.
-- tenant: none, because workers serve every tenant
DELETE FROM job_workers w WHERE w.heartbeat_at < now() - make_interval(days => $1)
  AND NOT EXISTS (SELECT FROM jobs j WHERE j.worker_id = w.id AND j.state = 'processing');

-- name: lost_running :many
-- Jobs whose run is over without an end: their worker is silent, or lives and does not run them, or their time is over.
-- A heartbeat of the future is from before the clock was set back: the living have said something since. Locked, so
-- that a cancellation comes before or after and never between: a job put back with its end asked for could not begin.
-- One that a transaction still holds comes next time, so that it keeps none of the others waiting.
-- tenant: none, because processes die for every tenant
SELECT j.tenant_id, j.id, j.run, j.run_token, j.crashes, j.cancel_requested_at IS NOT NULL AS is_cancelled,
       coalesce(w.heartbeat_at NOT BETWEEN now() - make_interval(secs => $1::float8) AND now() + make_interval(secs => $1::float8), true) AS is_dead, j.deadline_at < now() - make_interval(secs => $2::float8) AS is_overdue
FROM jobs j LEFT JOIN job_workers w ON w.id = j.worker_id
WHERE j.state = 'processing'
  AND (w.id IS NULL OR w.heartbeat_at NOT BETWEEN now() - make_interval(secs => $1::float8) AND now() + make_interval(secs => $1::float8) OR j.deadline_at < now() - make_interval(secs => $2::float8)
       OR (w.heartbeat_at > j.started_at + make_interval(secs => $3::float8)
           AND NOT (j.tenant_id::text || '/' || j.id::text || '/' || j.run::text) = ANY (w.running)))
LIMIT $4 FOR UPDATE OF j SKIP LOCKED;

-- name: run_take_over :one
-- End a run that nobody ends: back into its queue (the attempt not counted), failed or deleted. Fenced by the token
-- it had, so that of several watchers one does it; the run itself goes, so that its place in the queue is free.
WITH changed AS (
  UPDATE jobs SET state = $4, reason = $5, error_code = $6, error = $7, crashes = crashes + $8, attempt = CASE WHEN $4 = 'enqueued' THEN attempt - 1 ELSE attempt END,
         waiting_since = CASE WHEN $4 = 'enqueued' THEN now() END, run = CASE WHEN $4 = 'enqueued' THEN run + 1 ELSE run END, finished_at = CASE WHEN $4 = 'enqueued' THEN NULL ELSE now() END,
         run_token = NULL, worker_id = NULL, deadline_at = NULL, changes = changes + 1, changed_at = now()
  WHERE tenant_id = $1 AND id = $2 AND run_token = $3 AND state = 'processing'
  RETURNING tenant_id, id, run, queue, priority, state, reason, changes, attempt
), told AS (
  INSERT INTO job_states (tenant_id, job_id, seq, state, reason, actor, attempt)
  SELECT tenant_id, id, changes, state, reason, 'reaper', attempt FROM changed
)
SELECT id, outrider_run_remove(tenant_id, id, $9) AS gone, CASE WHEN state = 'enqueued' THEN outrider_run_add(tenant_id, id, run, queue, priority) END AS run FROM changed;

-- name: lost_claims :many
-- Runs that were claimed and never begun: their worker is silent or does not hold them.
-- tenant: none, because processes die for every tenant
SELECT j.tenant_id, j.id, j.run FROM outrider_runs_claimed() r
JOIN jobs j ON j.tenant_id = split_part(r.run_id, '/', 1)::uuid AND j.id = split_part(r.run_id, '/', 2)::uuid AND j.run = split_part(r.run_id, '/', 3)::int
LEFT JOIN job_workers w ON w.id::text = r.worker
WHERE j.state = 'enqueued' AND r.claimed_s > $2
  AND (w.id IS NULL OR w.heartbeat_at < now() - make_interval(secs => $1::float8)
       OR (w.heartbeat_at > now() - make_interval(secs => $2::float8) AND NOT r.run_id = ANY (w.running)))
LIMIT $3;

-- name: lost_runs :many
-- Of the jobs that have waited longest in each queue: those whose run is gone.
-- tenant: none, because processes die for every tenant
WITH oldest AS (
  SELECT j.tenant_id, j.id, j.run, j.tenant_id::text || '/' || j.id::text || '/' || j.run::text AS run_id
  FROM job_queues q CROSS JOIN LATERAL (
    SELECT o.tenant_id, o.id, o.run FROM jobs o
    WHERE o.queue = q.name AND o.state = 'enqueued' AND o.waiting_since < now() - make_interval(secs => $1::float8)
    ORDER BY o.waiting_since LIMIT $2
  ) j
)
SELECT o.tenant_id, o.id, o.run FROM oldest o
WHERE o.run_id NOT IN (SELECT outrider_runs_open(array_agg(run_id)) FROM oldest);

-- name: orphans :many
-- Runs that were claimed for jobs that have ended, moved on or gone: they only take up room in their queue.
-- tenant: none, because processes die for every tenant
SELECT split_part(r.run_id, '/', 1)::uuid AS tenant_id, split_part(r.run_id, '/', 2)::uuid AS id, split_part(r.run_id, '/', 3)::int AS run
FROM outrider_runs_claimed() r LEFT JOIN job_workers w ON w.id::text = r.worker
WHERE r.claimed_s > $2 AND (w.id IS NULL OR w.heartbeat_at < now() - make_interval(secs => $1::float8))
  AND NOT EXISTS (SELECT FROM jobs j WHERE j.tenant_id = split_part(r.run_id, '/', 1)::uuid AND j.id = split_part(r.run_id, '/', 2)::uuid
                  AND j.run = split_part(r.run_id, '/', 3)::int AND j.state IN ('enqueued', 'processing'))
LIMIT $3;

-- name: run_again :one
-- Give a waiting job a new run in place of one that is lost (then it is taken away) or that ends by itself.
WITH changed AS (
  UPDATE jobs SET run = run + 1, changed_at = now() WHERE tenant_id = $1 AND id = $2 AND run = $3 AND state = 'enqueued'
  RETURNING tenant_id, id, run, queue, priority
)
SELECT id, CASE WHEN $4 THEN outrider_run_remove(tenant_id, id, $3) END AS gone, outrider_run_add(tenant_id, id, run, queue, priority) AS run FROM changed;

-- name: run_remove :value
-- Take a run away.
-- tenant: none, because the function binds it
SELECT outrider_run_remove($1, $2, $3);

-- name: runs_sweep :value
-- Forget runs that ended; the jobs know their results.
-- tenant: none, because runs are the engine's own
SELECT outrider_runs_sweep($1, $2);

-- name: reap_turn :value
-- One watcher at a time; the others skip their round. One that stands still in it loses its turn soon.
-- tenant: none, because processes die for every tenant
SELECT pg_try_advisory_xact_lock($1) AND set_config('idle_in_transaction_session_timeout', $2, true) IS NOT NULL;

-- name: workers_here :many
-- Processes of this very machine and pid namespace that have said something lately.
-- tenant: none, because workers serve every tenant
SELECT id, pid FROM job_workers WHERE place = $1 AND heartbeat_at > now() - make_interval(secs => $2::float8);

-- name: workers_died :run
-- Take note that these processes are gone: what they ran is taken over without waiting for their silence.
-- tenant: none, because workers serve every tenant
UPDATE job_workers SET heartbeat_at = heartbeat_at - interval '1 day' WHERE id = ANY ($1::uuid[]);

-- name: clock :value
-- What time it is by the clock that heartbeats are written with.
-- tenant: none, because it reads no table
SELECT now();

-- name: deadlines_put_off :run
-- After the clock leapt forwards: runs that began before get back the time that never passed; each run once.
-- tenant: none, because the clock is the same for every tenant
UPDATE jobs SET deadline_at = deadline_at + make_interval(secs => $2::float8)
WHERE state = 'processing' AND started_at < $1 AND abs(extract(epoch FROM deadline_at - started_at) - timeout_s) < 1;
