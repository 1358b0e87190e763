-- Performing -----------------------------------------------------------------------------------------------------------

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
