-- Comparing ------------------------------------------------------------------------------------------------------------

-- The text of a column's values as both sides have it for a digest, as an expression: what the value is in JSON, without
-- its quotes; null of a JSON null as well. Where the plain cast gives that it is taken, because it is cheap; times come as
-- the settings of `tidelock_audit` have them.
create or replace function tidelock.digest_text(relation regclass, name text) returns text
language plpgsql stable set search_path = ''
as $$
begin
  return (
  select format(case
      when t.typtype = 'e' or t.oid = any (array['text', 'varchar', 'uuid', 'int2', 'int4', 'int8', 'numeric', 'float4',
        'float8', 'bool', 'date', 'timestamp', 'timestamptz', 'xid8']::regtype[]) then 't.%I::text'
      when t.oid = 'json'::regtype then 'nullif(t.%I::text, ''null'')'
      when t.oid = 'jsonb'::regtype then '(t.%I #>> ''{}'')'
      else '(to_jsonb(t.%I) #>> ''{}'')' end, a.attname)
  from pg_catalog.pg_attribute a join pg_catalog.pg_type t on t.oid = a.atttypid
  where a.attrelid = digest_text.relation and a.attname = digest_text.name and a.attnum > 0 and not a.attisdropped);
end
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
