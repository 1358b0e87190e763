//! Transactions that overlap: whatever the order in which they commit, a chain of pulls has all of them, whole and once.

use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::json;

use super::{Caller, Follower, Kit};
use crate::support::Dice;

const TABLE: &str = "
    create table public.items (id bigint primary key, pair bigint not null, n integer not null default 0,
      updated_at timestamptz not null default now());
    select tidelock.attach('public.items')";

#[tokio::test]
async fn h01_what_commits_late_comes_with_the_next_pull() {
    let kit = Kit::with(TABLE).await;
    let (slow, quick) = (kit.another_owner().await, kit.another_owner().await);
    let mut follower = Follower::of("items");
    follower.pull(&kit.owner, 100, "id").await;
    slow.run("begin; insert into items (id, pair) values (1, 1)").await;
    quick.run("insert into items (id, pair) values (2, 2)").await;
    follower.pull(&kit.owner, 100, "id").await;
    assert_eq!(follower.rows.keys().collect::<Vec<_>>(), ["2"]);
    slow.run("commit").await;
    follower.pull(&kit.owner, 100, "id").await;
    assert_eq!(follower.rows.keys().collect::<Vec<_>>(), ["1", "2"]);
    assert!(follower.deliveries.values().all(|count| *count == 1), "{:?}", follower.deliveries);
}

/// A cursor as many sync layers have it: the highest value seen of a column that rises.
struct Naive {
    column: &'static str,
    cursor: String,
    rows: std::collections::BTreeSet<String>,
}

impl Naive {
    fn new(column: &'static str, cursor: &str) -> Self {
        Self { column, cursor: cursor.to_owned(), rows: Default::default() }
    }

    async fn pull(&mut self, caller: &Caller) {
        let Self { column, cursor, .. } = self;
        let sql = format!("select id || ' ' || n from items where {column} > '{cursor}' order by {column}");
        self.rows.extend(caller.column(&sql).await);
        let sql = format!("select {column} from items order by {column} desc limit 1");
        let newest = caller.value(&sql).await;
        if !newest.is_empty() {
            self.cursor = newest;
        }
    }
}

