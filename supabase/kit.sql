-- tidelock's server kit, version 1, for PostgreSQL 15 and newer.
--
-- What it is for: a device that asks "what has changed since I last asked?" gets an exact answer whatever the order in
-- which transactions commit, and a change that was sent takes effect once however often it is sent.
--
-- What it does to the database: it makes the schema `tidelock` and four functions in `public`. A table is touched only
-- by `select tidelock.attach('public.my_table')`: it gets the column `tidelock_version`, one index and a few triggers.
-- It stays an ordinary table for everybody else, and row-level security decides as for any other access: the functions
-- that read and write tables run with the rights of whoever calls them.
--
-- This file may be run again at any time, in a transaction or without one. `select tidelock.remove()` takes all of it
-- away and leaves the tables as they were.

create schema if not exists tidelock;
grant usage on schema tidelock to public;

-- One row about this installation.
create table if not exists tidelock.kit (
  only_one      boolean primary key default true check (only_one),
  version       integer not null default 1,
  identity      uuid not null default gen_random_uuid(),
  -- How long tombstones and ledger entries are kept.
  retention     interval not null default '90 days',
  -- Tombstones of transactions before this one may be gone.
  purged_before xid8 not null default '0',
  tidied        timestamptz not null default now()
);
insert into tidelock.kit default values on conflict do nothing;
update tidelock.kit set version = 1;

-- The attached tables.
create table if not exists tidelock.tables (
  relation regclass primary key,
  -- The columns of the primary key.
  key      text[] not null,
  -- The column that says whose a row is: only they learn that it was deleted.
  owner    text,
  -- The column that marks a row as deleted, where rows are not really deleted.
  soft     text,
  -- Whether everybody who may read the table may learn which keys were deleted.
  shared   boolean not null,
  -- The version of all rows that were there before the table was attached.
  since    xid8 not null,
  -- Rises when rows vanished without tombstones (TRUNCATE): devices then compare all of it.
  resets   bigint not null default 0
);

-- What was deleted. Nobody reads this table but through `tidelock.graves`.
create table if not exists tidelock.tombstones (
  relation regclass not null,
  version  xid8 not null default pg_current_xact_id(),
  key      text not null,
  owner    text,
  at       timestamptz not null default now(),
  primary key (relation, version, key)
);

-- What took effect: one row a batch, written in the transaction that performed it.
create table if not exists tidelock.ledger (
  actor     text not null,
  client    text not null,
  epoch     text not null,
  -- The lowest and the highest of the operations' numbers.
  first     bigint not null,
  last      bigint not null,
  sequences bigint[] not null,
  -- Of what each operation asked, so that a copied device that uses the same numbers is found out.
  digests   bigint[] not null,
  version   xid8 not null,
  at        timestamptz not null default now(),
  primary key (actor, client, epoch, last)
);
-- Numbers hardly get smaller, and trying costs time at every push.
alter table tidelock.ledger alter column sequences set storage external, alter column digests set storage external;
create index if not exists ledger_at on tidelock.ledger using brin (at);

alter table tidelock.kit enable row level security;
alter table tidelock.tables enable row level security;
alter table tidelock.tombstones enable row level security;
alter table tidelock.ledger enable row level security;
revoke all on all tables in schema tidelock from public;

-- Who ------------------------------------------------------------------------------------------------------------------

-- The user that the access token names; empty for the anonymous and the service role.
create or replace function tidelock.actor() returns text
language plpgsql stable set search_path = ''
as $$
begin
  return coalesce(
    nullif(current_setting('request.jwt.claim.sub', true), ''),
    nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub',
    '');
end
$$;

-- Whether row-level security does not apply to the caller, also when asked from a function that runs as its owner.
create or replace function tidelock.sees_all() returns boolean
language plpgsql stable set search_path = ''
as $$
begin
  return rolsuper or rolbypassrls from pg_catalog.pg_roles
  where rolname = coalesce(nullif(current_setting('role', true), 'none'), session_user);
end
$$;

-- Which database this is. It changes when the database is restored from a dump, replaced, or rolled back to an earlier
-- time, because then what devices remember of it is no longer true.
create or replace function tidelock.epoch() returns text
language plpgsql stable security definer set search_path = ''
as $$
begin
  return (
    select md5(concat_ws(':', k.identity, 'tidelock.kit'::regclass::oid, d.oid, s.system_identifier, c.timeline_id))
    from tidelock.kit k, pg_catalog.pg_database d, pg_catalog.pg_control_system() s, pg_catalog.pg_control_checkpoint() c
    where d.datname = current_database());
end
$$;

-- An attached table, by the name that a device knows it by, quoted or not; null where there is none.
create or replace function tidelock.attached(name text) returns tidelock.tables
language plpgsql stable security definer set search_path = ''
as $$
begin
  return (
    select t
    from tidelock.tables t
      join pg_catalog.pg_class c on c.oid = t.relation
      join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where $1 in (n.nspname || '.' || c.relname, format('%I.%I', n.nspname, c.relname))
      or n.nspname = 'public' and $1 in (c.relname, quote_ident(c.relname))
    order by n.nspname = 'public' and $1 = c.relname
    limit 1);
end
$$;

-- As `attached`, for what cannot go on without the table.
create or replace function tidelock.demand_attached(name text) returns tidelock.tables
language plpgsql stable set search_path = ''
as $$
declare
  attached tidelock.tables := tidelock.attached(name);
begin
  if attached.relation is null then
    raise undefined_table using table = name,
      message = format('the table %s is not there, or not attached to tidelock''s server kit', name);
  end if;
  return attached;
end
$$;

-- Of the rows whose version is in the index, those that this transaction has written, as a condition.
create or replace function tidelock.is_written_now(attached tidelock.tables) returns text
language plpgsql stable set search_path = ''
as $$
begin
  return format('t.tidelock_version = %L::xid8 and t.tidelock_version > %L::xid8', pg_current_xact_id(),
    case when attached.since < pg_current_xact_id() then attached.since::text else '0' end);
end
$$;

-- A table's name with its schema, quoted where it needs to be.
create or replace function tidelock.full_name(relation regclass) returns text
language plpgsql stable set search_path = ''
as $$
begin
  return (
    select format('%I.%I', n.nspname, c.relname)
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where c.oid = relation);
end
$$;

-- A row's key as text: the column's own text, or a JSON array where the key has several columns.
create or replace function tidelock.key_of(document jsonb, key text[]) returns text
language sql immutable set search_path = ''
as $$
  select case when cardinality(key) = 1 then document ->> key[1]
              else (select jsonb_agg(document -> k order by at) from unnest(key) with ordinality as u (k, at))::text end
$$;

-- The other way round, as an expression: the key's columns as a document, from the text `o.key`.
create or replace function tidelock.key_expression(key text[]) returns text
language sql immutable set search_path = ''
as $$
  select case when cardinality(key) = 1 then format('jsonb_build_object(%L, o.key)', key[1])
              else (select format('jsonb_build_object(%s)', string_agg(format('%L, o.key::jsonb -> %s', k, at - 1), ', '))
                    from unnest(key) with ordinality as u (k, at)) end
$$;

