-- Rules about contacts. Each statement gives the contacts of one rule by itself and is tested as such; a segment joins
-- what stands behind the head `SELECT c.id FROM contacts c WHERE c.tenant_id = $1 AND` (compile.py). `$1` is the tenant in
-- all of them. A condition is true or false, never null, so that `not` means everybody else.
-- Of two questions about an attribute the one that fewer pass stands first: each takes it out of the JSON anew.

-- name: field_is_one_of :many
-- A column of the contact is one of some texts.
SELECT c.id FROM contacts c WHERE c.tenant_id = $1 AND
(CASE $2::text WHEN 'name' THEN c.name WHEN 'external_id' THEN c.external_id WHEN 'locale' THEN c.locale WHEN 'timezone' THEN c.timezone END = ANY ($3::text[])) IS TRUE;

-- name: field_contains :many
-- A column of the contact contains a text, whatever the case.
SELECT c.id FROM contacts c WHERE c.tenant_id = $1 AND
(strpos(lower(CASE $2::text WHEN 'name' THEN c.name WHEN 'external_id' THEN c.external_id WHEN 'locale' THEN c.locale WHEN 'timezone' THEN c.timezone END), lower($3::text)) > 0) IS TRUE;

-- name: field_starts_with :many
-- A column of the contact starts with a text, whatever the case.
SELECT c.id FROM contacts c WHERE c.tenant_id = $1 AND
starts_with(lower(CASE $2::text WHEN 'name' THEN c.name WHEN 'external_id' THEN c.external_id WHEN 'locale' THEN c.locale WHEN 'timezone' THEN c.timezone END), lower($3::text)) IS TRUE;

-- name: field_is_set :many
-- A column of the contact says anything.
SELECT c.id FROM contacts c WHERE c.tenant_id = $1 AND
(CASE $2::text WHEN 'name' THEN c.name WHEN 'external_id' THEN c.external_id WHEN 'locale' THEN c.locale WHEN 'timezone' THEN c.timezone END <> '') IS TRUE;

-- name: moment_since :many
-- The contact was made or changed at a moment or later.
SELECT c.id FROM contacts c WHERE c.tenant_id = $1 AND
(CASE $2::text WHEN 'created_at' THEN c.created_at WHEN 'updated_at' THEN c.updated_at END >= $3::timestamptz) IS TRUE;

-- name: moment_before :many
-- The contact was made or changed before a moment.
SELECT c.id FROM contacts c WHERE c.tenant_id = $1 AND
(CASE $2::text WHEN 'created_at' THEN c.created_at WHEN 'updated_at' THEN c.updated_at END < $3::timestamptz) IS TRUE;

-- name: attribute_is_one_of :many
-- An attribute is one of some values, of the same JSON type.
SELECT c.id FROM contacts c WHERE c.tenant_id = $1 AND
(c.attributes -> $2::text = ANY ($3::text[]::jsonb[])) IS TRUE;

-- name: attribute_contains :many
-- A text contains a text, whatever the case, or an array holds it.
SELECT c.id FROM contacts c WHERE c.tenant_id = $1 AND
(CASE jsonb_typeof(c.attributes -> $2::text) WHEN 'string' THEN strpos(lower(c.attributes ->> $2::text), lower($3::text)) > 0
                                             WHEN 'array' THEN c.attributes -> $2::text @> to_jsonb($3::text) END) IS TRUE;

-- name: attribute_starts_with :many
-- A text starts with a text, whatever the case.
SELECT c.id FROM contacts c WHERE c.tenant_id = $1 AND
(jsonb_typeof(c.attributes -> $2::text) = 'string' AND starts_with(lower(c.attributes ->> $2::text), lower($3::text))) IS TRUE;

-- name: attribute_is_set :many
-- An attribute is there and not null.
SELECT c.id FROM contacts c WHERE c.tenant_id = $1 AND
c.attributes ->> $2::text IS NOT NULL;

-- name: number_above :many
-- An attribute is a number above a number.
SELECT c.id FROM contacts c WHERE c.tenant_id = $1 AND
(c.attributes -> $2::text > $3::text::jsonb AND jsonb_typeof(c.attributes -> $2::text) = 'number') IS TRUE;

-- name: number_at_least :many
-- An attribute is a number not below a number.
SELECT c.id FROM contacts c WHERE c.tenant_id = $1 AND
(c.attributes -> $2::text >= $3::text::jsonb AND jsonb_typeof(c.attributes -> $2::text) = 'number') IS TRUE;

-- name: number_below :many
-- An attribute is a number below a number.
SELECT c.id FROM contacts c WHERE c.tenant_id = $1 AND
(c.attributes -> $2::text < $3::text::jsonb AND jsonb_typeof(c.attributes -> $2::text) = 'number') IS TRUE;

-- name: number_at_most :many
-- An attribute is a number not above a number.
SELECT c.id FROM contacts c WHERE c.tenant_id = $1 AND
(c.attributes -> $2::text <= $3::text::jsonb AND jsonb_typeof(c.attributes -> $2::text) = 'number') IS TRUE;

-- name: time_since :many
-- A date or moment, whose order as text is its order in time, is not before another.
SELECT c.id FROM contacts c WHERE c.tenant_id = $1 AND
(c.attributes ->> $2::text COLLATE "C" >= $3::text AND c.attributes ->> $2::text LIKE '____-__-__%') IS TRUE;

