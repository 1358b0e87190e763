-- The seed schema of Raw Studio: what each signed-in user generated, used and set.
-- Every statement may run again: the same file is applied to an external Supabase before each test run.

-- `now()` is the start of the transaction, so a row may become visible long after the time it carries, and
-- all rows of one transaction share one. That is what most projects have, and what a pull must cope with.
create or replace function public.touch_updated_at() returns trigger language plpgsql as $$
begin
  new.updated_at := now();
  return new;
end
$$;

create table if not exists public.generations (
  id uuid primary key,
  user_id uuid default auth.uid(),
  run_id text,
  prompt text,
  model text,
  image_count int,
  status text,
  settings_snapshot jsonb,
  thumbnail_url text,
  created_at timestamptz default now(),
  updated_at timestamptz not null default now()
);

create table if not exists public.usage_logs (
  id uuid primary key,
  user_id uuid default auth.uid(),
  provider text,
  action text,
  credits_consumed numeric,
  metadata jsonb,
  created_at timestamptz default now(),
  updated_at timestamptz not null default now()
);

create table if not exists public.user_settings (
  id uuid primary key,
  user_id uuid default auth.uid(),
  settings jsonb,
  video_settings jsonb,
  created_at timestamptz default now(),
  updated_at timestamptz not null default now()
);

-- The same three things for each table: the order in which a pull reads it, its trigger, and its owner's policy.
do $$
declare
  name text;
begin
  foreach name in array array['generations', 'usage_logs', 'user_settings'] loop
    execute format('create index if not exists %I on public.%I (updated_at, id)', name || '_updated_at_id', name);
    execute format('drop trigger if exists touch on public.%I', name);
    execute format(
      'create trigger touch before insert or update on public.%I for each row execute function public.touch_updated_at()', name);
    execute format('alter table public.%I enable row level security', name);
    execute format('drop policy if exists own_rows on public.%I', name);
    execute format(
      'create policy own_rows on public.%I to authenticated using (user_id = auth.uid()) with check (user_id = auth.uid())', name);
  end loop;
end
$$;

notify pgrst, 'reload schema';
