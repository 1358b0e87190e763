//! What is found and said, by collection.

use crate::adapters::supabase::ColumnDescription;

use super::*;

const TOML: &str = "
    [collections.parents]
    [collections.children]
    after = [\"parents\"]
    owner = \"user_id\"
    fields = { body = \"text\" }";

/// A table that fits its collection: keyed by `id`, attached, owned and guarded.
fn table(columns: &[&str]) -> TableDescription {
    TableDescription {
        exists: true,
        attached: true,
        key: vec!["id".into()],
        owner: Some("user_id".into()),
        row_security: true,
        columns: columns
            .iter()
            .map(|name| ColumnDescription { name: name.to_string(), kind: "text".into(), nullable: true })
            .collect(),
        ..TableDescription::default()
    }
}

fn child() -> TableDescription {
    table(&["id", "user_id", "text", "parent_id"])
}

fn parent() -> TableDescription {
    TableDescription { shared: true, owner: None, ..table(&["id"]) }
}

fn reference(table: &str) -> Reference {
    Reference { columns: vec!["parent_id".into()], table: table.into(), referenced: vec!["id".into()] }
}

/// The checks of the child's collection, a line each.
fn found(toml: &str, child: TableDescription) -> Vec<String> {
    let config = Config::from_toml(toml).unwrap();
    let rules = config.rules();
    let tables: Vec<_> =
        rules.iter().map(|rules| if &*rules.name == "children" { child.clone() } else { parent() }).collect();
    let checks = collections(&config, &rules, &tables);
    let of_child = checks.into_iter().filter(|check| check.message.starts_with("children: "));
    of_child
        .map(|check| {
            let state = check.state.name();
            format!("{state} {} {} -> {}", check.name, check.message.trim_start_matches("children: "), check.advice)
        })
        .collect()
}

#[track_caller]
fn check(child: TableDescription, expected: &[&str]) {
    assert_eq!(found(TOML, child), expected);
}

#[test]
fn the_kit_must_be_one_that_the_build_works_with() {
    let state = |version| kit(version).state;
    assert_eq!(state(None), State::Failure);
    assert_eq!(state(Some(KIT_LEAST - 1)), State::Failure);
    assert_eq!((KIT_LEAST..KIT_VERSION).map(|version| state(Some(version))).collect::<Vec<_>>(), [State::Warning]);
    assert_eq!(state(Some(KIT_VERSION)), State::Ok);
    assert_eq!(state(Some(KIT_VERSION + 1)), State::Warning);
    assert!(kit(None).advice.contains("tidelock remote sql"));
}

#[test]
fn what_fits_is_said_in_one_line() {
    check(child(), &["ok table children is attached, owner user_id -> "]);
}

#[test]
fn of_a_table_that_is_not_there_nothing_else_is_said() {
    check(
        TableDescription::default(),
        &["failure table there is no table children, or it may not be read with this key -> \
           make the table or grant select on it; or mend [collections.children] table"],
    );
}

#[test]
fn a_table_must_be_attached_with_what_is_configured() {
    check(
        TableDescription { attached: false, owner: None, ..child() },
        &["failure attached children is not attached -> \
           apply what `tidelock remote sql --collections children` prints"],
    );
    check(
        TableDescription { owner: None, ..child() },
        &["failure owner children is attached without owner, not with user_id -> \
           apply what `tidelock remote sql --collections children` prints"],
    );
    check(
        TableDescription { soft: Some("gone_at".into()), ..child() },
        &["warning soft_delete children is attached with soft_delete gone_at, which is not configured -> \
           set [collections.children] soft_delete = \"gone_at\""],
    );
}

#[test]
fn the_key_must_be_the_primary_key() {
    let advice = "make id the primary key, or name its field in [collections.children] key";
    check(
        TableDescription { key: vec!["user_id".into(), "id".into()], ..child() },
        &[&format!("failure key the primary key of children is (user_id, id), not id -> {advice}")],
    );
    check(
        TableDescription { key: vec![], ..child() },
        &[&format!("failure key children has no primary key -> {advice}")],
    );
    let renamed = format!("{TOML}\nkey = \"body\"");
    let by_text = TableDescription { key: vec!["text".into()], ..child() };
    assert_eq!(found(&renamed, by_text).len(), 1, "the field's column counts");
}

#[test]
fn every_column_that_is_named_must_be_there() {
    check(
        table(&["id", "parent_id"]),
        &[
            "failure columns children has no column text -> add the column, or mend [collections.children] fields",
            "failure columns children has no column user_id -> add the column, or mend [collections.children] owner",
        ],
    );
}

#[test]
fn a_foreign_key_wants_its_parent_to_go_first() {
    let refers = |table: &str| TableDescription { references: vec![reference(table)], ..child() };
    let without = TOML.replace("after = [\"parents\"]", "");
    let told = "warning after children refers to parents by parent_id -> \
                add \"parents\" to [collections.children] after, so that it is sent first";
    assert_eq!(found(&without, refers("public.parents")), [told]);
    let fine = ["ok table children is attached, owner user_id -> "];
    assert_eq!(found(TOML, refers("public.parents")), fine, "it is declared");
    assert_eq!(found(&without, refers("public.others")), fine, "it is no collection's");
    assert_eq!(found(&without, refers("public.children")), fine, "it is its own parent");
    let through = format!("{without}\nafter = [\"middle\"]\n[collections.middle]\nafter = [\"parents\"]");
    assert_eq!(found(&through, refers("public.parents")), fine, "it is declared through another");
    let other_way = without.replace("[collections.parents]", "[collections.parents]\nafter = [\"children\"]");
    assert_eq!(found(&other_way, refers("public.parents")), fine, "a circle cannot be declared");
}

#[test]
fn row_level_security_and_an_owner_belong_together() {
    let ownerless = TOML.replace("owner = \"user_id\"", "");
    let told = found(&ownerless, TableDescription { owner: None, ..child() });
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("warning owner children has no owner, so deletions are only found"), "{told:?}");
    let shared = TableDescription { owner: None, shared: true, ..child() };
    assert!(found(&ownerless, shared)[0].starts_with("ok "));
    let stale = found(TOML, TableDescription { shared: true, ..child() });
    assert!(stale[0].starts_with("warning owner children was attached before row-level security"), "{stale:?}");
    let open = found(TOML, TableDescription { row_security: false, ..child() });
    assert!(open[0].starts_with("warning row_security row-level security is off"), "{open:?}");
    let view = found(TOML, TableDescription { row_security: false, view: true, ..child() });
    assert!(view[0].starts_with("warning row_security children is a view or a foreign table: policies of"), "{view:?}");
}