-- The values of a key, from its text as an expression, each with the type of its column but not cut to its length: a key
-- that is too long is refused, and finds no row.
create or replace function tidelock.key_values(attached tidelock.tables, text_key text) returns text[]
language plpgsql stable set search_path = ''
as $$
begin
  return (
    select array_agg(format(case when cardinality(attached.key) = 1 then '%s::%s' else '(%s::jsonb ->> %3$s)::%2$s' end,
      text_key, format_type(a.atttypid, -1), k.at - 1) order by k.at)
    from unnest(attached.key) with ordinality as k (name, at)
      join pg_catalog.pg_attribute a on a.attrelid = attached.relation and a.attname = k.name);
end
$$;

-- The condition that a row is the one that the text `o.key` names. Written so that an index finds it.
create or replace function tidelock.key_matches(attached tidelock.tables) returns text
language plpgsql stable set search_path = ''
as $$
begin
  return (
    select string_agg(format('t.%I = %s', k, v), ' and ')
    from unnest(attached.key, tidelock.key_values(attached, 'o.key')) as u (k, v));
end
$$;

-- Triggers of attached tables -----------------------------------------------------------------------------------------

-- Every insert and update is stamped with its transaction: not with the time, which says when a transaction began and
-- nothing about when it became visible. A plain insert has its stamp from the column's default, which costs less.
create or replace function tidelock.stamp() returns trigger
language plpgsql set search_path = ''
as $$
begin
  new.tidelock_version := pg_current_xact_id();
  return new;
end
$$;

-- Arguments of the next two: the owner's column or an empty text, then the columns of the key.
create or replace function tidelock.bury() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  insert into tidelock.tombstones (relation, key, owner)
  select tg_relid, tidelock.key_of(to_jsonb(g.*), tg_argv[1:]), to_jsonb(g.*) ->> nullif(tg_argv[0], '')
  from gone g
  on conflict do nothing;
  return null;
end
$$;

-- A row that gets another key or another owner is gone for those who knew the old one.
create or replace function tidelock.move() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  insert into tidelock.tombstones (relation, key, owner)
  values (tg_relid, tidelock.key_of(to_jsonb(old), tg_argv[1:]), to_jsonb(old) ->> nullif(tg_argv[0], ''))
  on conflict do nothing;
  return null;
end
$$;

create or replace function tidelock.reset() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  update tidelock.tables set resets = resets + 1 where relation = tg_relid;
  return null;
end
$$;

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

-- Reading --------------------------------------------------------------------------------------------------------------

-- The keys of deleted rows that the caller may know of: their own, or all where the table is shared.
create or replace function tidelock.graves(
  relation regclass, since pg_snapshot, until pg_snapshot, without xid8[], after_version xid8, after_key text, most bigint
) returns table (version xid8, key text)
language sql stable security definer set search_path = ''
as $$
  -- The two places where new ones can stand, as for the rows: each is found in the index.
  with new as (
    (select g.* from tidelock.tombstones g
     where g.relation = graves.relation
       and g.version >= pg_snapshot_xmax(since) and g.version < pg_snapshot_xmax(until)
       and (after_version is null or (g.version, g.key) > (after_version, after_key)))
    union all
    (select g.* from tidelock.tombstones g
     where g.relation = graves.relation and g.version = any (array(select pg_snapshot_xip(since)))
       and (after_version is null or (g.version, g.key) > (after_version, after_key)))
  )
  select g.version, g.key
  from new g
  where pg_visible_in_snapshot(g.version, until)
    and g.version <> all (without)
    and (g.owner = nullif(tidelock.actor(), '')
      or tidelock.sees_all()
      or exists (select from tidelock.tables t where t.relation = graves.relation and t.shared))
  order by g.version, g.key
  limit most
$$;

-- A filter as SQL. It comes as [["column", "operator", value], …]; a leading "not." turns an operator round.
create or replace function tidelock.condition(filter jsonb) returns text
language plpgsql immutable set search_path = ''
as $$
declare
  part jsonb;
  operator text;
  one text;
  conditions text[] := '{true}';
begin
  for part in select * from jsonb_array_elements(coalesce(filter, '[]')) loop
    operator := regexp_replace(part ->> 1, '^not\.', '');
    one := case operator
      when 'eq' then format('t.%I = %L', part ->> 0, part ->> 2)
      when 'neq' then format('t.%I <> %L', part ->> 0, part ->> 2)
      when 'gt' then format('t.%I > %L', part ->> 0, part ->> 2)
      when 'gte' then format('t.%I >= %L', part ->> 0, part ->> 2)
      when 'lt' then format('t.%I < %L', part ->> 0, part ->> 2)
      when 'lte' then format('t.%I <= %L', part ->> 0, part ->> 2)
      when 'like' then format('t.%I like %L', part ->> 0, part ->> 2)
      when 'ilike' then format('t.%I ilike %L', part ->> 0, part ->> 2)
      when 'in' then format('t.%I in (%s)', part ->> 0,
        coalesce((select string_agg(quote_literal(v), ', ') from jsonb_array_elements_text(part -> 2) v), 'null'))
      when 'is' then case part ->> 2
        when 'null' then format('t.%I is null', part ->> 0)
        when 'true' then format('t.%I is true', part ->> 0)
        when 'false' then format('t.%I is false', part ->> 0)
      end
    end;
    if one is null then
      raise exception 'tidelock: a filter cannot use %', part using errcode = 'invalid_parameter_value';
    end if;
    conditions := conditions || case when part ->> 1 like 'not.%' then format('not (%s)', one) else format('(%s)', one) end;
  end loop;
  return array_to_string(conditions, ' and ');
end
$$;

-- What has changed. `collections` is an array, each entry
--   {"table": "public.notes", "since": snapshot, "columns": [...], "filter": [...], "until": snapshot, "after": {...}}
-- where only `table` has to be there. Without `since` the table is read from its beginning in the order of its key.
-- `own` are transactions of the caller's that it knows all about. The answer:
--   {"snapshot", "now", "epoch", "purged_before", "collections": [{"rows", "gone", "whole", "resets", "untold", "more", "error"} …]}
-- with one entry a collection, at the same place. Where deletions are `untold`, keys have to be compared to find them. A
-- collection with `more` is not at its end: `more` is what to put into its entry to go on. All of it is one statement, so it is one snapshot: what a transaction wrote is here whole, or not
-- at all.
create or replace function public.tidelock_changes(
  since text default null, collections jsonb default '[]', page_rows integer default 5000, own text[] default '{}'
) returns json
language plpgsql stable set search_path = public, extensions, pg_temp set random_page_cost = 1.1 set jit = off
as $$
declare
  now_visible pg_snapshot := pg_current_snapshot();
  entry jsonb;
  answers json[] := '{}';
  one json;
  room integer := greatest(page_rows, 1);
  rows_in_it integer;
  code text;
  words text;
begin
  for entry in select * from jsonb_array_elements(collections) loop
    begin
      select c.answer, c.taken into one, rows_in_it
      from tidelock.changes_of(entry, coalesce(entry ->> 'since', since)::pg_snapshot, now_visible, room, own::xid8[]) c;
      room := greatest(room - rows_in_it, 0);
    exception
      when transaction_rollback or lock_not_available or insufficient_resources or operator_intervention
        or system_error then
        raise;
      -- One table that is gone, was changed or may not be read does not stand in the way of the others.
      when others then
        get stacked diagnostics code = returned_sqlstate, words = message_text;
        one := json_build_object('error', json_build_object('code', code, 'message', words));
    end;
    answers := answers || one;
  end loop;
  return json_build_object(
    'snapshot', now_visible::text, 'now', to_json(clock_timestamp()), 'epoch', tidelock.epoch(),
    'purged_before', tidelock.purged_before()::text, 'collections', to_json(answers));
