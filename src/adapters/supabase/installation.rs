//! The SQL that installs the server kit in a database, and the SQL that takes it away.
//!
//! Text only: nothing here talks to a server.

/// The server kit as it stands in the repository, one file after the other.
pub const KIT_SQL: &str = concat!(
    include_str!("../../../supabase/kit/1_base.sql"),
    "\n",
    include_str!("../../../supabase/kit/2_attach.sql"),
    "\n",
    include_str!("../../../supabase/kit/3_changes.sql"),
    "\n",
    include_str!("../../../supabase/kit/4_audit.sql"),
    "\n",
    include_str!("../../../supabase/kit/5_describe.sql"),
    "\n",
    include_str!("../../../supabase/kit/6_push.sql"),
    "\n",
    include_str!("../../../supabase/kit/7_look.sql"),
    "\n",
    include_str!("../../../supabase/kit/8_apply.sql"),
    "\n",
    include_str!("../../../supabase/kit/9_backups.sql"),
    "\n",
    include_str!("../../../supabase/kit/9_end.sql")
);

/// The version of the server kit that this build goes with.
pub const KIT_VERSION: u32 = 3;

/// The oldest version that this build works with: what came since only lets the doctor tell more.
pub const KIT_LEAST: u32 = 2;

/// A table that is brought into the kit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// The table, with its schema where that is not `public`; as it is, not quoted.
    pub table: String,
    /// The column that says whose a row is.
    pub owner: Option<String>,
    /// The column that marks a row as deleted.
    pub soft: Option<String>,
}

impl Attachment {
    fn statement(&self) -> String {
        let options = [("owner", &self.owner), ("soft", &self.soft)];
        let options = options.iter().filter_map(|(name, column)| Some((name, column.as_ref()?)));
        let options: String = options.map(|(name, column)| format!(", {name} => {}", literal(column))).collect();
        format!("select tidelock.attach({}{options});", literal(&sql_name(&self.table)))
    }
}

const INSTALLATION_HEAD: &str = "\
-- tidelock's server kit, and at the end the tables of this configuration: printed by `tidelock remote sql`.
--
-- Apply it as the owner of the tables; again whenever tidelock or [collections] have changed. Either with psql:
--   tidelock remote sql | psql --single-transaction --set ON_ERROR_STOP=1 \"$DATABASE_URL\"
-- or as a migration of a Supabase project:
--   tidelock remote sql > \"supabase/migrations/$(date -u +%Y%m%d%H%M%S)_tidelock.sql\" && supabase db push
-- Then `tidelock remote check` says whether everything is in place.
";

const REMOVAL_HEAD: &str = "\
-- Takes tidelock's server kit away, and what it gave to tables: printed by `tidelock remote sql --remove`.
-- No row of any table is lost; devices go on without the kit. Apply it like the kit, as the owner of the tables.
";

/// Says nothing of what is there already, or goes along with something else.
const QUIET: &str = "set client_min_messages = warning;\n";
/// PostgREST knows functions and columns by heart until it is told.
const END: &str = "notify pgrst, 'reload schema';\nreset client_min_messages;\n";

/// Everything that installs or upgrades the kit and attaches these tables, in this order. It may be applied again.
pub fn installation(attachments: &[Attachment]) -> String {
    let mut sql = format!("{INSTALLATION_HEAD}\n{QUIET}\n{KIT_SQL}\n");
    sql.push_str("-- The tables of this configuration, parents first -------------------------------------------------------------------\n\n");
    for attachment in attachments {
        sql.push_str(&attachment.statement());
        sql.push('\n');
    }
    if attachments.is_empty() {
        sql.push_str("-- There are none: no collection travels.\n");
    }
    sql + "\n" + END
}

/// Everything that takes the kit away.
pub fn removal() -> String {
    format!("{REMOVAL_HEAD}\n{QUIET}\nselect tidelock.remove();\n\n{END}")
}

/// A table's name as SQL reads it, with its schema.
fn sql_name(table: &str) -> String {
    let (schema, table) = with_schema(table);
    format!("{}.{}", identifier(schema), identifier(table))
}

/// A table's schema and name; what names no schema is in `public`.
pub(super) fn with_schema(table: &str) -> (&str, &str) {
    table.split_once('.').unwrap_or(("public", table))
}

/// Quoted where PostgreSQL would read something else: capitals, blanks, signs.
fn identifier(name: &str) -> String {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        && name.bytes().next().is_some_and(|first| !first.is_ascii_digit());
    if is_plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// With backslashes it is written so that it means the same whatever `standard_conforming_strings` says.
fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if text.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(table: &str, owner: Option<&str>, soft: Option<&str>) -> String {
        Attachment { table: table.into(), owner: owner.map(Into::into), soft: soft.map(Into::into) }.statement()
    }

    #[test]
    fn the_kit_is_all_of_its_files_in_their_order() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/supabase/kit");
        let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        let texts: Vec<String> = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
        assert_eq!(texts.join("\n"), KIT_SQL);
    }

    #[test]
    fn the_kit_carries_the_version_of_this_build() {
        assert!(KIT_SQL.contains(&format!("update tidelock.kit set version = {KIT_VERSION};")));
        assert!(KIT_SQL.contains(&format!("server kit, version {KIT_VERSION},")));
        assert!(KIT_SQL.contains(&format!("version       integer not null default {KIT_VERSION},")));
    }

    #[test]
    fn a_table_is_attached_with_what_is_known_of_it() {
        assert_eq!(statement("notes", None, None), "select tidelock.attach('public.notes');");
        assert_eq!(
            statement("media.photos", Some("user_id"), Some("deleted_at")),
            "select tidelock.attach('media.photos', owner => 'user_id', soft => 'deleted_at');"
        );
    }

    #[test]
    fn a_name_stays_one_name_whatever_it_holds() {
        assert_eq!(
            statement("Größe.Bob's table", Some("User'Id"), None),
            r#"select tidelock.attach('"Größe"."Bob''s table"', owner => 'User''Id');"#
        );
        assert_eq!(
            statement("x'); drop table notes; --", None, None),
            r#"select tidelock.attach('public."x''); drop table notes; --"');"#
        );
        assert_eq!(statement("a\"b\\c", None, None), r#"select tidelock.attach(E'public."a""b\\c"');"#);
        assert_eq!(statement("2024", None, None), r#"select tidelock.attach('public."2024"');"#);
    }

    #[test]
    fn the_whole_ends_with_the_tables_and_a_word_to_postgrest() {
        let attachments =
            ["projects", "tasks"].map(|table| Attachment { table: table.into(), owner: None, soft: None });
        let sql = installation(&attachments);
        assert!(sql.starts_with("-- tidelock's server kit, and at the end"));
        assert!(sql.contains(KIT_SQL));
        assert!(sql.ends_with(
            "\n\nselect tidelock.attach('public.projects');\nselect tidelock.attach('public.tasks');\n\n\
             notify pgrst, 'reload schema';\nreset client_min_messages;\n"
        ));
        assert!(installation(&[]).contains("-- There are none"));
        assert!(removal().contains("\nselect tidelock.remove();\n"));
    }
}
