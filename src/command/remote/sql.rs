//! Which tables the printed SQL attaches, and with what.

use tidelock::adapters::supabase::{self, Attachment};
use tidelock::model::Direction;
use tidelock::{Config, Error};

use super::super::failure::{Failure, USAGE};

/// The SQL for these collections, or for all that travel.
pub fn installation(config: &Config, chosen: &[String]) -> Result<String, Failure> {
    for name in chosen {
        match config.collections.get(name) {
            None => {
                let known = config.collections.keys().cloned().collect::<Vec<_>>().join(", ");
                return Err(Error::UnknownCollection { name: name.clone(), known }.into());
            }
            Some(collection) if collection.direction == Direction::Local => {
                let message = format!("the collection {name} has no table to attach: its direction is \"local\"");
                return Err(Failure::new(USAGE, message));
            }
            Some(_) => {}
        }
    }
    Ok(supabase::installation(&attachments(config, chosen)?))
}

/// Each table once, parents first.
fn attachments(config: &Config, chosen: &[String]) -> Result<Vec<Attachment>, Failure> {
    let mut attachments: Vec<Attachment> = Vec::new();
    for rules in config.rules().into_iter().filter(|rules| rules.direction != Direction::Local) {
        let Some(collection) = config.collections.get(&*rules.name) else { continue };
        if !chosen.is_empty() && !chosen.iter().any(|name| **name == *rules.name) {
            continue;
        }
        let given = |column: &String| (!column.is_empty()).then(|| column.clone());
        let new =
            Attachment { table: rules.table, owner: given(&collection.owner), soft: given(&collection.soft_delete) };
        match attachments.iter().find(|attachment| attachment.table == new.table) {
            None => attachments.push(new),
            Some(same) if *same == new => {}
            Some(_) => {
                let message = format!(
                    "several collections use the table {} and name different columns as owner or soft_delete; \
                     give all of them the same",
                    new.table
                );
                return Err(Failure::new(USAGE, message));
            }
        }
    }
    Ok(attachments)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statements(toml: &str, chosen: &[&str]) -> Result<Vec<String>, String> {
        let chosen: Vec<String> = chosen.iter().map(ToString::to_string).collect();
        let config = Config::from_toml(toml).unwrap();
        let sql = installation(&config, &chosen).map_err(|failure| format!("{} {failure}", failure.exit))?;
        let (_, tables) = sql.split_once(supabase::KIT_SQL).unwrap();
        Ok(tables.lines().filter(|line| line.starts_with("select tidelock.attach(")).map(str::to_owned).collect())
    }

    const FAMILY: &str = "
        [collections.a_child]
        after = [\"middle\"]
        owner = \"user_id\"
        [collections.middle]
        table = \"media.Middle\"
        after = [\"parent\"]
        soft_delete = \"deleted_at\"
        [collections.parent]
        [collections.mine]
        direction = \"local\"
        [collections.read]
        direction = \"pull\"";

    #[test]
    fn parents_are_attached_first_and_what_is_local_not_at_all() {
        let expected = [
            "select tidelock.attach('public.parent');",
            "select tidelock.attach('media.\"Middle\"', soft => 'deleted_at');",
            "select tidelock.attach('public.a_child', owner => 'user_id');",
            "select tidelock.attach('public.read');",
        ];
        assert_eq!(statements(FAMILY, &[]).unwrap(), expected);
        assert_eq!(statements(FAMILY, &["a_child", "parent"]).unwrap(), [expected[0], expected[2]]);
    }

    #[test]
    fn what_is_built_in_has_its_owner() {
        let expected = ["generations", "user_settings"]
            .map(|table| format!("select tidelock.attach('public.{table}', owner => 'user_id');"));
        assert_eq!(statements("", &[]).unwrap(), expected);
    }

    #[test]
    fn a_collection_that_cannot_be_attached_is_a_mistake_of_the_command_line() {
        let told = statements(FAMILY, &["parent", "parents"]).unwrap_err();
        assert_eq!(
            told,
            "2 unknown collection \"parents\"; the configuration declares: a_child, middle, mine, parent, read"
        );
        let told = statements(FAMILY, &["mine"]).unwrap_err();
        assert_eq!(told, "2 the collection mine has no table to attach: its direction is \"local\"");
    }

    #[test]
    fn a_table_of_several_collections_is_attached_once() {
        let two = |more: &str| format!("[collections.a]\ntable = \"t\"\n[collections.b]\ntable = \"t\"\n{more}");
        assert_eq!(statements(&two(""), &[]).unwrap(), ["select tidelock.attach('public.t');"]);
        let told = statements(&two("owner = \"user_id\""), &[]).unwrap_err();
        assert!(told.starts_with("2 several collections use the table t "), "{told}");
    }
}
