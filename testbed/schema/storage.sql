-- Storage as a Supabase project has it from the start, and a private bucket in which each user has a folder, named by
-- their id. Applied only to projects that ask for Storage. Every statement may run again.

grant usage on schema storage to anon, authenticated, service_role;
grant all on storage.buckets, storage.objects to anon, authenticated, service_role;
grant execute on all functions in schema storage to anon, authenticated, service_role;

insert into storage.buckets (id, name, public) values ('backups', 'backups', false) on conflict (id) do nothing;

drop policy if exists "a user's own backups" on storage.objects;
create policy "a user's own backups" on storage.objects for all to authenticated
  using (bucket_id = 'backups' and (storage.foldername(name))[1] = auth.uid()::text)
  with check (bucket_id = 'backups' and (storage.foldername(name))[1] = auth.uid()::text);
