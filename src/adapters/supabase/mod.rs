//! The server through PostgREST.
