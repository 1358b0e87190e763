-- tidelock's server kit, version 1, for PostgreSQL 15 and newer.
--
-- What it is for: a device that asks "what has changed since I last asked?" gets an exact answer whatever the order in
-- which transactions commit, and a change that was sent takes effect once however often it is sent.
--
-- What it does to the database: it makes the schema `tidelock` and three functions in `public`. A table is touched only
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

-- What took effect: one row an operation, written in the transaction that performed it.
create table if not exists tidelock.ledger (
  actor    text not null,
  client   text not null,
  epoch    text not null,
  sequence bigint not null,
  -- Of what the operation asked, so that a copied device that uses the same numbers is found out.
  digest   text not null,
  version  xid8 not null,
  at       timestamptz not null default now(),
  primary key (actor, client, epoch, sequence)
);
create index if not exists ledger_at on tidelock.ledger using brin (at);

alter table tidelock.kit enable row level security;
alter table tidelock.tables enable row level security;
alter table tidelock.tombstones enable row level security;
alter table tidelock.ledger enable row level security;
revoke all on all tables in schema tidelock from public;

-- Who ------------------------------------------------------------------------------------------------------------------

-- The user that the access token names; empty for the anonymous and the service role.
create or replace function tidelock.actor() returns text
language sql stable set search_path = ''
as $$
  select coalesce(
    nullif(current_setting('request.jwt.claim.sub', true), ''),
    nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub',
    '')
$$;

-- Whether row-level security does not apply to the caller, also when asked from a function that runs as its owner.
create or replace function tidelock.sees_all() returns boolean
language sql stable set search_path = ''
as $$
  select rolsuper or rolbypassrls from pg_catalog.pg_roles
  where rolname = coalesce(nullif(current_setting('role', true), 'none'), session_user)
$$;

-- Which database this is. It changes when the database is restored from a dump, replaced, or rolled back to an earlier
-- time, because then what devices remember of it is no longer true.
create or replace function tidelock.epoch() returns text
language sql stable security definer set search_path = ''
as $$
  select md5(concat_ws(':', k.identity, 'tidelock.kit'::regclass::oid, d.oid, s.system_identifier, c.timeline_id))
  from tidelock.kit k, pg_catalog.pg_database d, pg_catalog.pg_control_system() s, pg_catalog.pg_control_checkpoint() c
  where d.datname = current_database()
$$;

-- An attached table, by the name that a device knows it by; null where there is none.
create or replace function tidelock.attached(name text) returns tidelock.tables
language sql stable security definer set search_path = ''
as $$
  select t from tidelock.tables t
  where t.relation = to_regclass(case when name like '%.%' then name else 'public.' || name end)
$$;

-- A table's name with its schema, quoted where it needs to be.
create or replace function tidelock.full_name(relation regclass) returns text
language sql stable set search_path = ''
as $$
  select format('%I.%I', n.nspname, c.relname)
  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where c.oid = relation
$$;

-- A row's key as text: the column's own text, or a JSON array where the key has several columns.
create or replace function tidelock.key_of(document jsonb, key text[]) returns text
language sql immutable set search_path = ''
as $$
  select case when cardinality(key) = 1 then document ->> key[1]
              else (select jsonb_agg(document -> k order by at) from unnest(key) with ordinality as u (k, at))::text end
$$;

-- The other way round: the key's columns as a document.
create or replace function tidelock.key_document(text_key text, key text[]) returns jsonb
language sql immutable set search_path = ''
as $$
  select case when cardinality(key) = 1 then jsonb_build_object(key[1], text_key)
              else (select jsonb_object_agg(k, text_key::jsonb -> (at - 1)::integer)
                    from unnest(key) with ordinality as u (k, at)) end
$$;

-- Triggers of attached tables -----------------------------------------------------------------------------------------

-- Every insert and update is stamped with its transaction: not with the time, which says when a transaction began and
-- nothing about when it became visible.
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
  select tg_relid, tidelock.key_of(to_jsonb(g), tg_argv[1:]), to_jsonb(g) ->> nullif(tg_argv[0], '')
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
as $$
declare
  name text := tidelock.full_name(relation);
  primary_key text[];
  base xid8;
  arguments text;
  moves text;