end
$$;

create or replace function tidelock.purged_before() returns xid8
language plpgsql stable security definer set search_path = ''
as $$
begin
  return (
    select purged_before from tidelock.kit);
end
$$;

-- The changes of one collection, at most `most` rows, and how many there are.
create or replace function tidelock.changes_of(
  entry jsonb, since pg_snapshot, now_visible pg_snapshot, most integer, own xid8[], out answer json, out taken integer
)
language plpgsql stable set search_path = public, extensions, pg_temp
as $$
declare
  attached tidelock.tables := tidelock.demand_attached(entry ->> 'table');
  until pg_snapshot := coalesce((entry ->> 'until')::pg_snapshot, now_visible);
  after_row jsonb := entry -> 'after' -> 'row';
  after_grave jsonb := entry -> 'after' -> 'grave';
  last_row jsonb;
  last_grave jsonb;
  documents json;
  gone jsonb := '[]';
  buried jsonb := '[]';
  is_whole boolean;
  is_more boolean := most = 0;
begin
  taken := 0;
  -- Somebody who has not seen the table as it was attached has seen nothing of it.
  is_whole := coalesce(not pg_visible_in_snapshot(attached.since, since), true);
  if most > 0 then
    execute format($query$
      select coalesce(json_agg(document order by place) filter (where matches), '[]'),
             coalesce(jsonb_agg(key order by place) filter (where not matches), '[]'),
             count(*),
             (array_agg(jsonb_build_array(version::text, key) order by place desc))[1]
      from (select *, row_number() over () as place from (%s) as found) as placed
    $query$, tidelock.changed_rows(attached, entry, case when not is_whole then since end, until, after_row, most, own))
    into documents, gone, taken, last_row;
    if not is_whole then
      select coalesce(jsonb_agg(g.key order by g.version, g.key), '[]'),
             (array_agg(jsonb_build_array(g.version::text, g.key) order by g.version desc, g.key desc))[1]
      into buried, last_grave
      from tidelock.graves(
        attached.relation, since, until, own, (after_grave ->> 0)::xid8, after_grave ->> 1, most) g;
      is_more := jsonb_array_length(buried) = most;
      if buried <> '[]' then
        -- What was deleted and made again is among the rows.
        execute format('select coalesce(jsonb_agg(o.key), ''[]'') from jsonb_array_elements_text($1) as o (key)
          where not exists (select from %s t where %s offset 0)',
          tidelock.full_name(attached.relation), tidelock.key_matches(attached)) into buried using buried;
      end if;
    end if;
    -- A full page may not be the last one.
    is_more := is_more or taken = most;
  end if;
  -- Without the spaces of json_build_object: most answers are about many tables in which nothing has changed.
  answer := format('{"rows":%s,"gone":%s,"whole":%s,"resets":%s%s,"more":%s}',
    coalesce(documents, '[]'), gone || buried, to_json(is_whole), attached.resets,
    case when attached.owner is not null or attached.soft is not null or attached.shared or tidelock.sees_all() then ''
         else ',"untold":true' end,
    case when is_more then jsonb_build_object('until', until::text, 'after', jsonb_build_object(
      'row', coalesce(last_row, after_row), 'grave', coalesce(last_grave, after_grave))) else 'null' end);
end
$$;

-- A row's key as text, as an expression.
create or replace function tidelock.text_key(key text[], prefix text default 't.') returns text
language plpgsql immutable set search_path = ''
as $$
begin
  return case when cardinality(key) = 1 then format('(to_jsonb(%s) #>> ''{}'')', tidelock.columns(key, prefix))
              else format('jsonb_build_array(%s)::text', tidelock.columns(key, prefix)) end;
end
$$;

-- The query for the rows of one collection: version, key, whether the row belongs to the collection, and the row.
create or replace function tidelock.changed_rows(
  attached tidelock.tables, entry jsonb, since pg_snapshot, until pg_snapshot, after_row jsonb, most integer, own xid8[]
) returns text
language plpgsql stable set search_path = ''
as $$
declare
  key text := tidelock.columns(attached.key, 't.');
  belongs text := tidelock.condition(entry -> 'filter');
  document text := 'row_to_json(t.*)';
  after_key text;
  rows_of text;
  bounds text;
begin
  if attached.soft is not null then
    belongs := belongs || format(' and t.%I is null', attached.soft);
  end if;
  if jsonb_array_length(entry -> 'columns') > 0 then
    select format('(select row_to_json(c.*) from (select %s, t.tidelock_version) c)', tidelock.columns(array_agg(c), 't.'))
    into document
    from (select jsonb_array_elements_text(entry -> 'columns') union select unnest(attached.key)) as wanted (c);
  end if;
  if after_row ->> 1 is not null then
    after_key := array_to_string(tidelock.key_values(attached, quote_literal(after_row ->> 1)), ', ');
  end if;
  rows_of := format(
    'select t.tidelock_version as version, %s as key, coalesce(%s, false) as matches, %s as document, row(%s) as sort_key
     from %s t where ', tidelock.text_key(attached.key), belongs, document, key, tidelock.full_name(attached.relation));
  if since is null then
    return rows_of || format('(%s) and %s order by %s limit %s', belongs,
      case when after_key is null then 'true' else format('(%s) > (%s)', key, after_key) end, key, most);
  end if;
  -- New is what is visible now and was not then: what has begun since, and what was open then. Each of the two finds its
  -- place in the index; asked for together they would not.
  bounds := format('t.tidelock_version > %L::xid8 and t.tidelock_version < %L::xid8 and pg_visible_in_snapshot(t.tidelock_version, %L)
     and t.tidelock_version <> all (%L::xid8[]) and %s order by t.tidelock_version, %s limit %s',
    case when attached.since < pg_snapshot_xmax(until) then attached.since::text else '0' end,
    pg_snapshot_xmax(until), until, own,
    case when after_key is null then 'true'
         else format('(t.tidelock_version, %s) > (%L::xid8, %s)', key, after_row ->> 0, after_key) end, key, most);
  return format(
    'select * from ((%1$s t.tidelock_version >= %2$L::xid8 and %4$s) union all
       (%1$s t.tidelock_version = any (%3$L::xid8[]) and %4$s)) as both_kinds order by version, sort_key limit %5$s',
    rows_of, pg_snapshot_xmax(since), array(select pg_snapshot_xip(since)), bounds, most);
end
$$;

-- Comparing ------------------------------------------------------------------------------------------------------------

-- The text of a column's values as both sides have it for a digest, as an expression: what the value is in JSON, without
-- its quotes; null of a JSON null as well. Where the plain cast gives that it is taken, because it is cheap; times come as
-- the settings of `tidelock_audit` have them.
create or replace function tidelock.digest_text(relation regclass, name text) returns text
language sql stable set search_path = ''
as $$
  select format(case
      when t.typtype = 'e' or t.oid = any (array['text', 'varchar', 'uuid', 'int2', 'int4', 'int8', 'numeric', 'float4',
        'float8', 'bool', 'date', 'timestamp', 'timestamptz', 'xid8']::regtype[]) then 't.%I::text'
      when t.oid = 'json'::regtype then 'nullif(t.%I::text, ''null'')'
      when t.oid = 'jsonb'::regtype then '(t.%I #>> ''{}'')'
      else '(to_jsonb(t.%I) #>> ''{}'')' end, a.attname)
  from pg_catalog.pg_attribute a join pg_catalog.pg_type t on t.oid = a.atttypid
  where a.attrelid = digest_text.relation and a.attname = digest_text.name and a.attnum > 0 and not a.attisdropped
