-- Looking at what was done ---------------------------------------------------------------------------------------------

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
  attached tidelock.tables;
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
    attached := tidelock.attached((part.first).name);
    if (part.first).action <> 'delete' and has_table_privilege(attached.relation, 'select') then
      execute tidelock.sight(attached, part.first)
      into looked, made, is_row_there using part.operations, verdicts, done, usual;
      is_complete := is_complete and is_row_there;
      told := told || looked;
    else
      is_complete := is_complete and (part.first).action = 'delete';
      told := told || array(
        select (o.n, 'done', usual)::tidelock.verdict from unnest(part.operations) o where usual is not null);
    end if;
    shared := shared || case when made is null then done else done || jsonb_build_object('made', made) end;
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
  are_new boolean := first.action = 'create';
  unsent text[] := array(
    select a.attname::text from pg_catalog.pg_attribute a
    where a.attrelid = attached.relation and a.attnum > 0 and not a.attisdropped and a.attname <> 'tidelock_version'
      and a.attname <> all (first.columns || attached.key) order by a.attnum);
  there text := tidelock.key_matches(attached) || ' and ' || tidelock.is_written_now(attached);
  one text := format('from (select $1[1].key) o join %s t on %s', full_name, there);
  -- Where a type's own text is not what JSON has, its rows are told one by one.
  text_key text := case when cardinality(attached.key) = 1 then tidelock.digest_text(attached.relation, attached.key[1])
                        else tidelock.text_key(attached.key) end;
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
    case when are_new and unsent <> '{}'
      then format('(select to_jsonb(t.*) - %L::text[] %s)', first.columns || attached.key || '{tidelock_version}', one)
      else 'null::jsonb' end,
    case when are_new
      then format('when %s = o.key and %s and %s then $4 else coalesce(%s, $3)',
        text_key, is_as_sent, is_usual, format(difference, 'o.document'))
      else format('else coalesce(%s, $4)', format(difference, '(o.was || o.document)')) end,
    case when are_new then 'select o.n, o.key, o.document from unnest($1) o'
      else 'select o.n, o.key, o.document, v.answer as was from unnest($1) o join unnest($2) v using (n)' end,
    full_name, there,
    case when are_new then format('left join (select t as row %s) one on true', one) else '' end);
end
$$;

-- The condition that a column holds what was sent for it, for some common types without making JSON of it.
create or replace function tidelock.is_as_sent(name name, type oid, modifier integer) returns text
language plpgsql immutable set search_path = ''
as $$
begin
  return format(case
    when type = 'jsonb'::regtype then 'coalesce(t.%1$I, ''null'') = o.document -> %1$L'
    when type in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'bool'::regtype)
      then 'coalesce(t.%1$I::text, ''null'') = (o.document -> %1$L)::text'
    when type in ('text'::regtype, 'varchar'::regtype) and modifier = -1 then
      't.%1$I::text is not distinct from o.document ->> %1$L and jsonb_typeof(o.document -> %1$L) in (''string'', ''null'')'
    else 'coalesce(to_jsonb(t.%1$I), ''null'') = o.document -> %1$L' end, name);
end
$$;