begin
  select array_agg(a.attname::text order by k.at) into primary_key
  from pg_catalog.pg_index i
    cross join lateral unnest(i.indkey::smallint[]) with ordinality as k (number, at)
    join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.number
  where i.indrelid = attach.relation and i.indisprimary;
  if primary_key is null then
    raise exception 'tidelock: the table % has no primary key', name
      using hint = 'Devices know a row by its key; add a primary key and attach the table again.';
  end if;
  perform tidelock.demand_column(relation, owner);
  perform tidelock.demand_column(relation, soft);
  shared := coalesce(shared, not (select relrowsecurity from pg_catalog.pg_class where oid = attach.relation));

  select t.since into base from tidelock.tables t where t.relation = attach.relation;
  -- A database that was restored counts its transactions anew.
  if base is null or base > pg_current_xact_id() then
    base := pg_current_xact_id();
    execute format('drop index if exists %s', tidelock.index_of(relation));
  end if;
  execute format('alter table %s add column if not exists tidelock_version xid8 not null default %L', name, base);
  execute format('create index if not exists %I on %s (tidelock_version, %s) where tidelock_version > %L::xid8',
    'tidelock_' || relation::oid, name, tidelock.columns(primary_key), base);

  arguments := (select string_agg(quote_literal(a), ', ') from unnest(coalesce(owner, '') || primary_key) a);
  moves := (select string_agg(format('old.%1$I is distinct from new.%1$I', c), ' or ')
            from unnest(array_remove(array_append(primary_key, owner), null)) c);
  -- The last of the triggers before, so that it stamps what the others have made.
  execute format('create or replace trigger zz_tidelock_stamp before insert or update on %s
    for each row execute function tidelock.stamp()', name);
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

create or replace function tidelock.demand_column(relation regclass, name text) returns void
language plpgsql set search_path = ''
as $$
begin
  if name is not null and not exists (
    select from pg_catalog.pg_attribute a
    where a.attrelid = demand_column.relation and a.attname = demand_column.name and not a.attisdropped
  ) then
    raise exception 'tidelock: the table % has no column %', tidelock.full_name(relation), name;
  end if;
end
$$;

create or replace function tidelock.columns(names text[], prefix text default '') returns text
language sql immutable set search_path = ''
as $$
  select string_agg(prefix || quote_ident(name), ', ' order by at) from unnest(names) with ordinality as u (name, at)
$$;

create or replace function tidelock.index_of(relation regclass) returns text
language sql stable set search_path = ''
as $$
  select format('%I.%I', n.nspname, 'tidelock_' || relation::oid)
  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where c.oid = relation
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
  drop function if exists public.tidelock_changes, public.tidelock_push, public.tidelock_audit, public.tidelock_describe;
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
  select version into newest from purged order by version desc limit 1;
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
  select g.version, g.key
  from tidelock.tombstones g
  where g.relation = graves.relation
    and g.version >= pg_snapshot_xmin(since)
    and not pg_visible_in_snapshot(g.version, since)
    and pg_visible_in_snapshot(g.version, until)
    and g.version <> all (without)
    and (after_version is null or (g.version, g.key) > (after_version, after_key))
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
--   {"snapshot", "now", "epoch", "purged_before", "collections": [{"rows", "gone", "more", "resets", "error"} …]}
-- with one entry a collection, at the same place. A collection with `more` is not at its end: `more` is what to put into
-- its entry to go on. All of it is one statement, so it is one snapshot: what a transaction wrote is here whole, or not
-- at all.
create or replace function public.tidelock_changes(
  since text default null, collections jsonb default '[]', "limit" integer default 5000, own text[] default '{}'
) returns json
language plpgsql stable set search_path = public, extensions, pg_temp
as $$
declare
  now_visible pg_snapshot := pg_current_snapshot();
  entry jsonb;
  answers json[] := '{}';
  one json;
  room integer := greatest("limit", 1);
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
      -- One table that is gone, was changed or may not be read does not stand in the way of the others.
      when undefined_table or undefined_column or insufficient_privilege or datatype_mismatch
        or invalid_parameter_value or invalid_text_representation or undefined_function then
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
language sql stable security definer set search_path = ''
as $$ select purged_before from tidelock.kit $$;

-- The changes of one collection, at most `most` rows, and how many there are.
create or replace function tidelock.changes_of(
  entry jsonb, since pg_snapshot, now_visible pg_snapshot, most integer, own xid8[], out answer json, out taken integer
)
language plpgsql stable set search_path = public, extensions, pg_temp
as $$
declare
  attached tidelock.tables := tidelock.attached(entry ->> 'table');
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
  if attached.relation is null then
    raise undefined_table
      using message = format('the table %s is not there, or not attached to tidelock''s server kit', entry ->> 'table');
  end if;
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
      -- What was deleted and made again is among the rows.
      execute format('select coalesce(jsonb_agg(key), ''[]'') from jsonb_array_elements_text(%L) key
        where not exists (select from %s t where %s = key)',
        buried, tidelock.full_name(attached.relation), tidelock.text_key(attached.key)) into buried;
    end if;
    -- A full page may not be the last one.
    is_more := taken = most or last_grave is not null and jsonb_array_length(buried) = most;
  end if;
  answer := json_build_object(
    'rows', coalesce(documents, '[]'), 'gone', gone || buried, 'whole', is_whole, 'resets', attached.resets,
    'more', case when is_more then jsonb_build_object('until', until::text, 'after', jsonb_build_object(
      'row', coalesce(last_row, after_row), 'grave', coalesce(last_grave, after_grave))) end);
end
$$;

-- A row's key as text, as an expression.
create or replace function tidelock.text_key(key text[], prefix text default 't.') returns text
language sql immutable set search_path = ''
as $$
  select case when cardinality(key) = 1 then format('(to_jsonb(%s) #>> ''{}'')', tidelock.columns(key, prefix))
              else format('jsonb_build_array(%s)::text', tidelock.columns(key, prefix)) end
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
  document text := 'row_to_json(t)';
  after_key text;
  rows_of text;
  bounds text;
begin
  if attached.soft is not null then
    belongs := belongs || format(' and t.%I is null', attached.soft);
  end if;
  if jsonb_array_length(entry -> 'columns') > 0 then
    select format('(select row_to_json(c) from (select %s, t.tidelock_version) c)', tidelock.columns(array_agg(c), 't.'))
    into document
    from (select jsonb_array_elements_text(entry -> 'columns') union select unnest(attached.key)) as wanted (c);
  end if;
  if after_row ->> 1 is not null then
    select string_agg(format('%L::%s', d.value ->> k.name, format_type(a.atttypid, a.atttypmod)), ', ' order by k.at)
    into after_key
    from (select tidelock.key_document(after_row ->> 1, attached.key)) as d (value)
      cross join unnest(attached.key) with ordinality as k (name, at)
      join pg_catalog.pg_attribute a on a.attrelid = attached.relation and a.attname = k.name;
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
  bounds := format('t.tidelock_version > %L::xid8 and pg_visible_in_snapshot(t.tidelock_version, %L)
     and t.tidelock_version <> all (%L::xid8[]) and %s order by t.tidelock_version, %s limit %s',
    case when attached.since < pg_snapshot_xmax(until) then attached.since::text else '0' end, until, own,
    case when after_key is null then 'true'
         else format('(t.tidelock_version, %s) > (%L::xid8, %s)', key, after_row ->> 0, after_key) end, key, most);
  return format(
    'select * from ((%1$s t.tidelock_version >= %2$L::xid8 and %4$s) union all
       (%1$s t.tidelock_version = any (%3$L::xid8[]) and %4$s)) as both_kinds order by version, sort_key limit %5$s',
    rows_of, pg_snapshot_xmax(since), array(select pg_snapshot_xip(since)), bounds, most);
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

