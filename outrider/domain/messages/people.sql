-- Statements about one person's messages: given to another contact, exported, erased. `address_hash` is the SHA-256 of an
-- address, because who was erased is known by hash alone.

-- name: give_messages :run
-- Messages to the addresses of one contact are another one's.
UPDATE messages SET contact_id = $2 WHERE tenant_id = $1 AND address = ANY ($4::text[]) AND contact_id = $3;

-- name: give_recipients :run
-- A merged contact got what both got; where both were chosen the address still keeps it to once.
UPDATE campaign_recipients r SET contact_id = $2
WHERE r.tenant_id = $1 AND r.contact_id = $3 AND r.campaign_id IN (SELECT id FROM campaigns WHERE tenant_id = $1)
  AND NOT EXISTS (SELECT 1 FROM campaign_recipients k WHERE k.tenant_id = $1 AND k.campaign_id = r.campaign_id AND k.contact_id = $2);

-- name: page_end :value
-- The last id of the next `$3` messages after `$2`.
SELECT id FROM (SELECT id FROM messages WHERE tenant_id = $1 AND id > $2 ORDER BY id LIMIT $3) page ORDER BY id DESC LIMIT 1;

-- name: ids_of_person :many
-- A person's messages after `$2` up to `$3`: by their contacts or by the hashes of their addresses.
SELECT id FROM messages
WHERE tenant_id = $1 AND id > $2 AND id <= $3
  AND (contact_id = ANY ($4::uuid[]) OR sha256(convert_to(address, 'UTF8')) = ANY ($5::bytea[])) ORDER BY id;

-- name: waiting_of_person :many
-- A person's open messages by address, locked where nobody is sending them.
SELECT q.message_id FROM messages m JOIN queue q ON q.tenant_id = $1 AND q.message_id = m.id AND q.state IN (0, 4, 5)
WHERE m.tenant_id = $1 AND m.address = ANY ($2::text[]) ORDER BY q.message_id FOR UPDATE OF q SKIP LOCKED;

-- name: waiting_among :many
-- Those of some messages that wait, locked where nobody is sending them.
SELECT message_id FROM queue WHERE tenant_id = $1 AND message_id = ANY ($2::uuid[]) AND state IN (0, 4, 5) ORDER BY message_id FOR UPDATE SKIP LOCKED;

-- name: open_among :value
-- How many of some messages are still open: being sent at this moment.
SELECT count(*) FROM queue WHERE tenant_id = $1 AND message_id = ANY ($2::uuid[]);

-- name: blank_recipients :run
-- Take the address from what says that a campaign was for somebody; it still reaches nobody twice.
UPDATE campaign_recipients r SET address = 'erased:' || r.message_id
FROM messages m
WHERE m.tenant_id = $1 AND m.id = ANY ($2::uuid[]) AND m.campaign_id IS NOT NULL
  AND r.tenant_id = $1 AND r.campaign_id = m.campaign_id AND r.address = m.address;

-- name: blank_chosen :run
-- The same where the message itself is gone by retention and the campaign has not ended: by the contacts a person was.
UPDATE campaign_recipients r SET address = 'erased:' || r.message_id
FROM campaigns c
WHERE c.tenant_id = $1 AND r.tenant_id = $1 AND r.campaign_id = c.id AND r.contact_id = ANY ($2::uuid[])
  AND r.address <> 'erased:' || r.message_id;

-- name: blank_messages :many
-- Take everything personal from messages; what was sent when, through whom and with what result stays. Gives their contents.
UPDATE messages SET address = 'erased', contact_id = NULL, variables = NULL, detail = NULL, provider_id = NULL
WHERE tenant_id = $1 AND id = ANY ($2::uuid[]) RETURNING content_id;

-- name: blank_events :run
-- Take what servers and browsers said from the events of messages; that they happened stays.
UPDATE message_events SET data = NULL WHERE tenant_id = $1 AND message_id = ANY ($2::uuid[]) AND data IS NOT NULL;

-- name: blank_uncertain :run
-- Take what a server said from messages that wait for a decision.
UPDATE uncertain_messages SET detail = '' WHERE tenant_id = $1 AND message_id = ANY ($2::uuid[]);

-- name: contents_of_others :many
-- Those of some contents that somebody else got as well.
SELECT DISTINCT content_id FROM messages WHERE tenant_id = $1 AND content_id = ANY ($2::uuid[]) AND address <> 'erased';

-- name: messages_to_export :many
-- A person's messages with what they said.
SELECT m.id, l.channel, m.campaign_id, p.name AS campaign, m.address, m.purpose, m.state, m.variables::text AS variables, m.due_at, m.attempted_at,
       m.finished_at, m.code, m.detail, c.subject, c.html, c.text,
       (SELECT coalesce(jsonb_agg(jsonb_build_object('at', e.at, 'kind', e.kind, 'data', e.data) ORDER BY e.at), '[]')::text
        FROM message_events e WHERE e.tenant_id = $1 AND e.message_id = m.id) AS events
FROM messages m
JOIN lanes l ON l.tenant_id = $1 AND l.id = m.lane_id
LEFT JOIN campaigns p ON p.tenant_id = $1 AND p.id = m.campaign_id
LEFT JOIN contents c ON c.tenant_id = $1 AND c.id = m.content_id
WHERE m.tenant_id = $1 AND m.id = ANY ($2::uuid[]) ORDER BY m.id;

-- name: written_to :many
-- Which of these addresses got messages after `$3`.
SELECT t.address FROM unnest($2::text[]) t(address)
WHERE EXISTS (SELECT 1 FROM messages WHERE tenant_id = $1 AND address = t.address AND id > $3);

-- name: letters_of :many
-- What some messages are made of, to show their words again; those that were erased are no one's.
SELECT m.id, m.address, m.variables::text AS variables, m.content_id, l.channel, l.sender_id, l.message_class = 'bulk' AS is_bulk
FROM messages m JOIN lanes l ON l.tenant_id = $1 AND l.id = m.lane_id
WHERE m.tenant_id = $1 AND m.id = ANY ($2::uuid[]) AND m.id >= $3 AND m.id <= $4 AND m.address <> 'erased' ORDER BY m.id;