$$;

-- The digest of a row, as an expression: each column's text is hashed with its place among the columns for a seed, and
-- all of that is the seed for the key's. A null counts for nothing, and no separator can be mistaken for a text.
create or replace function tidelock.row_digest(attached tidelock.tables, columns text[], text_key text) returns text
language plpgsql stable set search_path = ''
as $$
begin
  perform tidelock.demand_columns(attached.relation, columns);
  return format('hashtextextended(%s collate "C", %s)', text_key, (
    select coalesce(string_agg(format('coalesce(hashtextextended((%s) collate "C", %s), 0)',
      tidelock.digest_text(attached.relation, c), at), ' # ' order by at), '0::bigint')
    from unnest(columns) with ordinality as u (c, at)));
end
$$;

-- Compares without telling the rows: a digest of each of so many buckets, or of each row in some of them. `collections` is
-- an array, each entry
--   {"table": "public.notes", "columns": [...], "filter": [...], "buckets": a power of two, "only": [bucket, …]}
-- The columns are those that the digest is made of, in this order. A row's bucket is the rest of the hash of its key's text,
-- a bucket's digest the exclusive or of its rows'. The answer has one entry a collection, at the same place:
--   {"digests": "…"}                  16 hexadecimal digits a bucket, zero where it has no rows
--   {"rows": [["key", "…"], …]}       of the buckets that are asked for with `only`
--   {"error": {"code", "message"}}
-- Only what row-level security lets the caller see is in it.
create or replace function public.tidelock_audit(collections jsonb) returns json
language plpgsql stable set search_path = public, extensions, pg_temp set jit = off
-- Times are written as both sides have agreed. Rows are grouped without being sorted: there are few groups, which the
-- planner cannot know.
set timezone = 'UTC' set datestyle = 'ISO, YMD' set enable_sort = off
as $$
declare
  entry jsonb;
  answers json[] := '{}';
  one json;
  code text;
  words text;
begin
  for entry in select * from jsonb_array_elements(collections) loop
    begin
      one := tidelock.audit_of(entry);
    exception
      when transaction_rollback or lock_not_available or insufficient_resources or operator_intervention
        or system_error then
        raise;
      when others then
        get stacked diagnostics code = returned_sqlstate, words = message_text;
        one := json_build_object('error', json_build_object('code', code, 'message', words));
    end;
    answers := answers || one;
  end loop;
  return json_build_object('collections', to_json(answers));
end
$$;

create or replace function tidelock.audit_of(entry jsonb) returns json
language plpgsql stable set search_path = public, extensions, pg_temp
as $$
declare
  attached tidelock.tables := tidelock.demand_attached(entry ->> 'table');
  columns text[] := array(select jsonb_array_elements_text(entry -> 'columns'));
  buckets integer := coalesce((entry ->> 'buckets')::integer, 1);
  belongs text := tidelock.condition(entry -> 'filter');
  text_key text;
  bucket text;
  answer json;
begin
  if buckets not between 1 and 65536 or buckets & (buckets - 1) <> 0 then
    raise invalid_parameter_value using message = format('%s is no number of buckets', buckets);
  end if;
  if attached.soft is not null then
    belongs := belongs || format(' and t.%I is null', attached.soft);
  end if;
  text_key := case when cardinality(attached.key) = 1 then tidelock.digest_text(attached.relation, attached.key[1])
                   else tidelock.text_key(attached.key) end;
  bucket := format('(hashtextextended(%s collate "C", 0) & %s)', text_key, buckets - 1);
  if entry ? 'only' then
    execute format($query$
      select json_build_object('rows', coalesce(json_agg(json_build_array(%s, lpad(to_hex(%s), 16, '0'))), '[]'))
      from %s t where (%s) and %s = any ($1)
    $query$, text_key, tidelock.row_digest(attached, columns, text_key), tidelock.full_name(attached.relation), belongs, bucket)
    into answer using array(select jsonb_array_elements_text(entry -> 'only')::bigint);
  else
    execute format($query$
      select json_build_object('digests',
        encode(string_agg(int8send(coalesce(d.digest, 0)), ''::bytea order by b.number), 'hex'))
      from generate_series(0, %s) b (number)
        left join (select %s as number, bit_xor(%s) as digest from %s t where %s group by 1) d using (number)
    $query$, buckets - 1, bucket, tidelock.row_digest(attached, columns, text_key), tidelock.full_name(attached.relation), belongs)
    into answer;
  end if;
  return answer;
end
$$;

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

-- Everything about a table comes from the catalogue, which says what is true now.
create or replace function tidelock.description_of(name text) returns json
language plpgsql stable set search_path = ''
as $$
declare
  described oid;
  row_security boolean;
  attached tidelock.tables;
begin
  select c.oid, c.relrowsecurity into described, row_security
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
--   {"version", "epoch", "tables": [{"table", "exists", "attached", "key": [...], "owner", "soft", "shared", "row_security",
--    "columns": [{"name", "type", "nullable"}], "references": [{"columns", "table", "referenced"}]} …]}
-- with one entry a table, at the same place. A name may be quoted or not, as devices know it. Of a table that the caller may not read, `exists` is false and nothing else
-- is told. The table of a reference is its schema and name with a dot between, as they are.
create or replace function public.tidelock_describe(tables text[]) returns json
language sql stable set search_path = ''
as $$
  select json_build_object('version', tidelock.kit_version(), 'epoch', tidelock.epoch(), 'tables', coalesce(
    (select json_agg(tidelock.description_of(name) order by at) from unnest(tables) with ordinality as u (name, at)), '[]'))
$$;

-- Writing --------------------------------------------------------------------------------------------------------------

-- An operation of a batch, taken apart once. `bundle` is its group.
-- A verdict: its answer is what the device gets; of an update that was applied it is the row as it was, until the end.
do $$
begin
  if to_regtype('tidelock.operation') is null then
    create type tidelock.operation as (
      n integer, bundle integer, name text, action text, key text, base xid8, document jsonb, columns text[],
      covers bigint[], digest bigint, is_fresh boolean);
  end if;
  if to_regtype('tidelock.verdict') is null then
    create type tidelock.verdict as (n integer, kind text, answer jsonb);
  end if;
end
$$;