-- Takes a batch of operations of one device: an array of
--   {"group", "table", "action": "create"|"update"|"delete", "key", "base": version, "set": {column: value}, "covers": [sequence]}
-- in the order in which they are to happen. Operations of one `group` take effect together or not at all. A create needs
-- that there is no row, an update or a deletion that the row still has the version `base`. The answer:
--   {"epoch", "now", "version", "alone": whether this transaction changed nothing but what was asked, "verdicts": [...]}
-- with one verdict an operation, at the same place:
--   {"verdict": "applied", "version", "made": {the columns that the server made different from what was sent}}
--   {"verdict": "conflict", "row"}      the row is not what the operation was made on; null where there is none
--   {"verdict": "waits"}                nothing is wrong with it, but its group did not take effect
--   {"verdict": "refused", "code", "message", "detail", "hint", "status"}
-- What has taken effect is in the ledger, so that a batch that is sent again answers the same and changes nothing.
create or replace function public.tidelock_push(client text, epoch text, batch jsonb, server text default null)
returns jsonb
language plpgsql set search_path = public, extensions, pg_temp
as $$
declare
  operations jsonb;
  verdicts jsonb;
begin
  if server is distinct from null and server <> tidelock.epoch() then
    raise exception 'this is another database than the one that the device knows, or an earlier state of it'
      using errcode = 'TL001', hint = 'Look at what it has, then accept it on the device.';
  end if;
  -- Two sendings of one batch come one after the other.
  perform pg_advisory_xact_lock(hashtextextended(tidelock.actor() || ':' || client, 0));
  select coalesce(jsonb_agg(o || jsonb_build_object('n', at - 1, 'digest', tidelock.digest(o)) order by at), '[]')
  into operations
  from jsonb_array_elements(batch) with ordinality as b (o, at);
  verdicts := tidelock.recorded(client, epoch, operations);
  verdicts := verdicts || tidelock.apply((
    select coalesce(jsonb_agg(o order by o -> 'n'), '[]') from jsonb_array_elements(operations) o
    where not exists (select from jsonb_array_elements(verdicts) v where v -> 'n' = o -> 'n')));
  perform tidelock.record(client, epoch, operations, verdicts);
  return jsonb_build_object(
    'epoch', tidelock.epoch(), 'now', to_jsonb(clock_timestamp()), 'version', pg_current_xact_id()::text,
    'alone', tidelock.is_alone(operations, verdicts),
    'verdicts', (select coalesce(jsonb_agg(v - 'n' order by v -> 'n'), '[]') from jsonb_array_elements(verdicts) v));
