-- name: job_add :many
-- Add jobs of one type, each with its first state and, when it is due now, its first run. One that is open under the
-- same dedup key, or whose planned time has been enqueued before, adds nothing.
WITH made AS (
  INSERT INTO jobs (tenant_id, type, queue, arguments, dedup_key, priority, timeout_s, max_attempts, run_at, state, run,
                    created_by, schedule_id, planned_at, reason, waiting_since)
  SELECT $1, $2, q.name, a.arguments, a.dedup_key, $5, $6, $7, coalesce($8, now()),
         CASE WHEN $8 > now() THEN 'scheduled' ELSE 'enqueued' END, CASE WHEN $8 > now() THEN 0 ELSE 1 END,
         $9, $10, $11, $12, CASE WHEN $8 > now() THEN NULL ELSE now() END
  FROM unnest($3::jsonb[], $4::text[]) AS a (arguments, dedup_key)
  JOIN job_queues q ON q.name = $13 AND q.closed_at IS NULL
  ON CONFLICT DO NOTHING
  RETURNING tenant_id, id, state, run, queue, priority, reason
), told AS (
  INSERT INTO job_states (tenant_id, job_id, seq, state, reason, actor)
  SELECT tenant_id, id, 1, state, reason, $9 FROM made
)
SELECT id, state, CASE WHEN run > 0 THEN outrider_run_add(tenant_id, id, run, queue, priority) END AS run
FROM made ORDER BY id;

-- name: job_same :one
-- The job because of which another was not added: open under the same dedup key, or of the same planned time.
SELECT id, state FROM jobs
WHERE tenant_id = $1 AND ((type = $2 AND dedup_key = $3 AND state IN ('scheduled', 'enqueued', 'processing'))
   OR (schedule_id = $4 AND planned_at = $5))
ORDER BY id DESC LIMIT 1;

-- name: queue_intake :one
-- Whether a queue exists and takes jobs.
-- tenant: none, because queues are the installation's
SELECT name, closed_at IS NOT NULL AS is_closed, close_reason FROM job_queues WHERE name = $1;

-- name: job_lock :one
-- One job for a change by a person; its row stays locked until the transaction ends.
SELECT id, type, queue, state, run, priority FROM jobs WHERE tenant_id = $1 AND id = $2 FOR UPDATE;

-- name: job_put_back :many
-- Put ended jobs back into their queues as if they were new, with a fresh budget of attempts; of several with the same
-- dedup key the youngest, because only one of them may be open.
WITH changed AS (
  UPDATE jobs SET state = 'enqueued', reason = $3, run = run + 1, attempt = 0, crashes = 0, changes = changes + 1, changed_at = now(),
         waiting_since = now(), run_at = now(), started_at = NULL, deadline_at = NULL, finished_at = NULL, run_token = NULL, worker_id = NULL, result = NULL,
         error_code = NULL, error = NULL, cancel_requested_at = NULL, cancel_by = NULL, cancel_reason = NULL, progress_done = NULL,
         progress_total = NULL, progress_note = '', progress_from = NULL, progress_since = NULL, progress_at = NULL
  WHERE tenant_id = $1 AND id = ANY ($2::uuid[]) AND state = ANY ($5::text[])
    AND queue IN (SELECT name FROM job_queues WHERE closed_at IS NULL)
    AND NOT EXISTS (SELECT FROM jobs o WHERE o.tenant_id = $1 AND o.type = jobs.type AND o.dedup_key = jobs.dedup_key
                    AND o.state IN ('scheduled', 'enqueued', 'processing'))
    AND NOT EXISTS (SELECT FROM jobs o WHERE o.tenant_id = $1 AND o.type = jobs.type AND o.dedup_key = jobs.dedup_key
                    AND o.id = ANY ($2::uuid[]) AND o.state = ANY ($5::text[]) AND o.id > jobs.id)
  RETURNING tenant_id, id, run, queue, priority, changes
), told AS (
  INSERT INTO job_states (tenant_id, job_id, seq, state, reason, actor)
  SELECT tenant_id, id, changes, 'enqueued', $3, $4 FROM changed
)
SELECT id, outrider_run_add(tenant_id, id, run, queue, priority) AS run FROM changed ORDER BY id;

