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
      covers, hashtextextended(concat_ws('|', name, action, key, jsonb_hash_extended(document, 0)), 0), false
    )::tidelock.operation order by at), '{}'),
    coalesce(bool_and(name is not distinct from usual_name and action is not distinct from usual_action
      and (is_usual or action = 'delete')), true),
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