end
$$;

create or replace function tidelock.digest(operation jsonb) returns text
language sql immutable set search_path = ''
as $$
  select md5(concat_ws('|', operation ->> 'table', operation ->> 'action', operation ->> 'key', operation -> 'set'))
$$;

-- The verdicts on operations that have taken effect before.
create or replace function tidelock.recorded(client text, epoch text, operations jsonb) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  verdicts jsonb;
begin
  select coalesce(jsonb_agg(distinct case
      when l.digest = o ->> 'digest' then
        jsonb_build_object('n', o -> 'n', 'verdict', 'applied', 'version', l.version::text, 'again', true)
      else jsonb_build_object('n', o -> 'n', 'verdict', 'refused', 'status', 409, 'code', 'TL002', 'message',
        'this number was used for another operation: two copies of one store are sending',
        'hint', 'Give one of them an identity of its own by restoring it as a copy.') end), '[]')
  into verdicts
  from jsonb_array_elements(operations) o
    cross join jsonb_array_elements_text(o -> 'covers') c
    join tidelock.ledger l on l.actor = tidelock.actor() and l.client = recorded.client
      and l.epoch = recorded.epoch and l.sequence = c::bigint;
  return verdicts;
end
$$;

-- Writes down what has taken effect now.
create or replace function tidelock.record(client text, epoch text, operations jsonb, verdicts jsonb) returns void
language plpgsql security definer set search_path = ''
as $$
begin
  insert into tidelock.ledger (actor, client, epoch, sequence, digest, version)
  select tidelock.actor(), record.client, record.epoch, c::bigint, o ->> 'digest', (v ->> 'version')::xid8
  from jsonb_array_elements(verdicts) v
    join jsonb_array_elements(operations) o on o -> 'n' = v -> 'n'
    cross join jsonb_array_elements_text(o -> 'covers') c
  where v ->> 'verdict' = 'applied' and not v ? 'again';
  if exists (select from tidelock.kit where tidied < now() - interval '1 hour') then
    perform tidelock.tidy();
  end if;