-- name: job_withdraw :many
-- Take jobs that are not being run out of everything: they end as deleted, their waiting runs with them.
WITH changed AS (
  UPDATE jobs SET state = 'deleted', reason = $3, changes = changes + 1, changed_at = now(), finished_at = coalesce(finished_at, now()),
         waiting_since = NULL, cancel_requested_at = NULL, run_token = NULL
  WHERE tenant_id = $1 AND id = ANY ($2::uuid[]) AND state = ANY ($5::text[])
  RETURNING tenant_id, id, run, changes
), told AS (
  INSERT INTO job_states (tenant_id, job_id, seq, state, reason, actor)
  SELECT tenant_id, id, changes, 'deleted', $3, $4 FROM changed
)
SELECT id, outrider_run_remove(tenant_id, id, run) AS run FROM changed ORDER BY id;

-- name: job_ask_cancel :many
-- Ask the worker that runs these jobs to end them; whoever asked first is remembered.
WITH asked AS (
  UPDATE jobs SET cancel_requested_at = now(), cancel_by = $4, cancel_reason = $3
  WHERE tenant_id = $1 AND id = ANY ($2::uuid[]) AND state = 'processing' AND cancel_requested_at IS NULL
  RETURNING id
)
SELECT id, pg_notify('outrider_job_cancel', id::text) AS told FROM asked ORDER BY id;

-- name: job_get :one
-- One job, whole.
SELECT id, type, queue, arguments, priority, dedup_key, state, reason, run, attempt, max_attempts, crashes, timeout_s, run_at,
       worker_id, created_by, created_at, changed_at, started_at, deadline_at, finished_at, progress_done, progress_total,
       progress_note, progress_from, progress_since, progress_at, cancel_requested_at, cancel_by, cancel_reason, result,
       error_code, error, schedule_id, planned_at, now() AS seen_at
FROM jobs WHERE tenant_id = $1 AND id = $2;

-- name: job_history :many
-- Every state a job was in, oldest first.
SELECT seq, at, state, reason, actor, worker_id, attempt FROM job_states WHERE tenant_id = $1 AND job_id = $2 ORDER BY seq;

-- name: job_search :many
-- Jobs of a tenant by filter, newest first; a filter that is null is off.
SELECT id, type, queue, arguments, priority, dedup_key, state, reason, run, attempt, max_attempts, crashes, timeout_s, run_at,
       worker_id, created_by, created_at, changed_at, started_at, deadline_at, finished_at, progress_done, progress_total,
       progress_note, progress_from, progress_since, progress_at, cancel_requested_at, cancel_by, cancel_reason, result,
       error_code, error, schedule_id, planned_at, now() AS seen_at
FROM jobs
WHERE tenant_id = $1 AND id < $2
  AND ($4::text[] IS NULL OR state = ANY ($4)) AND ($5::text[] IS NULL OR type = ANY ($5)) AND ($6::text[] IS NULL OR queue = ANY ($6))
  AND ($7::timestamptz IS NULL OR created_at >= $7) AND ($8::timestamptz IS NULL OR created_at < $8)
  AND ($9::jsonb IS NULL OR arguments @> $9) AND ($10::uuid IS NULL OR schedule_id = $10)
  AND ($11::text IS NULL OR strpos(lower(arguments::text || ' ' || coalesce(error, '') || ' ' || reason || ' ' || created_by), lower($11)) > 0)
ORDER BY id DESC LIMIT $3;

-- name: job_select :many
-- The ids a filter finds, oldest first, at most so many; with how many there are in all.
SELECT id, count(*) OVER () AS in_all
FROM jobs
WHERE tenant_id = $1
  AND ($3::text[] IS NULL OR state = ANY ($3)) AND ($4::text[] IS NULL OR type = ANY ($4)) AND ($5::text[] IS NULL OR queue = ANY ($5))
  AND ($6::timestamptz IS NULL OR created_at >= $6) AND ($7::timestamptz IS NULL OR created_at < $7)
  AND ($8::jsonb IS NULL OR arguments @> $8) AND ($9::uuid IS NULL OR schedule_id = $9)
  AND ($10::text IS NULL OR strpos(lower(arguments::text || ' ' || coalesce(error, '') || ' ' || reason || ' ' || created_by), lower($10)) > 0)
ORDER BY id LIMIT $2;

-- name: job_counts :many
-- How many jobs of a tenant are in each state, per queue.
SELECT queue, state, count(*) AS n FROM jobs WHERE tenant_id = $1 GROUP BY queue, state ORDER BY queue, state;

