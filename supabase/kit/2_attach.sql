-- Attaching ------------------------------------------------------------------------------------------------------------

-- Brings a table in. `owner` is the column that says whose a row is; without one, and with row-level security on, nobody
-- is told which keys were deleted (devices find that out by comparing keys), unless `shared` says that all may know.
-- `soft` is the column that marks a row as deleted.
--
-- No row is rewritten: all that are there get this transaction's number as a constant of the column. The index holds only
-- what comes later, so that making it means looking through the table once, not sorting it.
create or replace function tidelock.attach(
  relation regclass, owner text default null, soft text default null, shared boolean default null
) returns void
language plpgsql set search_path = '' set client_min_messages = warning
-- While it waits for the table, everybody else waits behind it: it rather fails, to be run again.
set lock_timeout = '2s'
as $$
declare
  name text := tidelock.full_name(relation);
  primary_key text[];
  base xid8;
  stale regclass;
  arguments text;
  moves text;
begin
  select array_agg(a.attname::text order by k.at) into primary_key
  from pg_catalog.pg_index i
    cross join lateral unnest(i.indkey::smallint[]) with ordinality as k (number, at)
    join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.number
  where i.indrelid = attach.relation and i.indisprimary and k.at <= i.indnkeyatts;
  if primary_key is null then
    raise exception 'tidelock: the table % has no primary key', name
      using hint = 'Devices know a row by its key; add a primary key and attach the table again.';
  end if;
  perform tidelock.demand_columns(relation, array[owner, soft]);
  if exists (
    select from pg_catalog.pg_attribute a where a.attrelid = attach.relation and a.attname = attach.soft
      and a.atttypid not in ('timestamptz'::regtype, 'timestamp'::regtype))
  then
    raise exception 'tidelock: the column % of % is not a time', soft, name
      using hint = 'Rows are marked as deleted with the time at which they were.';
  end if;
  shared := coalesce(shared, not (select relrowsecurity from pg_catalog.pg_class where oid = attach.relation));

  select t.since into base from tidelock.tables t where t.relation = attach.relation;
  if base is null or base > pg_current_xact_id() then
    -- New here, or restored into a database that counts its transactions anew: what the rows carry means nothing here.
    execute format('drop trigger if exists zz_tidelock_stamp on %s', name);
    execute format('alter table %s drop column if exists tidelock_version', name);
    delete from tidelock.tombstones g where g.relation = attach.relation;
    base := pg_current_xact_id();
  end if;
  execute format('alter table %s add column if not exists tidelock_version xid8 not null default %L', name, base);
  execute format('alter table %s alter column tidelock_version set default pg_current_xact_id()', name);
  -- A dump brings the index along, under the number that the table had.
  for stale in
    select i.indexrelid::regclass from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid
    where i.indrelid = attach.relation and c.relname ~ '^tidelock_[0-9]+$' and c.relname <> 'tidelock_' || relation::oid
  loop
    execute format('drop index %s', stale);
  end loop;
  execute format('create index if not exists %I on %s (tidelock_version, %s) where tidelock_version > %L::xid8',
    'tidelock_' || relation::oid, name, tidelock.columns(primary_key), base);

  arguments := (select string_agg(quote_literal(a), ', ') from unnest(coalesce(owner, '') || primary_key) a);
  moves := (select string_agg(format('old.%1$I is distinct from new.%1$I', c), ' or ')
            from unnest(array_remove(array_append(primary_key, owner), null)) c);
  -- The last of the triggers before, so that it stamps what the others have made.
  execute format('create or replace trigger zz_tidelock_stamp before insert or update on %s
    for each row when (new.tidelock_version is distinct from pg_current_xact_id()) execute function tidelock.stamp()', name);
  execute format('create or replace trigger tidelock_bury after delete on %s referencing old table as gone
    for each statement execute function tidelock.bury(%s)', name, arguments);
  execute format('create or replace trigger tidelock_move after update on %s
    for each row when (%s) execute function tidelock.move(%s)', name, moves, arguments);
  execute format('create or replace trigger tidelock_reset after truncate on %s
    for each statement execute function tidelock.reset()', name);

  insert into tidelock.tables (relation, key, owner, soft, shared, since)
  values (attach.relation, primary_key, attach.owner, attach.soft, attach.shared, base)
  on conflict on constraint tables_pkey do update
    set key = excluded.key, owner = excluded.owner, soft = excluded.soft, shared = excluded.shared,
        since = excluded.since;
end
$$;

create or replace function tidelock.demand_columns(relation regclass, names text[]) returns void
language plpgsql stable set search_path = ''
as $$
declare
  unknown_column text;
begin
  select c into unknown_column from unnest(names) c where c not in (
    select a.attname from pg_catalog.pg_attribute a
    where a.attrelid = demand_columns.relation and a.attnum > 0 and not a.attisdropped);
  if unknown_column is not null then
    raise undefined_column using table = tidelock.full_name(relation),
      message = format('the table %s has no column %s', tidelock.full_name(relation), unknown_column);
  end if;
end
$$;

create or replace function tidelock.columns(names text[], prefix text default '') returns text
language plpgsql immutable set search_path = ''
as $$
begin
  return string_agg(prefix || quote_ident(name), ', ' order by at) from unnest(names) with ordinality as u (name, at);
end
$$;

-- Takes a table out: everything that `attach` gave it is taken away.
create or replace function tidelock.detach(relation regclass) returns void
language plpgsql set search_path = ''
as $$
declare
  name text := tidelock.full_name(relation);
begin
  if name is not null then
    execute format('drop trigger if exists zz_tidelock_stamp on %s', name);
    execute format('drop trigger if exists tidelock_bury on %s', name);
    execute format('drop trigger if exists tidelock_move on %s', name);
    execute format('drop trigger if exists tidelock_reset on %s', name);
    execute format('alter table %s drop column if exists tidelock_version', name);
  end if;
  delete from tidelock.tombstones t where t.relation = detach.relation;
  delete from tidelock.tables t where t.relation = detach.relation;
end
$$;

-- Takes the whole kit away.
create or replace function tidelock.remove() returns void
language plpgsql set search_path = ''
as $$
begin
  perform tidelock.detach(t.relation) from tidelock.tables t;
  drop function if exists public.tidelock_changes, public.tidelock_push, public.tidelock_describe, public.tidelock_audit;
  drop table if exists public.tidelock_backups;
  drop schema tidelock cascade;
end
$$;

-- Removes what is older than the retention. A device that was away for longer compares everything when it comes back.
create or replace function tidelock.tidy() returns void
language plpgsql security definer set search_path = ''
as $$
declare
  settings tidelock.kit;
  newest xid8;
begin
  select * into settings from tidelock.kit for update skip locked;
  if settings is null then
    return;
  end if;
  with purged as (
    delete from tidelock.tombstones where at < now() - settings.retention returning version
  )
  select (version::text::numeric + 1)::text::xid8 into newest from purged order by version desc limit 1;
  delete from tidelock.ledger where at < now() - settings.retention;
  update tidelock.kit
  set tidied = now(), purged_before = case when newest > purged_before then newest else purged_before end;
end
$$;
