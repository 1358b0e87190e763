-- Backups --------------------------------------------------------------------------------------------------------------

-- Which backups a user's devices have, so that each of them sees when and where the last good one was made. What a backup
-- holds is never in here. Any client may read it; a device writes about its own folder of backups and nothing else.
create table if not exists public.tidelock_backups (
  owner       text not null default tidelock.actor() check (owner <> ''),
  -- The folder, among all of the owner's: a name and a digest of where it is.
  place       text not null,
  id          text not null,
  -- What the device is called, and the file there.
  device      text not null,
  path        text not null,
  -- `full` holds everything, `log` what was committed since the backup whose digest is `after`.
  kind        text not null,
  reason      text not null,
  timestamp   timestamptz not null,
  bytes       bigint not null,
  records     bigint not null,
  pending     bigint not null,
  client_id   text not null,
  encrypted   boolean not null,
  digest      text not null,
  after       text,
  -- When it was restored into a file beside and found good.
  verified_at timestamptz,
  -- Where the file itself is in Supabase Storage, if it is: bucket and name.
  object      text,
  primary key (owner, place, id)
);
create index if not exists tidelock_backups_timestamp on public.tidelock_backups (owner, timestamp desc);

alter table public.tidelock_backups enable row level security;
drop policy if exists own_backups on public.tidelock_backups;
create policy own_backups on public.tidelock_backups
  using (owner = (select tidelock.actor())) with check (owner = (select tidelock.actor()));
-- Row-level security shows nothing to somebody who is not signed in.
grant select, insert, update, delete on public.tidelock_backups to public;
