-- Statements of the feed of events: reading on from a position, and keeping positions growing when the database moves.

-- name: clock_settle :value
-- At the start of a process: when this database was copied to another cluster, go on counting above what is there.
-- tenant: none, because positions are counted for the installation
SELECT outrider_settle_event_clock();

-- name: feed_bounds :one
-- Up to where everything is decided (no open transaction can still commit below it), and where a reader that stands at
-- position `$2` of cluster `$1` goes on: what a cluster before this one had counted beyond the copy is counted anew.
-- tenant: none, because it reads no rows of tenants
SELECT c.system_identifier AS cluster, txid_snapshot_xmin(txid_current_snapshot()) + c.base AS horizon,
       least($2::bigint, (SELECT min(later.begins_after) FROM event_clocks later WHERE later.ordinal > coalesce(
         (SELECT known.ordinal FROM event_clocks known WHERE known.system_identifier = $1::bigint), -1))) AS position
FROM event_clocks c WHERE c.system_identifier = (SELECT here.system_identifier FROM pg_control_system() here);

-- name: feed_page :many
-- Events of a tenant after a place, oldest first, none of which another one can still come before: those whose
-- transaction is older than every open one. `$2..$5` is the place: position, message or campaign, instant and kind; `$7` the
-- horizon.
SELECT position, id, at, kind, data, is_of_campaign FROM (
  (SELECT position, message_id AS id, at, kind, data::text AS data, false AS is_of_campaign
   FROM message_events
   WHERE tenant_id = $1 AND position >= $2 AND position < $7
     AND (position, message_id, at, kind) > ($2, $3::uuid, $4::timestamptz, $5::text)
   ORDER BY position, message_id, at, kind
   LIMIT $6)
  UNION ALL
  (SELECT position, campaign_id, at, kind, data::text, true
   FROM campaign_events
   WHERE tenant_id = $1 AND position >= $2 AND position < $7
     AND (position, campaign_id, at, kind) > ($2, $3::uuid, $4::timestamptz, $5::text)
   ORDER BY position, campaign_id, at, kind
   LIMIT $6)
) e
ORDER BY position, id, at, kind
LIMIT $6;

-- name: feed_messages :many
-- What a reader wants to know of the messages of a page; `$3`, `$4` are the least and greatest id.
SELECT m.id, m.campaign_id, l.channel, l.message_class
FROM unnest($2::uuid[]) t(id)
JOIN messages m ON m.tenant_id = $1 AND m.id = t.id AND m.id >= $3 AND m.id <= $4
JOIN lanes l ON l.tenant_id = $1 AND l.id = m.lane_id;

-- name: feed_campaigns :many
-- By which channel the campaigns of a page go; those that were deleted are not there.
SELECT id, channel FROM campaigns WHERE tenant_id = $1 AND id = ANY ($2::uuid[]);

-- name: campaign_event_add :run
-- Something happened to a campaign. Where nobody has settled how this cluster counts yet, the latest count goes on.
INSERT INTO campaign_events (tenant_id, campaign_id, kind, data, position)
SELECT $1, $2, $3, $4::text::jsonb, txid_current() + coalesce(
  (SELECT c.base FROM event_clocks c WHERE c.system_identifier = (SELECT here.system_identifier FROM pg_control_system() here)),
  (SELECT c.base FROM event_clocks c ORDER BY c.ordinal DESC LIMIT 1), 0);

-- name: campaign_events_purge :run
-- Drop what happened to campaigns more than `$1` days ago, `$2` at a time.
-- tenant: none, because retention is the installation's
DELETE FROM campaign_events WHERE ctid = ANY (ARRAY(SELECT ctid FROM campaign_events WHERE at < now() - $1 * interval '1 day' ORDER BY at LIMIT $2));
