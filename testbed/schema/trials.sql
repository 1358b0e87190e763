-- Tables that tests are made of. Needs `touch_updated_at` of raw_studio.sql. Every statement may run again.

create table if not exists public.projects (
  id uuid primary key,
  name text,
  updated_at timestamptz not null default now()
);

create table if not exists public.tasks (
  id uuid primary key,
  project_id uuid references public.projects (id) on delete cascade,
  title text,
  amount numeric(38, 10),
  big bigint,
  at timestamptz,
  meta jsonb,
  n int check (n >= 0),
  code text unique,
  done bool default false,
  updated_at timestamptz not null default now()
);

-- A key that is not a uuid, and nothing that says when a row changed: only a key listing can find deletions here.
create table if not exists public.notes (
  id text primary key,
  body text
);

-- For measuring: no row-level security to pay for.
create table if not exists public.bench (
  id uuid primary key,
  grp int,
  title text,
  body text,
  done bool,
  n int,
  meta jsonb,
  updated_at timestamptz not null default now()
);

create table if not exists public.owned (
  id uuid primary key,
  owner uuid default auth.uid(),
  title text,
  updated_at timestamptz not null default now()
);

-- Signed-in users may read and add, but row-level security silently ignores their updates and deletions.
create table if not exists public.readonly_for_users (
  id uuid primary key,
  title text,
  updated_at timestamptz not null default now()
);

-- One column of each type whose JSON form is easily got wrong.
create table if not exists public.samples (
  id int primary key,
  a_bool bool,
  a_smallint smallint,
  a_bigint bigint,
  a_real real,
  a_double double precision,
  a_numeric numeric,
  a_money numeric(38, 10),
  a_text text,
  a_char char(5),
  a_date date,
  a_time time,
  a_timestamp timestamp,
  a_timestamptz timestamptz,
  an_interval interval,
  a_uuid uuid,
  a_json json,
  a_jsonb jsonb,
  some_bytes bytea,
  an_address inet,
  a_range int4range,
  bigints bigint[],
  numerics numeric[],
  texts text[],
  jsonbs jsonb[],
  times timestamptz[]
);

do $$
declare
  name text;
begin
  foreach name in array array['projects', 'tasks', 'bench', 'owned', 'readonly_for_users'] loop
    execute format('create index if not exists %I on public.%I (updated_at, id)', name || '_updated_at_id', name);
    execute format('drop trigger if exists touch on public.%I', name);
    execute format(
      'create trigger touch before insert or update on public.%I for each row execute function public.touch_updated_at()', name);
  end loop;

  -- Open to everybody, with row-level security on as Supabase recommends.
  foreach name in array array['projects', 'tasks', 'notes', 'samples'] loop
    execute format('alter table public.%I enable row level security', name);
    execute format('drop policy if exists everybody on public.%I', name);
    execute format(
      'create policy everybody on public.%I to anon, authenticated using (true) with check (true)', name);
  end loop;
end
$$;

alter table public.owned enable row level security;
drop policy if exists own_rows_select on public.owned;
drop policy if exists own_rows_insert on public.owned;
drop policy if exists own_rows_update on public.owned;
drop policy if exists own_rows_delete on public.owned;
create policy own_rows_select on public.owned for select to authenticated using (owner = auth.uid());
create policy own_rows_insert on public.owned for insert to authenticated with check (owner = auth.uid());
create policy own_rows_update on public.owned for update to authenticated using (owner = auth.uid()) with check (owner = auth.uid());
create policy own_rows_delete on public.owned for delete to authenticated using (owner = auth.uid());

alter table public.readonly_for_users enable row level security;
drop policy if exists users_read on public.readonly_for_users;
drop policy if exists users_add on public.readonly_for_users;
drop policy if exists users_never_update on public.readonly_for_users;
create policy users_read on public.readonly_for_users for select to authenticated using (true);
create policy users_add on public.readonly_for_users for insert to authenticated with check (true);
create policy users_never_update on public.readonly_for_users for update to authenticated using (false);

-- Functions that the conformance suite calls.
create or replace function public.echo_jsonb(value jsonb) returns jsonb language sql as $$ select value $$;

create or replace function public.kind_of(value jsonb, suffix text default '') returns text language sql as
$$ select jsonb_typeof(value) || suffix $$;

create or replace function public.raise_error(code text, message text default 'raised') returns void language plpgsql as $$
begin
  raise exception using errcode = code, message = message, detail = 'the detail', hint = 'the hint';
end
$$;

create or replace function public.count_to(top int) returns setof int language sql as $$ select generate_series(1, top) $$;

create or replace function public.sleep_ms(ms int) returns text language plpgsql as $$
begin
  perform pg_sleep(ms / 1000.0);
  return 'slept';
end
$$;

notify pgrst, 'reload schema';