end
$$;

-- Whether no row of an attached table carries this transaction's number but those that were asked for: triggers may have
-- written others.
create or replace function tidelock.is_alone(operations jsonb, verdicts jsonb) returns boolean
language plpgsql stable security definer set search_path = ''
as $$
declare
  attached tidelock.tables;
  asked bigint;
  found bigint;
begin
  for attached in select * from tidelock.tables loop
    select count(*) into asked
    from jsonb_array_elements(verdicts) v join jsonb_array_elements(operations) o on o -> 'n' = v -> 'n'
    where v ->> 'verdict' = 'applied' and not v ? 'again' and o ->> 'action' <> 'delete'
      and tidelock.attached(o ->> 'table') = attached;
    execute format('select count(*) from (select from %s where tidelock_version = %L::xid8 and tidelock_version > %L::xid8 limit %s) t',
      tidelock.full_name(attached.relation), pg_current_xact_id(),
      case when attached.since < pg_current_xact_id() then attached.since::text else '0' end, asked + 1) into found;
    if found <> asked then
      return false;
    end if;
    select count(*) into asked
    from jsonb_array_elements(verdicts) v join jsonb_array_elements(operations) o on o -> 'n' = v -> 'n'
    where v ->> 'verdict' = 'applied' and not v ? 'again' and o ->> 'action' = 'delete'
      and tidelock.attached(o ->> 'table') = attached;
    select count(*) into found
    from tidelock.tombstones g where g.relation = attached.relation and g.version = pg_current_xact_id();
    if found > asked then
      return false;
    end if;
  end loop;
  return true;
end
$$;

-- Performs operations and answers a verdict each. All of them together first; where something is in the way, what is
-- guilty is found by halves, and everything else takes effect.
create or replace function tidelock.apply(operations jsonb) returns jsonb
language plpgsql set search_path = public, extensions, pg_temp
as $$
declare
  verdicts jsonb;
  torn jsonb;
  groups jsonb;
  half integer;
  code text;
  refusal jsonb;
  words text;
  detail text;
  hint text;
begin
  if operations = '[]' then
    return operations;
  end if;
  begin
    verdicts := tidelock.perform(operations);
    -- Constraints and triggers that wait for the end of the transaction speak up while it can still be mended.
    set constraints all immediate;
    set constraints all deferred;
    select jsonb_agg(distinct o -> 'group') into torn
    from jsonb_array_elements(verdicts) v join jsonb_array_elements(operations) o on o -> 'n' = v -> 'n'
    where v ->> 'verdict' <> 'applied' and exists (
      select from jsonb_array_elements(operations) other
      where other -> 'group' = o -> 'group' and other -> 'n' <> o -> 'n');
    if torn is not null then
      raise exception 'a group did not take effect as a whole' using errcode = 'TL100';
    end if;
    return verdicts;
  exception
    when sqlstate 'TL100' then
      -- What was done is taken back. Those groups are through; the others are tried again.
      return (
          select jsonb_agg(case when v ->> 'verdict' = 'applied'
            then jsonb_build_object('n', v -> 'n', 'verdict', 'waits') else v end)
          from jsonb_array_elements(verdicts) v join jsonb_array_elements(operations) o on o -> 'n' = v -> 'n'
          where torn @> jsonb_build_array(o -> 'group'))
        || tidelock.apply((
          select coalesce(jsonb_agg(o order by o -> 'n'), '[]') from jsonb_array_elements(operations) o
          where not torn @> jsonb_build_array(o -> 'group')));
    when serialization_failure or deadlock_detected or lock_not_available or query_canceled or insufficient_resources
      or operator_intervention then
      -- Nobody's fault: the whole batch is sent again.
      raise;
    when others then
      get stacked diagnostics code = returned_sqlstate, words = message_text, detail = pg_exception_detail,
        hint = pg_exception_hint;
  end;
  select jsonb_agg(g order by first_n) into groups
  from (select o -> 'group' as g, min((o ->> 'n')::integer) as first_n from jsonb_array_elements(operations) o group by 1) x;
  if jsonb_array_length(groups) > 1 then
    half := jsonb_array_length(groups) / 2;
    return tidelock.apply(tidelock.of_groups(operations, groups, 0, half))
      || tidelock.apply(tidelock.of_groups(operations, groups, half, jsonb_array_length(groups)));
  end if;
  refusal := jsonb_strip_nulls(jsonb_build_object('verdict', 'refused', 'code', code, 'message', words,
    'detail', nullif(detail, ''), 'hint', nullif(hint, '')));
  return (
    select jsonb_agg(refusal || jsonb_build_object('n', o -> 'n')) from jsonb_array_elements(operations) o);
