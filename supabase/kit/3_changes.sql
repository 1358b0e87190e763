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
