-- tidelock's server kit, version 3, for PostgreSQL 15 and newer.
--
-- What it is for: a device that asks "what has changed since I last asked?" gets an exact answer whatever the order in
-- which transactions commit, and a change that was sent takes effect once however often it is sent.
--
-- What it does to the database: it makes the schema `tidelock`, and in `public` four functions and the table
-- `tidelock_backups`, where devices say which backups they have. Any other table is touched only by
-- `select tidelock.attach('public.my_table')`: it gets the column `tidelock_version`, one index and a few triggers. It
-- stays an ordinary table for everybody else, and row-level security decides as for any other access: the functions that
-- read and write tables run with the rights of whoever calls them.
--
-- This file may be run again at any time, in a transaction or without one. `select tidelock.remove()` takes all of it
-- away and leaves the tables as they were.

create schema if not exists tidelock;
grant usage on schema tidelock to public;

-- One row about this installation.
create table if not exists tidelock.kit (
  only_one      boolean primary key default true check (only_one),
  version       integer not null default 3,
  identity      uuid not null default gen_random_uuid(),
  -- How long tombstones and ledger entries are kept.
  retention     interval not null default '90 days',
  -- Tombstones of transactions before this one may be gone.
  purged_before xid8 not null default '0',
  tidied        timestamptz not null default now()
);
insert into tidelock.kit default values on conflict do nothing;
update tidelock.kit set version = 3;

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
    raise undefined_table using table = coalesce(name, ''),
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
