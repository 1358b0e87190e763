//! A real PostgreSQL with a Supabase-compatible server in front.
