//! What must be true when everybody has stopped.

use std::collections::{BTreeMap, BTreeSet};

use super::device::marks;
use super::model::{Author, Row, TABLES};
use super::world::{Fleet, HALVES};
use crate::support::{Device, assert_equal};

/// The device has what the server has, nothing waits, and nobody ever contested what only one writes.
pub async fn assert_device_equals_server(fleet: &Fleet, device: &Device) {
    let name = device.directory.file_name().unwrap().to_string_lossy().into_owned();
    let status = device.tidelock.status();
    assert_eq!((status.pending, status.parked, status.conflicts), (0, 0, 0), "{name}: {status:?}");
    device.assert_healthy().await;
    for table in TABLES {
        assert_equal(&device.records(table).await, &fleet.world.rows(table).await, &format!("{name}, {table}"));
    }
    let shared = fleet.shared_keys();
    let conflicts = device.tidelock.conflicts(true).await.unwrap();
    let strange: Vec<_> = conflicts.iter().filter(|conflict| !shared.contains(conflict.key.as_str())).collect();
    assert!(strange.is_empty(), "{name}: conflicts over what nobody else writes: {strange:#?}");
    assert_eq!(device.tidelock.query(HALVES, Vec::new()).await.unwrap().len(), 0, "{name}: halves at the end");
}

/// The server has exactly what each author has written last.
pub async fn assert_server_has_what_was_written(fleet: &Fleet, authors: &[Author]) {
    assert_none(fleet, "halves", HALVES).await;
    let mut expected: BTreeMap<String, BTreeSet<Row>> = BTreeMap::new();
    for author in authors {
        let rows = |rows: &Vec<Row>| rows.iter().cloned().collect();
        expected.extend(author.groups.iter().map(|(group, of_it)| (group.clone(), rows(of_it))));
    }
    let everything = "select grp, 0, id, null, mark from boards union all select grp, 1, id, board_id, mark from lists
        union all select grp, 2, id, list_id, mark from cards";
    let mut found: BTreeMap<String, BTreeSet<Row>> = BTreeMap::new();
    for row in fleet.world.project.query(everything).await.unwrap() {
        let text = |at: usize| row[at].clone().unwrap();
        let parsed = Row {
            table: text(1).parse().unwrap(),
            key: text(2),
            parent: row[3].clone(),
            mark: text(4).parse().unwrap(),
        };
        found.entry(text(0)).or_default().insert(parsed);
    }
    let ours = |group: &String| !fleet.is_shared(group) && *group != fleet.ground_group();
    found.retain(|group, _| ours(group));
    for (group, rows) in &expected {
        assert_eq!(found.get(group), Some(rows), "group {group}");
    }
    let unexpected: Vec<_> = found.keys().filter(|group| !expected.contains_key(*group)).collect();
    assert!(unexpected.is_empty(), "groups that nobody wrote, or that were deleted: {unexpected:?}");
}

/// Every operation took effect once, and those that were made together at once.
pub async fn assert_effects(fleet: &Fleet, settled: &BTreeSet<u64>, authors: &[Author]) {
    for (what, sql) in [
        ("took effect twice", "select mark from noted where verb <> 'DELETE' group by mark having count(*) > 1"),
        ("deleted twice", "select key from noted where verb = 'DELETE' group by key having count(*) > 1"),
        ("made twice", "select key from noted where verb = 'INSERT' group by key having count(*) > 1"),
        (
            "transactions in pieces",
            "select revision from noted where verb <> 'DELETE' group by revision
             having count(distinct xid) > 1 or count(*) <> max(size)",
        ),
        (
            "counters that do not count the effects",
            "select r.id from (select id, effects from boards union all select id, effects from lists
               union all select id, effects from cards) r
             where effects <> (select count(*) from noted where key = r.id and verb <> 'DELETE')",
        ),
    ] {
        assert_none(fleet, what, sql).await;
    }
    let noted = fleet.world.project.query("select mark from noted where verb <> 'DELETE'").await.unwrap();
    let noted: BTreeSet<u64> = noted.iter().map(|row| row[0].as_ref().unwrap().parse().unwrap()).collect();
    let lost: Vec<u64> =
        settled.iter().copied().chain(authors.iter().flat_map(marks)).filter(|mark| !noted.contains(mark)).collect();
    assert!(lost.is_empty(), "acknowledged, and without effect: {lost:?}");
}

async fn assert_none(fleet: &Fleet, what: &str, sql: &str) {
    let found = fleet.world.project.query(sql).await.unwrap();
    assert!(found.is_empty(), "{what}: {found:?}");
}
