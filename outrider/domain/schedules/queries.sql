-- Schedules and the record of their runs. Decisions take the time from outrider_now(), the database's clock.

-- name: clock :value
-- What time it is for schedules: the database's clock, not any process's.
-- tenant: none, because it reads no table
SELECT outrider_now();

-- name: schedule_add :one
-- Make a schedule. Gives its id; nothing when the name is taken.
INSERT INTO schedules (tenant_id, name, job_type, arguments, priority, cron, timezone, misfire, grace_s, jitter_s,
                       starts_at, ends_at, is_standing, handled_at, next_at, due_at, offset_s, rules, created_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)
ON CONFLICT (tenant_id, name) DO NOTHING
RETURNING id;

-- name: schedule_get :one
-- One schedule.
SELECT * FROM schedules WHERE tenant_id = $1 AND id = $2;

-- name: schedule_named :one
-- One schedule by its name.
SELECT * FROM schedules WHERE tenant_id = $1 AND name = $2;

-- name: schedule_lock :one
-- One schedule, kept from everybody who would change or fire it until this transaction ends.
SELECT * FROM schedules WHERE tenant_id = $1 AND id = $2 FOR UPDATE;

-- name: schedules_page :many
-- Schedules by name, with the latest run of each and how many of its planned times were missed and not made up for.
SELECT s.*, r.id AS run_id, r.planned_at AS run_planned_at, r.trigger AS run_trigger, r.is_late AS run_is_late,
       r.job_id AS run_job_id, r.reason AS run_reason, r.actor AS run_actor, r.recorded_at AS run_recorded_at,
       CASE WHEN r.job_id IS NULL THEN r.state ELSE coalesce(j.state, r.state) END AS run_state,
       j.started_at AS run_started_at, coalesce(j.finished_at, r.finished_at) AS run_finished_at,
       NULL::text AS run_made_up_by, missed.n AS missed_count, outrider_now() AS now
FROM schedules s
LEFT JOIN LATERAL (SELECT * FROM schedule_runs r
                   WHERE r.tenant_id = s.tenant_id AND r.schedule_id = s.id AND r.state <> 'missed'
                   ORDER BY r.planned_at DESC, r.id DESC LIMIT 1) r ON true
LEFT JOIN jobs j ON j.tenant_id = r.tenant_id AND j.id = r.job_id
LEFT JOIN LATERAL (SELECT count(*) AS n FROM schedule_runs m
                   WHERE m.tenant_id = s.tenant_id AND m.schedule_id = s.id AND m.state = 'missed' AND m.made_up_by IS NULL
                  ) missed ON true
WHERE s.tenant_id = $1 AND s.name > $2 AND ($3::uuid IS NULL OR s.id = $3)
ORDER BY s.name LIMIT $4;

-- name: schedule_change :run
-- Write what people may change, and the next planned time that follows from it.
UPDATE schedules SET name = $3, arguments = $4, priority = $5, cron = $6, timezone = $7, misfire = $8, grace_s = $9, jitter_s = $10,
       starts_at = $11, ends_at = $12, updated_at = now()
WHERE tenant_id = $1 AND id = $2;

-- name: schedule_plan :run
-- Write up to which planned time everything is decided, and which comes next.
UPDATE schedules SET handled_at = $3, handled_wall = $4, next_at = $5, due_at = $6, offset_s = $7, rules = $8, problem = $9
WHERE tenant_id = $1 AND id = $2;

-- name: schedule_pause :run
-- Let a schedule rest.
UPDATE schedules SET paused_at = outrider_now(), paused_by = $3, pause_reason = $4 WHERE tenant_id = $1 AND id = $2;

-- name: schedule_resume :run
-- End the rest.
UPDATE schedules SET paused_at = NULL, paused_by = NULL, pause_reason = NULL WHERE tenant_id = $1 AND id = $2;

-- name: schedule_delete :run
-- Delete a schedule with the record of its runs; their jobs stay.
DELETE FROM schedules WHERE tenant_id = $1 AND id = $2;

-- name: schedules_count :value
-- How many schedules a tenant has.
SELECT count(*) FROM schedules WHERE tenant_id = $1;

