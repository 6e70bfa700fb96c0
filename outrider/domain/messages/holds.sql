-- name: gate_holds_release :run
-- What a gate holds in a campaign's lanes (null: in all of the tenant's) is asked about again now, `$4` at a time: its settings have changed.
UPDATE queue q SET due_at = now()
FROM unnest(ARRAY(
  SELECT q2.message_id FROM lanes l
  CROSS JOIN LATERAL (SELECT message_id FROM queue
                      WHERE tenant_id = $1 AND lane_id = l.id AND state = 5 AND due_at > now() AND starts_with(reason, $3 || ': ')
                      LIMIT $4 FOR UPDATE SKIP LOCKED) q2
  WHERE l.tenant_id = $1 AND l.is_open AND ($2::uuid IS NULL OR l.campaign_id = $2) LIMIT $4)) d(message_id)
WHERE q.tenant_id = $1 AND q.message_id = d.message_id AND q.state = 5;