end
$$;

create or replace function tidelock.of_groups(operations jsonb, groups jsonb, first integer, past integer) returns jsonb
language sql immutable set search_path = ''
as $$
  select coalesce(jsonb_agg(o order by o -> 'n'), '[]')
  from jsonb_array_elements(operations) o
    join jsonb_array_elements(groups) with ordinality as g (name, at) on g.name = o -> 'group'
  where g.at > first and g.at <= past
$$;

-- Performs operations, those of one kind that stand together in one statement.
create or replace function tidelock.perform(operations jsonb) returns jsonb
language plpgsql set search_path = public, extensions, pg_temp
as $$
declare
  part record;
  verdicts jsonb := '[]';
begin
  for part in
    with numbered as (
      select o, (o ->> 'n')::integer as n, o ->> 'table' as name, o ->> 'action' as action,
             case when o ->> 'action' = 'delete' then '{}'::text[]
                  else array(select jsonb_object_keys(o -> 'set')) end as columns
      from jsonb_array_elements(operations) o
    ), marked as (
      select *, case when (lag(name) over w, lag(action) over w) is distinct from (name, action) then 1 else 0 end as begins
      from numbered window w as (order by n)
    ), staged as (
      select *, sum(begins) over (order by n) as stage from marked
    )
    select stage, name, action, columns, jsonb_agg(o order by n) as operations
    from staged group by stage, name, action, columns order by stage, min(n)
  loop
    verdicts := verdicts || tidelock.statement(part.name, part.action, part.columns, part.operations);
  end loop;
  return verdicts;
end
$$;

-- Performs operations of one kind on one table, then looks at what became of them.
create or replace function tidelock.statement(name text, action text, columns text[], operations jsonb) returns jsonb
language plpgsql set search_path = public, extensions, pg_temp
as $$
declare
  attached tidelock.tables := tidelock.attached(name);
  full_name text;
  same_key text;
  records jsonb;
  old_rows jsonb;
  done jsonb;
  verdicts jsonb;
  unknown_column text;
  made bigint;
