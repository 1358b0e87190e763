-- Telling --------------------------------------------------------------------------------------------------------------

create or replace function tidelock.kit_version() returns integer
language sql stable security definer set search_path = ''
as $$ select version from tidelock.kit $$;

-- Whether the caller may read anything at all of a table.
create or replace function tidelock.may_read(relation oid) returns boolean
language sql stable set search_path = ''
as $$
  select has_schema_privilege(c.relnamespace, 'usage') and has_any_column_privilege(c.oid, 'select')
  from pg_catalog.pg_class c where c.oid = relation
$$;

create or replace function tidelock.column_names(relation oid, numbers smallint[]) returns json
language sql stable set search_path = ''
as $$
  select json_agg(a.attname order by u.at)
  from unnest(numbers) with ordinality as u (number, at)
    join pg_catalog.pg_attribute a on a.attrelid = relation and a.attnum = u.number
$$;

-- What the caller may do with a table by its grants: of columns one is enough.
create or replace function tidelock.grants_on(relation oid) returns json
language sql stable set search_path = ''
as $$
  select json_build_object('select', has_any_column_privilege(relation, 'select'),
    'insert', has_any_column_privilege(relation, 'insert'), 'update', has_any_column_privilege(relation, 'update'),
    'delete', has_table_privilege(relation, 'delete'))
$$;

-- For what there is a permissive policy that counts for the caller, and whether restrictive ones narrow that; null where
-- row-level security does not apply to them.
create or replace function tidelock.policies_on(relation oid) returns json
language sql stable set search_path = ''
as $$
  select json_build_object(
    'select', coalesce(bool_or(p.polpermissive and p.polcmd in ('*', 'r')), false),
    'insert', coalesce(bool_or(p.polpermissive and p.polcmd in ('*', 'a')), false),
    'update', coalesce(bool_or(p.polpermissive and p.polcmd in ('*', 'w')), false),
    'delete', coalesce(bool_or(p.polpermissive and p.polcmd in ('*', 'd')), false),
    'restrictive', coalesce(bool_or(not p.polpermissive), false))
  from pg_catalog.pg_policy p
  where p.polrelid = relation and exists (
    select from unnest(p.polroles) as r (role)
    where r.role = 0 or pg_has_role(r.role, 'usage'))
  having row_security_active(relation)
$$;

-- Everything about a table comes from the catalogue, which says what is true now.
create or replace function tidelock.description_of(name text) returns json
language plpgsql stable set search_path = ''
as $$
declare
  described oid;
  row_security boolean;
  is_view boolean;
  attached tidelock.tables;
begin
  select c.oid, c.relrowsecurity, c.relkind in ('v', 'm', 'f') into described, row_security, is_view
  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where (name in (n.nspname || '.' || c.relname, format('%I.%I', n.nspname, c.relname))
      or n.nspname = 'public' and name in (c.relname, quote_ident(c.relname)))
    and c.relkind in ('r', 'p', 'v', 'm', 'f') and tidelock.may_read(c.oid)
  order by n.nspname = 'public' and name = c.relname
  limit 1;
  if described is null then
    return json_build_object('table', name, 'exists', false);
  end if;
  attached := tidelock.attached(tidelock.full_name(described));
  return json_build_object(
    'table', name, 'exists', true, 'attached', attached.relation is not null, 'owner', attached.owner,
    'soft', attached.soft, 'shared', coalesce(attached.shared, false), 'row_security', row_security,
    'view', is_view, 'grants', tidelock.grants_on(described), 'policies', tidelock.policies_on(described),
    'key', (
      select coalesce(json_agg(a.attname order by k.at), '[]')
      from pg_catalog.pg_index i
        cross join lateral unnest(i.indkey::smallint[]) with ordinality as k (number, at)
        join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.number
      where i.indrelid = described and i.indisprimary),
    'columns', (
      select coalesce(json_agg(json_build_object('name', a.attname, 'type', format_type(a.atttypid, a.atttypmod),
        'nullable', not a.attnotnull) order by a.attnum), '[]')
      from pg_catalog.pg_attribute a
      where a.attrelid = described and a.attnum > 0 and not a.attisdropped),
    'references', (
      select coalesce(json_agg(json_build_object(
        'columns', tidelock.column_names(f.conrelid, f.conkey), 'table', concat_ws('.', n.nspname, c.relname),
        'referenced', tidelock.column_names(f.confrelid, f.confkey)) order by f.conname), '[]')
      from pg_catalog.pg_constraint f
        join pg_catalog.pg_class c on c.oid = f.confrelid
        join pg_catalog.pg_namespace n on n.oid = c.relnamespace
      where f.conrelid = described and f.contype = 'f' and tidelock.may_read(f.confrelid)));
end
$$;

-- What is installed here and what these tables are like, to compare with what a device is configured for:
--   {"version", "epoch", "role", "postgres", "tables": [{"table", "exists", "attached", "key": [...], "owner", "soft",
--    "shared", "row_security", "view", "grants": {"select", "insert", "update", "delete"},
--    "policies": the same and "restrictive", or null, "columns": [{"name", "type", "nullable"}],
--    "references": [{"columns", "table", "referenced"}]} …]}
-- with `role` the caller's, `postgres` the number of PostgreSQL's version, and one entry a table, at the same place. A name
-- may be quoted or not, as devices know it. Of a table that the caller may not read, `exists` is false and nothing else is
-- told. The table of a reference is its schema and name with a dot between, as they are.
create or replace function public.tidelock_describe(tables text[]) returns json
language sql stable set search_path = ''
as $$
  select json_build_object('version', tidelock.kit_version(), 'epoch', tidelock.epoch(), 'role', current_user,
    'postgres', current_setting('server_version_num')::integer, 'tables', coalesce(
    (select json_agg(tidelock.description_of(name) order by at) from unnest(tables) with ordinality as u (name, at)), '[]'))
$$;