-- Takes a batch of operations of one device: an array of
--   {"group", "table", "action": "create"|"update"|"delete", "key", "base": version, "set": {column: value}, "covers": [sequence]}
-- in the order in which they are to happen. Without a table or an action, an operation has that of the first one. Operations
-- of one `group` take effect together or not at all: the number of an operation of this batch, counted from 0; its own where
-- it says none. A create needs that there is no row, an update or a deletion that the row still has the version `base`. The
-- answer:
--   {"epoch", "now", "version", "alone": whether this transaction changed nothing but what was asked, "verdicts": [...],
--    "shared": [...]}
-- with one verdict an operation, at the same place; a number stands for the one at that place of `shared`:
--   {"verdict": "applied", "version", "made": {the columns that the server made different from what was sent}}
--   {"verdict": "conflict", "row"}      the row is not what the operation was made on; null where there is none
--   {"verdict": "waits"}                nothing is wrong with it, but its group did not take effect
--   {"verdict": "refused", "code", "message", "detail", "hint", "status"}
-- What has taken effect is in the ledger, so that a batch that is sent again answers the same and changes nothing. Batches
-- of one device may come at the same time, unless an operation in them may have come before: that is to be said by `again`.
--
-- `server` is the epoch that the device knows, `seen` the transaction before which it has seen everything.
drop function if exists public.tidelock_push(text, text, jsonb, text);
create or replace function public.tidelock_push(
  client text, epoch text, batch jsonb, server text default null, seen text default null, again boolean default true
) returns jsonb
language plpgsql set search_path = public, extensions, pg_temp
-- Rows are looked up by their keys, and compiling a query would cost more than all of it; so would planning each anew
-- around a whole batch.
set random_page_cost = 1.1 set jit = off set plan_cache_mode = force_generic_plan
as $$
declare
  operations tidelock.operation[];
  is_alike boolean;
  first bigint;
  last bigint;
  verdicts tidelock.verdict[];
  applied tidelock.operation[];
  told tidelock.verdict[];
  shared jsonb;
  is_alone boolean;
begin
  if server <> tidelock.epoch() then
    raise exception 'this is another database than the one that the device knows, or an earlier state of it'
      using errcode = 'TL001', hint = 'Look at what it has, then accept it on the device.';
  end if;
  if seen::xid8 <= nullif(tidelock.purged_before(), '0'::xid8) then
    raise exception 'this device was away for longer than deletions are remembered'
      using errcode = 'TL003', hint = 'It has to pull, and to compare keys, before it pushes.';
  end if;
  select t.operations, t.is_alike, t.first, t.last into operations, is_alike, first, last from tidelock.taken_apart(batch) t;
  perform tidelock.take_turns(client, first, again);
  verdicts := tidelock.recorded(client, epoch, operations, first, last);
  if cardinality(operations) > 1 and not (is_alike and (operations[1]).action = 'create') then
    operations := tidelock.mark_fresh(operations);
  end if;
  verdicts := verdicts || tidelock.apply(case when verdicts = '{}' then operations else array(
    select o from unnest(operations) o where o.n not in (select v.n from unnest(verdicts) v) order by o.n) end, false, is_alike);
  applied := case when exists (select from unnest(verdicts) v where v.kind <> 'applied') then array(
    select o from unnest(operations) o where o.n not in (select v.n from unnest(verdicts) v where v.kind <> 'applied')
    order by o.n) else operations end;
  is_alone := tidelock.is_alone(applied, is_alike);
  select l.told, l.shared, is_alone and l.is_complete into told, shared, is_alone
  from tidelock.look(applied, verdicts, is_alike) l;
  perform tidelock.record(client, epoch, applied);
  return jsonb_build_object(
    'epoch', tidelock.epoch(), 'now', to_jsonb(clock_timestamp()), 'version', pg_current_xact_id()::text,
    'alone', is_alone, 'shared', shared, 'verdicts', case
      when told = '{}' then to_jsonb(array_fill(0, array[cardinality(operations)]))
      else (select jsonb_agg(coalesce(v.answer, '0') order by n)
            from generate_series(0, cardinality(operations) - 1) n left join unnest(told) v using (n)) end);
end
$$;

-- Two sendings of one operation come one after the other. A batch whose operations are sent for the first time keeps apart
-- from its own copies alone, which a network may make; one that is sent again may have been cut otherwise before.
create or replace function tidelock.take_turns(client text, first bigint, again boolean) returns void
language plpgsql set search_path = ''
as $$
declare
  device text := tidelock.actor() || ':' || client;
begin
  if again then
    perform pg_advisory_xact_lock(hashtextextended(device, 0));
  else
    perform pg_advisory_xact_lock_shared(hashtextextended(device, 0));
    perform pg_advisory_xact_lock(hashtextextended(device || ':' || first, 0));
  end if;
end
$$;

-- The operations of a batch; whether all do the same to one table and set the same columns; the first and the last
-- number that they cover. The digest is of what an operation asks. Most operations set the columns that the first one sets,
-- which is quicker to find out than what their columns are.
create or replace function tidelock.taken_apart(
  batch jsonb, out operations tidelock.operation[], out is_alike boolean, out first bigint, out last bigint
)
language plpgsql immutable set search_path = ''
as $$
declare
  usual_name text := batch -> 0 ->> 'table';
  usual_action text := batch -> 0 ->> 'action';
  usual text[] := array(select jsonb_object_keys(coalesce(nullif(batch -> 0 -> 'set', 'null'), '{}')));
begin
  select coalesce(array_agg((
      at - 1, bundle, name, action, key, base, document,
      case when action = 'delete' then null
           when is_usual then usual
           else array(select jsonb_object_keys(document)) end,
      covers, hash_record_extended(row(name, action, key, document), 0), false
    )::tidelock.operation order by at), '{}'),
    coalesce(bool_and(name = usual_name and action = usual_action and (is_usual or action = 'delete')), true),
    min(covers[1]), max(covers[cardinality(covers)])
  into operations, is_alike, first, last
  from (
    select at, coalesce("group", at - 1) as bundle, coalesce("table", usual_name) as name,
      coalesce(action, usual_action) as action, key, base, document, document ?& usual and document - usual = '{}' as is_usual,
      case when cardinality(covers) > 1 then array(select c from unnest(covers) c order by c) else covers end as covers
    from rows from (jsonb_to_recordset(batch) as (
        "group" integer, "table" text, action text, key text, base xid8, "set" jsonb, covers bigint[]
      )) with ordinality as b ("group", "table", action, key, base, "set", covers, at)
      cross join lateral (select coalesce("set", '{}') as document) d
    offset 0) o;
end
$$;

-- The verdicts on operations that have taken effect before.
create or replace function tidelock.recorded(
  client text, epoch text, operations tidelock.operation[], first bigint, last bigint
) returns tidelock.verdict[]
language plpgsql stable security definer set search_path = ''
as $$
declare
  verdicts tidelock.verdict[];
begin
  if not exists (
    select from tidelock.ledger l
    where l.actor = tidelock.actor() and l.client = recorded.client and l.epoch = recorded.epoch
      and l.last >= recorded.first and l.first <= recorded.last)
  then
    return '{}';
  end if;
  with known as materialized (
    select s.sequence, s.digest, l.version
    from tidelock.ledger l cross join unnest(l.sequences, l.digests) as s (sequence, digest)
    where l.actor = tidelock.actor() and l.client = recorded.client and l.epoch = recorded.epoch
      and l.last >= recorded.first and l.first <= recorded.last
  ), met as (
    select o.n, bool_and(k.digest = o.digest) as is_same, min(k.version::text) as version
    from known k join (select o.n, o.digest, c from unnest(operations) o cross join unnest(o.covers) c) o on o.c = k.sequence
    group by o.n
  )
  select array_agg((n, 'recorded', case
      when is_same then jsonb_build_object('verdict', 'applied', 'version', version, 'again', true)
      else jsonb_build_object('verdict', 'refused', 'status', 409, 'code', 'TL002', 'message',
        'this number was used for another operation: two copies of one store are sending',
        'hint', 'Give one of them an identity of its own by restoring it as a copy.') end)::tidelock.verdict)
  into verdicts from met;
  return coalesce(verdicts, '{}');
end
$$;