-- name: queues :many
-- Every queue with its settings.
-- tenant: none, because queues are the installation's
SELECT name, concurrency, worker_concurrency, paused_at, paused_by, pause_reason, closed_at, closed_by, close_reason
FROM job_queues ORDER BY name;

-- name: queue_lock :one
-- One queue for a change.
-- tenant: none, because queues are the installation's
SELECT name, concurrency, worker_concurrency, paused_at, paused_by, pause_reason, closed_at, closed_by, close_reason
FROM job_queues WHERE name = $1 FOR UPDATE;

-- name: queue_limits :run
-- Change how many jobs of a queue run at once, over all processes and in one.
-- tenant: none, because queues are the installation's
UPDATE job_queues SET concurrency = $2, worker_concurrency = $3 WHERE name = $1;

-- name: queue_pause :run
-- Pause or resume a queue; both times null resumes it.
-- tenant: none, because queues are the installation's
UPDATE job_queues SET paused_at = CASE WHEN $2::text IS NULL THEN NULL ELSE now() END, paused_by = $2, pause_reason = $3 WHERE name = $1;

-- name: queue_close :run
-- Close or open the intake of a queue.
-- tenant: none, because queues are the installation's
UPDATE job_queues SET closed_at = CASE WHEN $2::text IS NULL THEN NULL ELSE now() END, closed_by = $2, close_reason = $3 WHERE name = $1;

-- name: queue_add :run
-- Make a queue that does not exist.
-- tenant: none, because queues are the installation's
INSERT INTO job_queues (name) VALUES ($1) ON CONFLICT DO NOTHING;

-- name: queue_ring :value
-- Wake whoever runs jobs: something about queues changed.
-- tenant: none, because queues are the installation's
SELECT pg_notify('outrider_jobs', $1);

-- name: queue_depths :many
-- How many jobs each queue holds in each state, with the age of the oldest that waits, over all tenants.
-- tenant: none, because queues are the installation's; engine role, aggregates only
SELECT j.queue, j.state, count(*) AS n, max(extract(epoch FROM now() - j.waiting_since))::float8 AS oldest_s
FROM jobs j WHERE j.state IN ('scheduled', 'enqueued', 'processing') GROUP BY j.queue, j.state
UNION ALL
SELECT j.queue, j.state, count(*), NULL FROM jobs j
WHERE j.state IN ('succeeded', 'failed', 'deleted') AND j.finished_at > now() - make_interval(secs => $1::float8) GROUP BY j.queue, j.state;

-- name: stranded :many
-- Jobs that have waited for long while no live worker could run them, by queue and type, over all tenants.
-- tenant: none, because queues are the installation's; engine role, aggregates only
SELECT j.queue, j.type, count(*) AS n, max(extract(epoch FROM now() - coalesce(j.waiting_since, j.run_at)))::float8 AS oldest_s,
       EXISTS (SELECT FROM job_workers w WHERE w.heartbeat_at > now() - make_interval(secs => $1::float8)) AS has_worker
FROM jobs j JOIN job_queues q ON q.name = j.queue
WHERE j.state IN ('enqueued', 'scheduled')
  AND least(j.waiting_since, j.run_at) < now() - make_interval(secs => $2::float8)
  AND q.paused_at IS NULL
  AND NOT EXISTS (SELECT FROM job_workers w WHERE w.heartbeat_at > now() - make_interval(secs => $1::float8)
                  AND NOT w.is_stopping AND j.type = ANY (w.types) AND j.queue = ANY (w.queues))
GROUP BY j.queue, j.type ORDER BY j.queue, j.type;

-- name: worker_list :many
-- Every process that runs jobs or did lately, the liveliest first.
-- tenant: none, because workers serve every tenant
SELECT id, host, pid, started_at, heartbeat_at, types, queues, running, is_stopping,
       extract(epoch FROM now() - heartbeat_at)::float8 AS silent_s
FROM job_workers ORDER BY heartbeat_at DESC;

-- name: jobs_purge :run
-- Forget jobs that ended long ago, failed ones after a time of their own, with their history; in bites.
-- tenant: none, because retention is the same for every tenant
DELETE FROM jobs j USING (
  SELECT tenant_id, id FROM jobs
  WHERE (state IN ('succeeded', 'deleted') AND finished_at < now() - make_interval(days => $1))
     OR (state = 'failed' AND finished_at < now() - make_interval(days => $2))
  LIMIT $3
) old WHERE j.tenant_id = old.tenant_id AND j.id = old.id;
