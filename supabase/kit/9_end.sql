-- At last --------------------------------------------------------------------------------------------------------------

-- A database that was restored from a dump counts its transactions anew.
update tidelock.kit set purged_before = '0' where purged_before > pg_current_xact_id();
do $$
begin
  perform tidelock.attach(t.relation, t.owner, t.soft, t.shared) from tidelock.tables t
  where t.since > pg_current_xact_id() and exists (select from pg_catalog.pg_class c where c.oid = t.relation);
end
$$;

-- Who may call what: the functions that change the kit itself are its owner's.
do $$
declare
  name text;
begin
  foreach name in array array['attach', 'detach', 'remove', 'tidy'] loop
    execute format('revoke all on function tidelock.%I from public', name);
  end loop;
end
$$;