-- Writes down what has taken effect now.
create or replace function tidelock.record(client text, epoch text, applied tidelock.operation[]) returns void
language plpgsql security definer set search_path = ''
as $$
begin
  insert into tidelock.ledger (actor, client, epoch, first, last, sequences, digests, version)
  select tidelock.actor(), record.client, record.epoch, min(c), max(c), array_agg(c), array_agg(digest), pg_current_xact_id()
  from (select unnest(o.covers) as c, o.digest from unnest(applied) o) covered
  having count(*) > 0;
  if exists (select from tidelock.kit where tidied < now() - interval '1 hour') then
    perform tidelock.tidy();
  end if;
end
$$;

-- Whether no row of an attached table carries this transaction's number but those that were asked for: triggers may have
-- written others. That the rows that were asked for are there is for `look` to find out.
create or replace function tidelock.is_alone(applied tidelock.operation[], is_alike boolean) returns boolean
language plpgsql stable security definer set search_path = ''
as $$
declare
  -- No row is made twice.
  are_new boolean := is_alike and (applied[1]).action = 'create';
  part record;
  keys text[];
  has_others boolean;
begin
  for part in
    select t as attached, a.names, coalesce(a.number, 0) as number, coalesce(a.has_deletions, false) as has_deletions
    from tidelock.tables t
      join pg_catalog.pg_class c on c.oid = t.relation
      left join (
        select (tidelock.attached(n.name)).relation, array_agg(n.name) as names, sum(n.number) as number,
          bool_or(n.has_deletions) as has_deletions
        from (
          select name, count(*) as number, bool_or(is_deleted) as has_deletions
          from (select o.name, bool_or(o.action = 'delete') as is_deleted from unnest(applied) o
                group by o.name, o.key collate "C") keys
          where not are_new
          group by name
          union all
          select (applied[1]).name, cardinality(applied), false where are_new
          offset 0) n
        group by 1) a on a.relation = t.relation
    -- Tables in which this session has written nothing lately need no look.
    where not current_setting('track_counts')::boolean
      or a.relation is not null
      -- What is written there counts for its partitions.
      or c.relkind = 'p'
      or pg_stat_get_xact_tuples_inserted(t.relation) + pg_stat_get_xact_tuples_updated(t.relation)
         + pg_stat_get_xact_tuples_deleted(t.relation) > 0
  loop
    -- Counting does where rows only had to be written; where some had to go, keys are compared.
    keys := case when part.has_deletions then array(select o.key from unnest(applied) o where o.name = any (part.names))
                 else '{}' end;
    execute format('select %s from %s t where %s %s',
      case when part.has_deletions then 'count(*) > 0' else 'count(*) <> $2' end,
      tidelock.full_name((part.attached).relation), tidelock.is_written_now(part.attached),
      case when part.has_deletions then format('and %s <> all ($1)', tidelock.text_key((part.attached).key)) else '' end)
    into has_others using keys, part.number;
    if has_others or exists (
      select from tidelock.tombstones g
      where g.relation = (part.attached).relation and g.version = pg_current_xact_id() and g.key <> all (keys))
    then
      return false;
    end if;
  end loop;
  return true;
end
$$;

-- What is told of each operation, when all of it and all that triggers do is done: of those that were applied, what is in
-- their rows now. What most of those of one kind come to is told once, in `shared`: that a row is as it was sent, and of new
-- rows also what the columns came to that nobody sent. An operation that is not in `told` came to the first of `shared`.
-- `is_complete` says whether each row was found and may be read.
create or replace function tidelock.look(
  applied tidelock.operation[], verdicts tidelock.verdict[], is_alike boolean,
  out told tidelock.verdict[], out shared jsonb, out is_complete boolean
)
language plpgsql set search_path = public, extensions, pg_temp
as $$
declare
  part record;
  done jsonb := jsonb_build_object('verdict', 'applied', 'version', pg_current_xact_id()::text);
  usual jsonb;
  looked tidelock.verdict[];
  made jsonb;
  is_row_there boolean;
begin
  told := case when verdicts = '{}' then '{}' else array(select v from unnest(verdicts) v where v.kind <> 'applied') end;
  shared := '[]';
  is_complete := true;
  for part in select p.operations, p.operations[1] as first from tidelock.parts(applied, false, is_alike) p loop
    usual := nullif(to_jsonb(jsonb_array_length(shared)), '0');
    made := null;
    if (part.first).action <> 'delete' then
      execute tidelock.sight(tidelock.attached((part.first).name), part.first)
      into looked, made, is_row_there using part.operations, verdicts, done, usual;
      is_complete := is_complete and is_row_there;
      told := told || looked;
    elsif usual is not null then
      told := told || array(select (o.n, 'done', usual)::tidelock.verdict from unnest(part.operations) o);
    end if;
    shared := shared || coalesce(done || jsonb_build_object('made', made), done);
  end loop;
end
$$;

-- The query that looks at the rows of operations ($1) with these verdicts ($2), all of one kind. It gives the verdicts on
-- those that have to be told one by one, what most new rows came to beside what was sent, and whether all rows are there. $3
-- is the verdict where nothing has to be told, and $4 stands for the one of most rows; null where that goes without saying.
-- Almost always everything that was sent is there as it was sent, and the rest is the same in all rows.
create or replace function tidelock.sight(attached tidelock.tables, first tidelock.operation) returns text
language plpgsql stable set search_path = ''
as $$
declare
  full_name text := tidelock.full_name(attached.relation);
  unsent text[] := array(
    select a.attname::text from pg_catalog.pg_attribute a
    where a.attrelid = attached.relation and a.attnum > 0 and not a.attisdropped and a.attname <> 'tidelock_version'
      and a.attname <> all (first.columns || attached.key) order by a.attnum);
  there text := tidelock.key_matches(attached) || ' and ' || tidelock.is_written_now(attached);
  one text := format('from (select $1[1].key) o join %s t on %s', full_name, there);
  -- As JSON, since a value may be cut or rounded on its way into its column.
  is_as_sent text := coalesce((
    select string_agg(tidelock.is_as_sent(a.attname, a.atttypid, a.atttypmod), ' and ') from pg_catalog.pg_attribute a
    where a.attrelid = attached.relation and a.attname = any (first.columns)), 'true');
  -- To the byte.
  is_usual text := coalesce((
    select format('row(%s)::record operator(pg_catalog.*=) row(%s)::record', tidelock.columns(unsent, 't.'),
      string_agg(format('(one.row).%I', c), ', ' order by at))
    from unnest(unsent) with ordinality as u (c, at) having count(*) > 0), 'true');
  difference text := $expression$(
          select $3 || jsonb_build_object('made', jsonb_object_agg(c.key, c.value)) from jsonb_each(to_jsonb(t.*)) c
          where c.key <> 'tidelock_version' and c.value is distinct from %s -> c.key
          having count(*) > 0)$expression$;
begin
  return format($query$
    select coalesce(array_agg((n, 'done', answer)::tidelock.verdict) filter (where answer is not null), '{}'),
      %s, coalesce(bool_and(is_there), true)
    from (
      select o.n, t.tidelock_version is not null as is_there,
        case when t.tidelock_version is null then $3 %s end as answer
      from (%s offset 0) o
        left join %s t on %s
        %s
      offset 0) seen
    $query$,
    case when first.action = 'create' and unsent <> '{}'
      then (select format('(select jsonb_build_object(%s) %s)', string_agg(format('%1$L, t.%1$I', c), ', '), one) from unnest(unsent) c)
      else 'null::jsonb' end,
    case when first.action = 'create'
      then format('when %s = o.key and %s and %s then $4 else coalesce(%s, $3)',
        tidelock.text_key(attached.key), is_as_sent, is_usual, format(difference, 'o.document'))
      else format('else coalesce(%s, $4)', format(difference, '(o.was || o.document)')) end,
    case when first.action = 'create' then 'select o.n, o.key, o.document from unnest($1) o'
      else 'select o.n, o.key, o.document, v.answer as was from unnest($1) o join unnest($2) v using (n)' end,
    full_name, there,
    case when first.action = 'create' then format('left join (select t as row %s) one on true', one) else '' end);