begin
  if attached.relation is null then
    raise undefined_table
      using message = format('the table %s is not there, or not attached to tidelock''s server kit', name);
  end if;
  full_name := tidelock.full_name(attached.relation);
  select c into unknown_column from unnest(columns) c where not exists (
    select from pg_attribute a where a.attrelid = attached.relation and a.attname = c and a.attnum > 0 and not a.attisdropped);
  if unknown_column is not null then
    raise undefined_column using message = format('the table %s has no column %s', name, unknown_column);
  end if;
  same_key := (select string_agg(format('t.%1$I = r.%1$I', k), ' and ') from unnest(attached.key) k);
  -- Each operation as a row of the table, with the version that it was made on.
  select jsonb_agg(coalesce(o -> 'set', '{}') || tidelock.key_document(o ->> 'key', attached.key)
      || jsonb_build_object('tidelock_version', coalesce(o ->> 'base', '0')) order by o -> 'n')
  into records from jsonb_array_elements(operations) o;
  execute format('select coalesce(jsonb_object_agg(%3$s, to_jsonb(t)), ''{}'')
      from jsonb_populate_recordset(null::%1$s, $1) r join %1$s t on %2$s',
    full_name, same_key, tidelock.text_key(attached.key)) into old_rows using records;

  if action = 'create' then
    columns := array(select unnest(columns) union select unnest(attached.key));
    execute format('insert into %1$s (%2$s) select %3$s from jsonb_populate_recordset(null::%1$s, $1) r on conflict (%4$s) do nothing',
      full_name, tidelock.columns(columns), tidelock.columns(columns, 'r.'), tidelock.columns(attached.key)) using records;
    -- What was made may not be readable to who made it, so it is counted, not returned.
    get diagnostics made = row_count;
    done := to_jsonb(made);
  else
    execute format('with done as (%s where %s and t.tidelock_version = r.tidelock_version returning %s as key)
        select coalesce(jsonb_object_agg(key, true), ''{}'') from done',
      format(case when action = 'update' then 'update %1$s t set %2$s from jsonb_populate_recordset(null::%1$s, $1) r'
                  when attached.soft is not null then 'update %1$s t set %3$I = now() from jsonb_populate_recordset(null::%1$s, $1) r'
                  else 'delete from %1$s t using jsonb_populate_recordset(null::%1$s, $1) r' end,
        full_name, (select string_agg(format('%1$I = r.%1$I', c), ', ') from unnest(columns) c), attached.soft),
      same_key, tidelock.text_key(attached.key)) into done using records;
  end if;

  execute format('select jsonb_agg(jsonb_build_object(''n'', a.o -> ''n'') || tidelock.verdict(a.o, $2 -> %3$s, to_jsonb(t), $3, %3$s, $5))
      from jsonb_array_elements($1) with ordinality as a (o, at)
        join (select * from jsonb_populate_recordset(null::%1$s, $4) with ordinality) r on r.ordinality = a.at
        left join %1$s t on %2$s',
    full_name, same_key, tidelock.text_key(attached.key, 'r.'))
  into verdicts using operations, old_rows, done, records, jsonb_array_length(operations);
  return verdicts;
end
$$;

-- What became of one operation, from the row before and after it. `done` is the number of rows that were made, or the
-- keys of those that were changed or deleted.
create or replace function tidelock.verdict(operation jsonb, old_row jsonb, new_row jsonb, done jsonb, key text, asked integer)
returns jsonb
language plpgsql stable set search_path = ''
as $$
declare
  action text := operation ->> 'action';
  is_applied boolean := case action
    when 'create' then old_row is null and (new_row is not null or done = to_jsonb(asked))
    when 'update' then done ? key
    else done ? key or old_row is null end;
begin
  if is_applied then
    return jsonb_strip_nulls(jsonb_build_object('verdict', 'applied', 'version', pg_current_xact_id()::text))
      || case when action = 'delete' then '{}' else coalesce(tidelock.made(new_row, coalesce(old_row, '{}') || (operation -> 'set')), '{}') end;
  end if;
  if action = 'create' and old_row is null then
    if asked > 1 then
      -- One of several is there already and may not be seen; which one is found out by halves.
      raise unique_violation using message = 'a row with this key is there already and may not be seen';
    end if;
    return jsonb_build_object('verdict', 'refused', 'code', '23505',
      'message', 'a row with this key is there already and may not be seen');
  end if;
  if old_row ->> 'tidelock_version' = operation ->> 'base' and action <> 'create' then
    return jsonb_build_object('verdict', 'refused', 'code', '42501',
      'message', format('row-level security does not let this user %s the row', operation ->> 'action'));
  end if;
  return jsonb_build_object('verdict', 'conflict', 'row', new_row);
end
$$;

-- The columns of a row that are not what was sent: defaults, and what triggers made.
create or replace function tidelock.made(new_row jsonb, expected jsonb) returns jsonb
language sql immutable set search_path = ''
as $$
  select jsonb_build_object('made', jsonb_object_agg(c.key, c.value))
  from jsonb_each(new_row) c
  where c.key <> 'tidelock_version' and c.value is distinct from expected -> c.key
  having count(*) > 0
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
