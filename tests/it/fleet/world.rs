//! The project that all write to, and what everybody has to know of it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::AtomicU64;

use tidelock::{Config, Tidelock};
use tokio::sync::watch;

use super::model::{Author, CARD, Row, TABLES};
use crate::support::{Device, World, uuid};

/// Three tables, each hanging on the one before; a counter that a trigger advances with each effect on a row, and a note
/// of each effect, so that one that happened twice is seen even where it changed nothing.
const SCHEMA: &str = "
    create table boards (id uuid primary key, grp uuid not null, revision text not null, checksum bigint not null,
      size integer not null, mark bigint not null, effects integer not null default 0);
    create table lists (like boards including all, board_id uuid not null references boards);
    create table cards (like boards including all, list_id uuid not null references lists);
    create table noted (name text, key uuid, verb text, revision text, size integer, mark bigint, xid xid8);
    alter table noted disable row level security;

    create function count_effect() returns trigger language plpgsql as $$ begin
      new.effects := case when tg_op = 'INSERT' then 1 else old.effects + 1 end; return new; end $$;
    create function note_effect() returns trigger language plpgsql security definer set search_path = public as $$
    declare row record := coalesce(new, old);
    begin
      insert into noted values (tg_table_name, row.id, tg_op, row.revision, row.size, row.mark, pg_current_xact_id());
      return null;
    end $$;";

/// Which groups are not whole, in the words of both databases.
pub const HALVES: &str = "
    select grp, count(*) as rows, max(size) as size, min(revision) as revision, max(revision) as newest from (
      select grp, revision, checksum, size, mark from boards
      union all select grp, revision, checksum, size, mark from lists
      union all select grp, revision, checksum, size, mark from cards) as everything
    group by grp
    having count(distinct revision) > 1 or count(distinct checksum) > 1 or count(*) <> max(size)
      or sum(mark) <> max(checksum)";

/// Authors that are no devices.
pub const PSQL: u64 = 50;
pub const PSQL_OPEN: u64 = 51;
pub const SUPABASE_JS: u64 = 52;
const SEED: u64 = 60;
const SHARED_GROUPS: u64 = 4;

pub struct Fleet {
    pub world: World,
    pub seed: u64,
    /// Groups that all write to; whoever comes second loses theirs.
    pub shared: Vec<(String, Vec<Row>)>,
    /// A list that cards of any group may hang on, and its board.
    pub ground: String,
    /// Told of each transaction of a device: the others go by it.
    pub pulse: watch::Sender<u64>,
    /// How often a shared group was seen half on a device.
    pub shared_halves: AtomicU64,
}

impl Fleet {
    pub async fn start(seed: u64) -> Self {
        let mut project = tidelock_testbed::project().await.unwrap();
        project.sql(SCHEMA).await.unwrap();
        for table in TABLES {
            let triggers = format!(
                "create trigger count_effect before insert or update on {table} for each row execute function count_effect();
                 create trigger note_effect after insert or update or delete on {table}
                   for each row execute function note_effect();"
            );
            project.sql(&triggers).await.unwrap();
        }
        project.install_kit(&TABLES.map(|table| (table, None))).await.unwrap();
        let mut author = Author::new(SEED, seed, None);
        let ground = vec![
            Row { table: 0, key: uuid(1), parent: None, mark: 0 },
            Row { table: 1, key: uuid(2), parent: Some(uuid(1)), mark: 0 },
        ];
        let mut steps = vec![author.rewrite(uuid(3), ground, Vec::new())];
        while steps.len() <= SHARED_GROUPS as usize {
            let step = author.next();
            let is_wide = TABLES.iter().enumerate().all(|(at, _)| step.saved.iter().any(|row| row.table == at));
            steps.extend(is_wide.then_some(step));
        }
        for step in &steps {
            let rows: String = step.saved.iter().map(|row| step.sql(row, true)).collect();
            project.sql(&format!("begin; {rows} commit;")).await.unwrap();
        }
        // The server looks at the tables when it starts.
        project.stop_server().unwrap();
        project.start_server().await.unwrap();
        Self {
            world: World::around(project).await,
            seed,
            shared: steps.into_iter().skip(1).map(|step| (step.group, step.saved)).collect(),
            ground: uuid(2),
            pulse: watch::Sender::new(0),
            shared_halves: AtomicU64::new(0),
        }
    }

    pub fn is_shared(&self, group: &str) -> bool {
        self.shared.iter().any(|(shared, _)| shared == group)
    }

    /// The keys that anybody may write.
    pub fn shared_keys(&self) -> BTreeSet<&str> {
        self.shared.iter().flat_map(|(_, rows)| rows.iter().map(|row| row.key.as_str())).collect()
    }

    /// A device's configuration, as TOML.
    pub fn config_text(&self, directory: &Path, is_auto: bool) -> String {
        format!(
            r#"
            [remote]
            url = "{url}"
            anon_key = "{key}"
            mode = "kit"
            timeout = "10s"
            [sync]
            auto = {is_auto}
            interval = "1s"
            conflict = "remote-wins"
            retry_delay = "50ms"
            retry_delay_max = "1s"
            [storage]
            data_dir = "{directory}"
            durability = "normal"
            [api]
            bind = "127.0.0.1:0"
            [collections.boards]
            table = "boards"
            [collections.lists]
            table = "lists"
            after = ["boards"]
            [collections.cards]
            table = "cards"
            after = ["lists"]
            "#,
            url = self.world.network.url,
            key = self.world.project.secret_key,
            directory = directory.display(),
        )
    }

    pub fn open(&self, name: &str, is_auto: bool) -> Device {
        let directory = self.world.folder(name);
        let config = Config::from_toml(&self.config_text(&directory, is_auto)).unwrap();
        Device { tidelock: Tidelock::open(config).unwrap(), directory }
    }

    /// An author of cards alone, for those that write one table at a time.
    pub fn author_of_cards(&self, number: u64) -> Author {
        Author::new(number, self.seed, Some(self.ground.clone()))
    }

    /// The group of the list that everybody's cards may hang on.
    pub fn ground_group(&self) -> String {
        uuid(3)
    }

    pub fn beat(&self) {
        self.pulse.send_modify(|beats| *beats += 1);
    }
}

/// The rows of a group of cards.
pub fn card(key: String, parent: &str, mark: u64) -> Row {
    Row { table: CARD, key, parent: Some(parent.to_owned()), mark }
}
