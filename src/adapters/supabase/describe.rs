//! Asks the server kit what it is and what it knows of tables.

use reqwest::Method;
use serde::Deserialize;
use serde_json::json;
use tidelock_actors::model::Fault;

use super::Plain;
use super::fault;
use super::http::Question;
use super::installation::with_schema;

/// The function that is asked.
const FUNCTION: &str = "tidelock_describe";

/// What the server kit says of itself and of the tables it was asked about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Description {
    /// The version that is installed.
    pub version: u32,
    /// Which database this is.
    pub epoch: String,
    /// As whom the server was asked; kits before version 3 do not tell.
    pub role: Option<String>,
    /// The version of PostgreSQL as its number, 150008 for 15.8; kits before version 3 do not tell.
    pub postgres: Option<u32>,
    /// The tables, in the order in which they were asked about.
    pub tables: Vec<TableDescription>,
}

/// What the server's catalogue and the kit say of one table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct TableDescription {
    /// Whether there is such a table that may be read; where not, nothing else is told.
    pub exists: bool,
    /// Whether the kit was told of it.
    pub attached: bool,
    /// The columns of its primary key; none where it has no such key.
    pub key: Vec<String>,
    /// The column that the kit takes for its rows' owner.
    pub owner: Option<String>,
    /// The column that the kit takes for the mark of deleted rows.
    pub soft: Option<String>,
    /// Whether everybody who may read it is told which keys were deleted.
    pub shared: bool,
    /// Whether row-level security is on.
    pub row_security: bool,
    /// Whether it is a view or a foreign table: what is behind it has policies of its own.
    pub view: bool,
    /// What that role may do by its grants; kits before version 3 do not tell.
    pub grants: Option<Rights>,
    /// What policies of row-level security there are for that role; nothing where row-level security does not apply to it.
    pub policies: Option<Policies>,
    /// Its columns.
    pub columns: Vec<ColumnDescription>,
    /// Its foreign keys.
    pub references: Vec<Reference>,
}

/// What may be done with a table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Rights {
    /// Read rows.
    pub select: bool,
    /// Add rows.
    pub insert: bool,
    /// Change rows.
    pub update: bool,
    /// Delete rows.
    pub delete: bool,
}

/// Policies of row-level security.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Policies {
    /// For what there is a permissive one. Which rows it lets through only the rows themselves show.
    #[serde(flatten)]
    pub permitted: Rights,
    /// Whether restrictive ones narrow that.
    pub restrictive: bool,
}

/// A column.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ColumnDescription {
    /// Its name.
    pub name: String,
    /// Its type, as PostgreSQL writes it.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it may be null.
    pub nullable: bool,
}

/// A foreign key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Reference {
    /// The columns that refer.
    pub columns: Vec<String>,
    /// The table referred to, `SCHEMA.TABLE`.
    pub table: String,
    /// Its columns that are referred to.
    pub referenced: Vec<String>,
}

impl Reference {
    /// Whether this table, as a collection names it, is the one referred to.
    pub fn is_to(&self, table: &str) -> bool {
        let (schema, name) = with_schema(table);
        self.table == format!("{schema}.{name}")
    }
}

impl Plain {
    /// Asks the server kit about itself and about these tables; nothing where the server has no kit.
    pub async fn describe(&self, tables: &[&str]) -> Result<Option<Description>, Fault> {
        let question = Question {
            method: Method::POST,
            body: Some(json!({ "tables": tables }).to_string()),
            ..Question::get(format!("{}/rest/v1/rpc/{FUNCTION}", self.base))
        };
        let answer = match self.link.send(question).await {
            Ok(answer) => answer,
            Err(fault) if is_not_installed(&fault) => return Ok(None),
            Err(fault) => return Err(fault),
        };
        let description = serde_json::from_slice::<Description>(&answer.body).ok();
        let whole = description.filter(|description| description.tables.len() == tables.len());
        whole.map(Some).ok_or_else(|| fault::not_json(answer.status, &answer.body))
    }
}

/// PostgREST knows no such function; or it has not noticed yet that the function is gone, and PostgreSQL says so.
fn is_not_installed(fault: &Fault) -> bool {
    match fault.code.as_deref() {
        Some("PGRST202") => true,
        Some("42883") => fault.message.contains(FUNCTION),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use tidelock_actors::model::FaultKind;

    use super::*;

    #[test]
    fn only_the_absence_of_what_was_asked_means_that_there_is_no_kit() {
        let told = |code: &str, message: &str| {
            is_not_installed(&Fault { code: Some(code.into()), ..Fault::new(FaultKind::Doubtful, message) })
        };
        assert!(told("PGRST202", "Could not find the function"));
        assert!(told("42883", "function public.tidelock_describe(tables => unknown) does not exist"));
        assert!(
            !told("42883", "function tidelock.epoch() does not exist"),
            "a kit that is broken is not a missing one"
        );
        assert!(!told("42501", "permission denied for function tidelock_describe"));
    }

    #[test]
    fn a_reference_names_its_table_with_the_schema() {
        let reference = Reference { table: "public.Big Albums".into(), ..Reference::default() };
        assert!(reference.is_to("Big Albums") && reference.is_to("public.Big Albums"));
        assert!(!reference.is_to("media.Big Albums") && !reference.is_to("albums"));
    }

    #[test]
    fn what_an_older_kit_does_not_tell_is_absent() {
        let text = r#"{"version":1,"tables":[{"table":"public.t","exists":false}]}"#;
        let description: Description = serde_json::from_str(text).unwrap();
        assert_eq!((description.version, &*description.tables), (1, &[TableDescription::default()][..]));
        assert_eq!((description.role, description.postgres, description.tables[0].grants), (None, None, None));
    }
}