/// Writes transactions of two rows each, that commit, roll back, or give a part back, and overlap with the others.
async fn write(caller: Caller, writer: u64, seed: u64, transactions: u64, still_writing: &AtomicU32) {
    let mut dice = tidelock_actors::machine::Chance::from_seed(seed.wrapping_add(writer));
    let mut below = |bound: u64| (dice.fraction() * bound as f64) as u64;
    for number in 0..transactions {
        let id = (writer * 1_000 + number) * 2;
        let insert = format!("insert into items (id, pair) values ({id}, {id}), ({}, {id})", id + 1);
        caller.run(&format!("begin; {insert}")).await;
        for _ in 0..below(4) {
            // Lets the others go on while this transaction is open.
            caller.run("select").await;
        }
        let earlier = (writer * 1_000 + below(number + 1)) * 2;
        let sql = match below(6) {
            0 => "rollback".to_owned(),
            1 => format!("savepoint a; delete from items where pair = {earlier}; rollback to a; commit"),
            2 => format!("update items set n = n + 1 where pair = {earlier}; commit"),
            3 => format!("savepoint a; update items set n = n + 1 where pair = {earlier}; release a; commit"),
            4 => format!("delete from items where pair = {earlier}; commit"),
            _ => "commit".to_owned(),
        };
        caller.run(&sql).await;
    }
    still_writing.fetch_sub(1, Ordering::SeqCst);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn h01_a_chain_of_pulls_misses_nothing_halves_nothing_and_brings_nothing_twice() {
    const WRITERS: u64 = 8;
    let (_, seed) = Dice::new("overlapping writers");
    let kit = Kit::with(TABLE).await;
    let elsewhere = Kit::with("create table held (id int)").await;
    // One transaction is open throughout, here and in another database of the server.
    elsewhere.owner.run("begin; insert into held values (1)").await;
    let open = kit.another_owner().await;
    open.run("begin; insert into items (id, pair) values (-2, -2), (-1, -2)").await;
    let mut naive = [Naive::new("updated_at", "2000-01-01"), Naive::new("tidelock_version", "0")];

    let still_writing: &'static AtomicU32 = Box::leak(Box::new(AtomicU32::new(WRITERS as u32)));
    for writer in 0..WRITERS {
        tokio::spawn(write(kit.another_owner().await, writer + 1, seed, 60, still_writing));
    }
    let mut follower = Follower::of("items");
    let (mut pulls, mut whole) = (0, 0);
    loop {
        let is_last = still_writing.load(Ordering::SeqCst) == 0;
        let limit = if pulls % 3 == 2 { 40 } else { 5_000 };
        let pages = follower.pull(&kit.owner, limit, "id").await;
        // A row that is written again between two pages comes with the next pull, and only then its other half.
        if pages == 1 {
            assert_whole(&follower, seed);
            whole += 1;
        }
        for naive in &mut naive {
            naive.pull(&kit.owner).await;
        }
        pulls += 1;
        if is_last {
            break;
        }
    }
    open.run("commit").await;
    follower.pull(&kit.owner, 1_000, "id").await;
    elsewhere.owner.run("commit").await;
    follower.pull(&kit.owner, 1_000, "id").await;

    let there = kit.owner.column("select id || ' ' || n from items order by id").await;
    let mut known: Vec<_> = follower.rows.iter().map(|(id, row)| (id.parse::<i64>().unwrap(), &row["n"])).collect();
    known.sort_by_key(|(id, _)| *id);
    let known: Vec<_> = known.into_iter().map(|(id, n)| format!("{id} {n}")).collect();
    assert_eq!(known, there, "seed {seed}, {pulls} pulls");
    assert!(whole > 1, "seed {seed}: no pull of one page among {pulls}");
    let twice: Vec<_> = follower.deliveries.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "seed {seed}: {twice:?}");
    for mut naive in naive {
        naive.pull(&kit.owner).await;
        let missed = there.iter().filter(|row| !naive.rows.contains(*row)).count();
        assert!(missed > 0, "seed {seed}: a cursor on {} should have missed rows", naive.column);
    }
}

/// Both rows of a pair are written by the same transactions.
fn assert_whole(follower: &Follower, seed: u64) {
    for (id, row) in &follower.rows {
        let other = (id.parse::<i64>().unwrap() ^ 1).to_string();
        let n = follower.rows.get(&other).map(|row| &row["n"]);
        assert_eq!(n, Some(&row["n"]), "seed {seed}: {id} and {other}");
    }
}

#[tokio::test]
async fn h01_a_row_written_again_between_two_pages_comes_with_the_next_pull() {
    let kit = Kit::with(TABLE).await;
    kit.owner.run("insert into items (id, pair) select n, n from generate_series(1, 6) n").await;
    let first = kit.owner.changes(None, &json!([{ "table": "items" }]), 3).await;
    kit.owner.run("update items set n = 9 where id in (1, 5); delete from items where id in (2, 6)").await;
    let mut entry = first["collections"][0]["more"].clone();
    entry["table"] = json!("items");
    let second = kit.owner.changes(None, &json!([entry]), 10).await;
    let snapshot = first["snapshot"].as_str().unwrap();
    let next = kit.owner.changes(Some(snapshot), &json!([{ "table": "items" }]), 10).await;
    let ids = |answer: &serde_json::Value| {
        let rows = answer["collections"][0]["rows"].as_array().unwrap();
        rows.iter().map(|row| row["id"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!((ids(&first), ids(&second), ids(&next)), (vec![1, 2, 3], vec![4, 5], vec![1, 5]));
    assert_eq!(next["collections"][0]["gone"], json!(["2", "6"]));
}