-- name: time_before :many
-- A date or moment, whose order as text is its order in time, is before another.
SELECT c.id FROM contacts c WHERE c.tenant_id = $1 AND
(c.attributes ->> $2::text COLLATE "C" < $3::text AND c.attributes ->> $2::text LIKE '____-__-__%') IS TRUE;

-- name: time_anniversary :many
-- A date or moment falls on one of some days of the year (MM-DD).
SELECT c.id FROM contacts c WHERE c.tenant_id = $1 AND
(c.attributes ->> $2::text LIKE '____-__-__%' AND substr(c.attributes ->> $2::text, 6, 5) = ANY ($3::text[])) IS TRUE;

-- name: has_tag :many
-- Somebody put one of some tags on the contact.
SELECT c.id FROM contacts c WHERE c.tenant_id = $1 AND
EXISTS (SELECT 1 FROM contact_tags x WHERE x.tenant_id = $1 AND x.contact_id = c.id AND x.tag = ANY ($2::text[]));

-- name: on_list :many
-- The contact is on one of some lists.
SELECT c.id FROM contacts c WHERE c.tenant_id = $1 AND
EXISTS (SELECT 1 FROM list_members x WHERE x.tenant_id = $1 AND x.contact_id = c.id AND x.list_id = ANY ($2::uuid[]));

-- name: has_address :many
-- The contact has an address in a channel.
SELECT c.id FROM contacts c WHERE c.tenant_id = $1 AND
EXISTS (SELECT 1 FROM addresses x WHERE x.tenant_id = $1 AND x.contact_id = c.id AND x.channel = $2::text);

-- name: has_address_containing :many
-- An address of the contact, in one channel or any, contains a text; addresses are stored in lower case.
SELECT c.id FROM contacts c WHERE c.tenant_id = $1 AND
EXISTS (SELECT 1 FROM addresses x WHERE x.tenant_id = $1 AND x.contact_id = c.id AND ($2::text IS NULL OR x.channel = $2) AND strpos(x.address, lower($3::text)) > 0);

-- name: has_address_ending :many
-- An address of the contact in a channel ends with a text: everybody at a domain.
SELECT c.id FROM contacts c WHERE c.tenant_id = $1 AND
EXISTS (SELECT 1 FROM addresses x WHERE x.tenant_id = $1 AND x.contact_id = c.id AND x.channel = $2::text AND right(x.address, length($3::text)) = lower($3::text));

-- name: has_consent :many
-- What holds about consent, for a channel and purpose, is this.
SELECT c.id FROM contacts c WHERE c.tenant_id = $1 AND
EXISTS (SELECT 1 FROM consents x WHERE x.tenant_id = $1 AND x.contact_id = c.id AND x.channel = $2::text AND x.purpose = $3::text AND x.status = ANY ($4::text[]));

-- name: is_suppressed :many
-- An address of the contact in a channel is on the do-not-contact list of the tenant or of the installation.
SELECT c.id FROM contacts c WHERE c.tenant_id = $1 AND
EXISTS (SELECT 1 FROM addresses x
        JOIN suppressions s ON s.tenant_id IN ($1, '00000000-0000-0000-0000-000000000000') AND s.channel = x.channel
                           AND s.address_hash = sha256(convert_to(x.address, 'UTF8'))
        WHERE x.tenant_id = $1 AND x.contact_id = c.id AND x.channel = $2::text);

-- name: of_campaign :many
-- The contact's message of a campaign, or of what was sent again of it, is in one of some states.
SELECT c.id FROM contacts c WHERE c.tenant_id = $1 AND
EXISTS (SELECT 1 FROM messages x WHERE x.tenant_id = $1 AND x.contact_id = c.id AND x.state = ANY ($3::text[])
          AND x.campaign_id = ANY ($2::uuid[] || ARRAY(SELECT k.id FROM campaigns k WHERE k.tenant_id = $1 AND k.retry_of = ANY ($2::uuid[]))));

-- name: written_to :many
-- The contact was sent a number of messages since a moment, of any campaign or of one; `$3` is the least id of that moment.
SELECT c.id FROM contacts c WHERE c.tenant_id = $1 AND
c.id IN (SELECT x.contact_id FROM messages x
         WHERE x.tenant_id = $1 AND x.id >= $2::uuid AND x.state IN ('sent', 'delivered', 'bounced', 'uncertain') AND x.contact_id IS NOT NULL
         GROUP BY x.contact_id HAVING count(*) >= $3::bigint);

-- name: had_event :many
-- Something happened to messages of the contact at least a number of times since a moment, of any campaign or of one.
SELECT c.id FROM contacts c WHERE c.tenant_id = $1 AND
c.id IN (SELECT x.contact_id FROM messages x JOIN message_events e ON e.tenant_id = $1 AND e.message_id = x.id
         WHERE x.tenant_id = $1 AND x.contact_id IS NOT NULL AND ($5::uuid IS NULL OR x.campaign_id = $5)
           AND e.kind = ANY ($2::text[]) AND e.at >= $3::timestamptz
         GROUP BY x.contact_id HAVING count(*) >= $4::bigint);

-- name: anybody :many
-- Everybody.
SELECT c.id FROM contacts c WHERE c.tenant_id = $1 AND
true;