-- name: schedules_due :many
-- Schedules whose time has come, the longest due first; those that another scheduler is at are left to it.
-- tenant: none, because the firing loop serves every tenant
SELECT * FROM schedules WHERE paused_at IS NULL AND due_at <= outrider_now() ORDER BY due_at LIMIT $1 FOR UPDATE SKIP LOCKED;

-- name: schedules_stale :many
-- Schedules whose next time was computed with older rules of the time zones than $1.
-- tenant: none, because new rules concern every tenant
SELECT * FROM schedules WHERE rules < $1 ORDER BY tenant_id, id LIMIT $2 FOR UPDATE SKIP LOCKED;

-- name: schedule_busy :one
-- Whether a schedule is at it: its job that has not ended (one put back by hand included, if it is among its latest 200),
-- how many of its runs wait, and whether the end of one has not been taken over yet.
SELECT (SELECT j.id FROM (SELECT id, state FROM jobs WHERE tenant_id = $1 AND schedule_id = $2 AND planned_at IS NOT NULL
                          ORDER BY planned_at DESC LIMIT 200) j
        WHERE j.state IN ('scheduled', 'enqueued', 'processing') LIMIT 1) AS job_id,
       (SELECT count(*) FROM schedule_runs r WHERE r.tenant_id = $1 AND r.schedule_id = $2 AND r.state = 'waiting') AS waiting_count,
       EXISTS (SELECT FROM schedule_runs r WHERE r.tenant_id = $1 AND r.schedule_id = $2 AND r.state = 'enqueued') AS has_unsettled;

-- name: run_add :value
-- Record a planned time or a run by hand. Gives its id; nothing when this planned time is on record already.
INSERT INTO schedule_runs (tenant_id, schedule_id, planned_at, trigger, state, is_late, reason, actor)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (tenant_id, schedule_id, planned_at) WHERE trigger = 'scheduled' DO NOTHING
RETURNING id;

-- name: run_enqueued :run
-- Note the job that a run became.
UPDATE schedule_runs SET state = 'enqueued', job_id = $3 WHERE tenant_id = $1 AND id = $2;

-- name: run_not_started :run
-- Note that a run could not be started, and why.
UPDATE schedule_runs SET state = 'failed', reason = $3, finished_at = now() WHERE tenant_id = $1 AND id = $2;

-- name: runs_missed :many
-- Record planned times that nobody ran; those on record already stay as they are.
INSERT INTO schedule_runs (tenant_id, schedule_id, planned_at, trigger, state, is_late, reason, actor)
SELECT $1, $2, at, 'scheduled', 'missed', true, $4, $5 FROM unnest($3::timestamptz[]) AS at
ON CONFLICT (tenant_id, schedule_id, planned_at) WHERE trigger = 'scheduled' DO NOTHING
RETURNING id;

-- name: run_first_waiting :one
-- The run of a schedule that waits longest.
SELECT * FROM schedule_runs WHERE tenant_id = $1 AND schedule_id = $2 AND state = 'waiting' ORDER BY planned_at, id LIMIT 1;

-- name: schedules_waiting :many
-- Schedules with a run that waits although nothing of them is going on any more; paused ones only when a person asked.
-- tenant: none, because the firing loop serves every tenant
SELECT DISTINCT r.tenant_id, r.schedule_id FROM schedule_runs r
JOIN schedules s ON s.tenant_id = r.tenant_id AND s.id = r.schedule_id
WHERE r.state = 'waiting' AND (s.paused_at IS NULL OR r.trigger = 'manual')
  AND NOT EXISTS (SELECT FROM schedule_runs o WHERE o.tenant_id = r.tenant_id AND o.schedule_id = r.schedule_id AND o.state = 'enqueued')
LIMIT $1;