end
$$;

-- The condition that a column holds what was sent for it, for some common types without making JSON of it.
create or replace function tidelock.is_as_sent(name name, type oid, modifier integer) returns text
language plpgsql immutable set search_path = ''
as $$
begin
  return (
    select format(case
      when type = 'jsonb'::regtype then 'coalesce(t.%1$I, ''null'') = o.document -> %1$L'
      when kind is not null then
        't.%1$I::text is not distinct from o.document ->> %1$L and jsonb_typeof(o.document -> %1$L) in (%2$L, ''null'')'
      else 'coalesce(to_jsonb(t.%1$I), ''null'') = o.document -> %1$L' end, name, kind)
    from (
      select case
        when modifier <> -1 then null
        when type in ('text'::regtype, 'varchar'::regtype) then 'string'
        when type in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) then 'number'
        when type = 'bool'::regtype then 'boolean' end as kind) k);
end
$$;

-- Performs operations. All of them together first; where something is in the way, what is guilty is found by halves, and
-- everything else takes effect. An operation without a verdict was applied; an update that was has one.
create or replace function tidelock.apply(operations tidelock.operation[], in_order boolean, is_alike boolean)
returns tidelock.verdict[]
language plpgsql set search_path = public, extensions, pg_temp
as $$
declare
  verdicts tidelock.verdict[];
  torn integer[];
  bundles integer[];
  middle integer;
  code text;
  refusal jsonb;
  words text;
  detail text;
  hint text;
  misfit text;
begin
  if operations = '{}' then
    return '{}';
  end if;
  begin
    verdicts := tidelock.perform(operations, in_order, is_alike);
    -- Constraints and triggers that wait for the end of the transaction speak up while it can still be mended.
    set constraints all immediate;
    set constraints all deferred;
    if exists (select from unnest(verdicts) v where v.kind <> 'applied') then
      torn := array(
        select o.bundle from unnest(operations) o left join unnest(verdicts) v using (n)
        group by o.bundle having count(*) > 1 and bool_or(v.kind <> 'applied'));
      if torn <> '{}' then
        raise exception 'a group did not take effect as a whole' using errcode = 'TL100';
      end if;
    end if;
    return verdicts;
  exception
    when sqlstate 'TL100' then
      -- What was done is taken back. Those groups are through; the others are tried again.
      return array(
          select case coalesce(v.kind, 'applied')
            when 'applied' then (o.n, 'waits', '{"verdict": "waits"}')::tidelock.verdict
            -- As the row is, not as it was before it was taken back.
            when 'conflict' then (o.n, v.kind, jsonb_build_object('verdict', 'conflict', 'row', tidelock.current_row(o)))::tidelock.verdict
            else v end
          from unnest(operations) o left join unnest(verdicts) v using (n) where o.bundle = any (torn))
        || tidelock.apply(
          array(select o from unnest(operations) o where o.bundle <> all (torn) order by o.n), in_order, is_alike);
    when transaction_rollback or lock_not_available or insufficient_resources or operator_intervention or system_error
      or invalid_transaction_state then
      -- Nobody's fault: the whole batch is sent again.
      raise;
    when others then
      get stacked diagnostics code = returned_sqlstate, words = message_text, detail = pg_exception_detail,
        hint = pg_exception_hint, misfit = table_name;
  end;
  bundles := array(select distinct o.bundle from unnest(operations) o order by 1);
  if cardinality(bundles) > 1 then
    middle := bundles[cardinality(bundles) / 2];
    return tidelock.apply(array(select o from unnest(operations) o where o.bundle <= middle order by o.n), false, is_alike)
      || tidelock.apply(array(select o from unnest(operations) o where o.bundle > middle order by o.n), false, is_alike);
  end if;
  if cardinality(operations) > 1 and not in_order then
    -- Within the group one row may need another that stands before it but is written by a later statement.
    return tidelock.apply(operations, true, is_alike);
  end if;
  refusal := jsonb_strip_nulls(jsonb_build_object('verdict', 'refused', 'code', code, 'message', words,
    'detail', nullif(detail, ''), 'hint', nullif(hint, '')));
  return array(
    select case
      -- A table that does not fit is no fault of the others.
      when code in ('42703', '42P01') and misfit not in ('', o.name)
        and misfit is distinct from tidelock.full_name((tidelock.attached(o.name)).relation)
      then (o.n, 'waits', '{"verdict": "waits"}')::tidelock.verdict
      else (o.n, 'refused', refusal)::tidelock.verdict end
    from unnest(operations) o);
end
$$;

-- The row that an operation is about.
create or replace function tidelock.current_row(operation tidelock.operation) returns jsonb
language plpgsql set search_path = public, extensions, pg_temp
as $$
declare
  attached tidelock.tables := tidelock.attached(operation.name);
  document jsonb;
begin
  execute format('select to_jsonb(t.*) from %s t, (select ($1).*) o where %s', tidelock.full_name(attached.relation),
    tidelock.key_matches(attached)) into document using operation;
  return document;
end
$$;

-- Performs operations, those of one kind that stand together in one statement: also those that set other columns, unless
-- they are to be done strictly in their order.
create or replace function tidelock.perform(operations tidelock.operation[], in_order boolean, is_alike boolean)
returns tidelock.verdict[]
language plpgsql set search_path = public, extensions, pg_temp
as $$
declare
  part tidelock.operation[];
  verdicts tidelock.verdict[] := '{}';
begin
  for part in select p.operations from tidelock.parts(operations, in_order, is_alike) p loop
    verdicts := verdicts || tidelock.statement(part);
  end loop;
  return verdicts;
end
$$;

-- The parts that one statement each is made for: one action on one table that sets the same columns.
create or replace function tidelock.parts(all_of_them tidelock.operation[], in_order boolean, is_alike boolean)
returns table (operations tidelock.operation[])
language plpgsql immutable set search_path = ''
as $$
declare
  first tidelock.operation := all_of_them[1];
begin
  if all_of_them = '{}' then
    return;
  end if;
  if is_alike or not exists (
    select from unnest(all_of_them) o
    where o.name is distinct from first.name or o.action is distinct from first.action
      or o.columns is distinct from first.columns)
  then
    operations := all_of_them;
    return next;
    return;
  end if;
  return query
    with marked as (
      select o, (lag(o.name) over w is distinct from o.name or lag(o.action) over w is distinct from o.action
        or in_order and lag(o.columns) over w is distinct from o.columns)::integer as begins
      from unnest(all_of_them) o window w as (order by o.n)
    ), staged as (
      select o, sum(begins) over (order by (o).n) as stage from marked
    )
    select array_agg(o order by (o).n) from staged group by stage, (o).columns order by stage, min((o).n);
end
$$;

