"""What every migration that makes a table needs: splitting a script, and the rights and policies of a tenant's table.

Owns nothing by itself; a released migration that imports this must find it unchanged in effect.
"""

from __future__ import annotations

from alembic import op

READERS = "outrider_ops, outrider_readonly, outrider_backup"
ALL = "SELECT, INSERT, UPDATE, DELETE"


def statements(script: str) -> list[str]:
    """Split a script without dollar quotes into its statements; comments are cut first."""
    plain = "\n".join(line.split("--")[0] for line in script.splitlines())
    return [part.strip() for part in plain.split(";\n") if part.strip()]


def make_role(role: str) -> None:
    """Make a role where it is missing and let the login role take it."""
    op.execute(
        f"DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN "
        f"CREATE ROLE {role} NOLOGIN; END IF; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
    )
    op.execute(
        f"DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid "
        f"WHERE r.rolname = '{role}' AND m.member = current_user::regrole AND m.set_option AND NOT m.inherit_option) "
        f"THEN EXECUTE format('GRANT {role} TO %I WITH INHERIT FALSE, SET TRUE', current_user); END IF; END $$"
    )


def guard(table: str, privileges: str, *, tenant_column: str = "tenant_id", shows_nil: bool = False) -> None:
    """Force row-level security: one tenant for the app role, everything for owner and engine, reading for readers."""
    mine = f"{tenant_column} = NULLIF(current_setting('app.tenant', true), '')::uuid"
    seen = f"{mine} OR {tenant_column} = '00000000-0000-0000-0000-000000000000'" if shows_nil else mine
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY app_reads ON {table} FOR SELECT TO outrider_app USING ({seen})")
    op.execute(f"CREATE POLICY app_inserts ON {table} FOR INSERT TO outrider_app WITH CHECK ({mine})")
    op.execute(f"CREATE POLICY app_updates ON {table} FOR UPDATE TO outrider_app USING ({mine}) WITH CHECK ({mine})")
    op.execute(f"CREATE POLICY app_deletes ON {table} FOR DELETE TO outrider_app USING ({mine})")
    op.execute(f"CREATE POLICY bypass ON {table} TO outrider_owner, outrider_engine USING (true) WITH CHECK (true)")
    op.execute(f"CREATE POLICY readers ON {table} FOR SELECT TO {READERS} USING (true)")
    op.execute(f"GRANT {privileges} ON {table} TO outrider_app")
    op.execute(f"GRANT {ALL} ON {table} TO outrider_engine")
    op.execute(f"GRANT SELECT ON {table} TO {READERS}")