-- name: runs_settle :many
-- Take over how the jobs of runs ended: of one schedule, or of every tenant's with $1 NULL.
-- tenant: none, because the loop settles the runs of every tenant; the verbs give the tenant
UPDATE schedule_runs r SET state = ended.state, finished_at = ended.finished_at
FROM (SELECT r.tenant_id, r.id, coalesce(j.state, 'deleted') AS state, coalesce(j.finished_at, outrider_now()) AS finished_at
      FROM schedule_runs r LEFT JOIN jobs j ON j.tenant_id = r.tenant_id AND j.id = r.job_id
      WHERE r.state = 'enqueued' AND ($1::uuid IS NULL OR (r.tenant_id = $1 AND r.schedule_id = $2))
        AND (j.id IS NULL OR j.state IN ('succeeded', 'failed', 'deleted'))
      ORDER BY r.tenant_id, r.id LIMIT $3 FOR UPDATE OF r) AS ended
WHERE r.tenant_id = ended.tenant_id AND r.id = ended.id
RETURNING r.tenant_id, r.schedule_id, r.id, r.planned_at, r.state;

-- name: runs_made_up :run
-- Note which successful run made up for the times missed before it.
UPDATE schedule_runs SET made_up_by = $3
WHERE tenant_id = $1 AND schedule_id = $2 AND state = 'missed' AND made_up_by IS NULL AND planned_at <= $4;

-- name: runs_page :many
-- The runs of a schedule, latest planned time first, with how the job stands and who made up for a missed one.
SELECT r.id AS run_id, r.planned_at AS run_planned_at, r.trigger AS run_trigger, r.is_late AS run_is_late,
       r.job_id AS run_job_id, r.reason AS run_reason, r.actor AS run_actor, r.recorded_at AS run_recorded_at,
       CASE WHEN r.job_id IS NULL THEN r.state ELSE coalesce(j.state, r.state) END AS run_state,
       j.started_at AS run_started_at, coalesce(j.finished_at, r.finished_at) AS run_finished_at,
       CASE WHEN r.made_up_by IS NULL THEN NULL ELSE coalesce(m.trigger, 'scheduled') END AS run_made_up_by
FROM schedule_runs r
LEFT JOIN jobs j ON j.tenant_id = r.tenant_id AND j.id = r.job_id
LEFT JOIN schedule_runs m ON m.tenant_id = r.tenant_id AND m.id = r.made_up_by
WHERE r.tenant_id = $1 AND r.schedule_id = $2 AND ($3::timestamptz IS NULL OR (r.planned_at, r.id) < ($3, $4::uuid))
  AND ($5::text IS NULL OR r.state = $5)
ORDER BY r.planned_at DESC, r.id DESC LIMIT $6;

-- name: runs_purge :run
-- Forget runs recorded longer than $1 days ago, at most $2; what is open stays.
-- tenant: none, because retention is the installation's
DELETE FROM schedule_runs WHERE (tenant_id, id) IN (
  SELECT tenant_id, id FROM schedule_runs
  WHERE recorded_at < now() - make_interval(days => $1) AND state NOT IN ('waiting', 'enqueued') LIMIT $2);

-- name: schedules_overdue :many
-- Schedules that should have fired more than $1 seconds ago and did not, and those with a problem.
-- tenant: none, because the watch serves every tenant
SELECT tenant_id, id, name, job_type, cron, timezone, next_at, due_at, problem,
       extract(epoch FROM outrider_now() - due_at)::float8 AS late_s
FROM schedules
WHERE paused_at IS NULL AND (due_at < outrider_now() - make_interval(secs => $1) OR problem IS NOT NULL)
ORDER BY due_at LIMIT $2;

-- name: schedules_figures :one
-- How many schedules there are, paused, overdue by more than $1 seconds and with a problem; and planned times missed.
-- tenant: none, because metrics are the installation's
SELECT count(*) AS schedule_count, count(*) FILTER (WHERE paused_at IS NOT NULL) AS paused_count,
       count(*) FILTER (WHERE paused_at IS NULL AND due_at < outrider_now() - make_interval(secs => $1)) AS overdue_count,
       count(*) FILTER (WHERE problem IS NOT NULL) AS problem_count,
       (SELECT count(*) FROM schedule_runs WHERE state = 'missed' AND made_up_by IS NULL) AS missed_count
FROM schedules;