-- Marks the operations whose rows have the version that they were made on, and keeps others from changing those rows: one
-- operation's trigger may write the row that another one asks for, which is then still the row that it was made on.
create or replace function tidelock.mark_fresh(operations tidelock.operation[]) returns tidelock.operation[]
language plpgsql set search_path = public, extensions, pg_temp
as $$
declare
  part record;
  fresh integer[] := '{}';
  standing integer[];
begin
  for part in
    select t as attached, array_agg(o) as operations
    from (select o, tidelock.attached(o.name) as t from unnest(operations) o where o.action <> 'create') named
    where (t).relation is not null group by t
  loop
    begin
      execute format('select array_agg(o.n) from unnest($1) o
          where (select t.tidelock_version from %s t where %s %s) is not distinct from o.base',
        tidelock.full_name((part.attached).relation), tidelock.key_matches(part.attached),
        case when has_table_privilege((part.attached).relation, 'update') then 'for no key update of t' else '' end)
      into standing using part.operations;
      fresh := fresh || standing;
    exception
      when transaction_rollback or lock_not_available or insufficient_resources or operator_intervention
        or system_error then
        raise;
      -- A key that is none, a table that may not be read: whose fault it is comes out when they are performed.
      when others then null;
    end;
  end loop;
  if fresh = '{}' then
    return operations;
  end if;
  return array(
    select (o.n, o.bundle, o.name, o.action, o.key, o.base, o.document, o.columns, o.covers, o.digest,
      o.n = any (fresh))::tidelock.operation
    from unnest(operations) o order by o.n);
end
$$;

-- Performs operations of one kind on one table that set the same columns. Of updates that were applied it gives the rows as
-- they were.
create or replace function tidelock.statement(operations tidelock.operation[]) returns tidelock.verdict[]
language plpgsql set search_path = public, extensions, pg_temp
as $$
declare
  action text := (operations[1]).action;
  attached tidelock.tables := tidelock.demand_attached((operations[1]).name);
  full_name text;
  found text;
  written text[];
  verdicts tidelock.verdict[];
  others tidelock.verdict[];
begin
  full_name := tidelock.full_name(attached.relation);
  -- One by one through the index ("offset" keeps it so): a join might well read all of a table, and ask row-level
  -- security about each of its rows.
  found := format('select t.ctid, t.tableoid, t.tidelock_version, to_jsonb(t.*) as document from %s t where %s offset 0',
    full_name, tidelock.key_matches(attached));
  written := tidelock.written_columns(attached, (operations[1]).columns);

  if action = 'create' then
    return tidelock.create_rows(attached, operations, written);
  elsif action = 'update' then
    if written = '{}' then
      -- Nothing but columns that the server makes itself: the row is only stamped.
      written := '{tidelock_version}';
    end if;
    execute format('with done as (
        update %1$s t set %2$s
        from unnest($1) o cross join lateral (%3$s) f cross join lateral jsonb_populate_record(null::%1$s, o.document) r
        where t.ctid = f.ctid and t.tableoid = f.tableoid and (t.tidelock_version = o.base
          or o.is_fresh and t.tidelock_version = pg_current_xact_id())
        returning (o.n, ''applied'', case when f.tidelock_version = pg_current_xact_id() then ''{}'' else f.document end)::tidelock.verdict
          as verdict)
      select coalesce(array_agg(verdict), ''{}'') from done',
      full_name, (select string_agg(format('%1$I = r.%1$I', c), ', ') from unnest(written) c), found)
    into verdicts using operations;
  elsif action = 'delete' then
    execute format('with done as (%s unnest($1) o cross join lateral (%s) f
        where t.ctid = f.ctid and t.tableoid = f.tableoid and (t.tidelock_version = o.base
          or o.is_fresh and t.tidelock_version = pg_current_xact_id())
        returning (o.n, ''applied'', null)::tidelock.verdict as verdict)
      select coalesce(array_agg(verdict), ''{}'') from done',
      case when attached.soft is null then format('delete from %s t using', full_name)
           else format('update %s t set %I = now() from', full_name, attached.soft) end, found)
    into verdicts using operations;
  else
    raise invalid_parameter_value using message = format('there is no action %s', action);
  end if;
  if cardinality(verdicts) = cardinality(operations) then
    return verdicts;
  end if;

  -- A second look, later than the statement's own: who changed the row meanwhile is seen as well.
  execute format($query$
    select array_agg(case
      when %2$s then (o.n, 'applied', null)::tidelock.verdict
      when f.tidelock_version = o.base then (o.n, 'refused', jsonb_build_object('verdict', 'refused', 'code', '42501',
        'message', format('row-level security, or a trigger, does not let this user %%s the row', o.action)))::tidelock.verdict
      else (o.n, 'conflict', jsonb_build_object('verdict', 'conflict', 'row', f.document))::tidelock.verdict end)
    from unnest($1) o left join lateral (%1$s) f on true
    where o.n not in (select v.n from unnest($2) v)
    $query$, found,
    case when action <> 'delete' then 'false'
         when attached.soft is null then 'f.document is null'
         else format('f.document is null or f.document ->> %L is not null', attached.soft) end)
  into others using operations, verdicts;
  return verdicts || others;
end
$$;

-- Makes rows. What is made may not be readable to who made it, so it is counted, not returned; and there is no "on
-- conflict", which wants to read as well.
create or replace function tidelock.create_rows(
  attached tidelock.tables, operations tidelock.operation[], written text[]
) returns tidelock.verdict[]
language plpgsql set search_path = public, extensions, pg_temp
as $$
declare
  full_name text := tidelock.full_name(attached.relation);
  others text[] := array(select c from unnest(written) c where c <> all (attached.key));
  statement text := format('insert into %1$s (%2$s) overriding system value
    select %3$s from (select o.key, jsonb_populate_record(null::%1$s, o.document) as document from unnest($1) o offset 0) o',
    full_name, tidelock.columns(attached.key || others),
    array_to_string(tidelock.key_values(attached, 'o.key') || array(select format('(o.document).%I', c) from unnest(others) c), ', '));
  made bigint;
  there tidelock.verdict[] := '{}';
  missing tidelock.operation[] := operations;
begin
  begin
    execute statement using missing;
    get diagnostics made = row_count;
  exception when unique_violation then
    -- Taken back, to see what was there before.
    execute format('select coalesce(array_agg((o.n, ''conflict'',
        jsonb_build_object(''verdict'', ''conflict'', ''row'', f.document))::tidelock.verdict), ''{}'')
      from unnest($1) o cross join lateral (select to_jsonb(t.*) as document from %s t where %s offset 0) f', full_name, tidelock.key_matches(attached)) into there using operations;
    missing := array(select o from unnest(operations) o where o.n not in (select v.n from unnest(there) v) order by o.n);
    execute statement using missing;
    get diagnostics made = row_count;
  end;
  if made < cardinality(missing) then
    raise insufficient_privilege using message = 'a trigger does not let the row be made';
  end if;
  return there;
end
$$;

-- Those of the columns that can be written: not the ones that the server makes itself.
create or replace function tidelock.written_columns(attached tidelock.tables, columns text[]) returns text[]
language plpgsql stable set search_path = ''
as $$
begin
  perform tidelock.demand_columns(attached.relation, columns);
  return array(
    select a.attname::text from pg_catalog.pg_attribute a
    where a.attrelid = attached.relation and a.attname = any (columns) and a.attname <> 'tidelock_version'
      and a.attgenerated = '' and not (a.attidentity = 'a' and a.attname <> all (attached.key)));
end
$$;

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
