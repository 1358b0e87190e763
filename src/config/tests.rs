//! Layers and the built-in file's promises.

mod problems;

use std::fs;
use std::path::Path;
use std::time::Duration;

use secrecy::ExposeSecret;
use tidelock_actors::model::{Direction, Strategy};

use super::*;

/// A folder of files and an environment, and nothing of the machine the test runs on.
struct World {
    folder: tempfile::TempDir,
    around: Surroundings,
}

impl World {
    fn new(files: &[(&str, &str)], environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let around = Surroundings {
            environment: environment.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
            working_folder: folder.path().to_owned(),
            home: Some("/home/somebody".into()),
            config_folder: Some(folder.path().join("users")),
            data_folder: Some("/home/somebody/data/tidelock".into()),
        };
        Self { folder, around }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn load(&self) -> Result<Loaded, ConfigError> {
        Loaded::load_within(&LoadOptions::default(), &self.around)
    }

    /// The first problem, with the folder taken out of it.
    fn problem(&self) -> String {
        let error = self.load().unwrap_err();
        assert!(!error.to_string().contains('\n'), "more than one line: {error}");
        error.to_string().replace(&format!("{}/", self.folder.path().display()), "")
    }
}

fn problem_in(text: &str) -> String {
    World::new(&[("tidelock.toml", text)], &[]).problem()
}

fn collections_of(text: &str) -> Vec<String> {
    Config::from_toml(text).unwrap().collections.into_keys().collect()
}

#[test]
fn every_key_of_the_built_in_file_is_read_and_described() {
    let config = Config::default();
    let read: std::collections::BTreeSet<String> = config
        .flattened()
        .into_keys()
        .map(|key| key.replace(".runs.", ".NAME.").replace(".settings.", ".NAME.").replace(".videos.", ".NAME."))
        .collect();
    let described: std::collections::BTreeSet<String> =
        keys().iter().map(|key| format!("{}.{}", key.section, key.name)).collect();
    assert_eq!(read, described);
    for key in keys() {
        assert!(!key.about.is_empty() && !key.allowed.is_empty(), "{}.{} is not described", key.section, key.name);
    }
}

#[test]
fn a_collection_begins_with_what_the_built_in_file_shows() {
    let config = Config::from_toml("[collections.notes]").unwrap();
    let built_in = Config::default();
    let shown =
        CollectionSettings { table: String::new(), owner: String::new(), ..built_in.collections["runs"].clone() };
    assert_eq!(config.collections["notes"], shown);
    assert_eq!(config.rules()[0].table, "notes");
}

/// Run with `TIDELOCK_BLESS=1` to write the table anew.
#[test]
fn the_documentation_lists_the_same_keys() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once("<!-- keys -->\n").unwrap();
    let (table, after) = rest.split_once("<!-- /keys -->").unwrap();
    let mut fresh = String::from("| key | built-in | allowed | meaning |\n|---|---|---|---|\n");
    for key in keys() {
        let row = [&format!("`{}.{}`", key.section, key.name), &format!("`{}`", key.default), &key.allowed, &key.about];
        fresh.push_str(&format!("| {} |\n", row.map(|cell| cell.replace('|', "\\|")).join(" | ")));
    }
    if std::env::var_os("TIDELOCK_BLESS").is_some() {
        fs::write(&path, format!("{before}<!-- keys -->\n{fresh}<!-- /keys -->{after}")).unwrap();
    } else {
        assert_eq!(table, fresh, "docs/configuration.md is behind config/default.toml");
    }
}

#[test]
fn the_example_can_be_used() {
    let config = Config::from_toml(include_str!("../../config/example.toml")).unwrap();
    let names: Vec<_> = config.rules().iter().map(|rules| rules.name.to_string()).collect();
    assert_eq!(names, ["albums", "drafts", "photos", "prices"]);
}

#[test]
fn the_built_in_values_are_the_documented_ones() {
    let config = Config::default();
    assert_eq!(config.sync.interval, Duration::from_secs(30));
    assert_eq!((config.sync.batch_size, config.sync.batch_size_max, config.sync.max_retries), (50, 1000, 3));
    assert_eq!(config.sync.conflict, Strategy::NewestWins);
    assert_eq!(config.collections["runs"].table, "generations");
    assert_eq!(config.collections["settings"].table, "user_settings");
    assert_eq!(config.collections["videos"].direction, Direction::Local);
    assert!(config.remote.url.is_none() && config.remote.anon_key.is_none());
}

#[test]
fn a_more_particular_place_goes_before_a_more_general_one() {
    let mut world = World::new(
        &[
            (
                "config/shop.toml",
                "[sync]\ninterval = '1s'\nbatch_size = 1\nmax_retries = 1\n[remote]\nurl = 'http://profile'",
            ),
            ("tidelock.toml", "[sync]\nbatch_size = 2\nmax_retries = 2\n[remote]\nurl = 'http://file'"),
        ],
        &[("TIDELOCK_PROFILE", "shop"), ("TIDELOCK__SYNC__MAX_RETRIES", "9")],
    );
    let sync = world.load().unwrap().config.sync;
    assert_eq!((sync.interval, sync.batch_size, sync.max_retries), (Duration::from_secs(1), 2, 9));

    let url = |world: &World| world.load().unwrap().config.remote.url.unwrap();
    assert_eq!(url(&world), "http://file");
    for (name, address) in [
        ("VITE_SUPABASE_URL", "http://vite"),
        ("SUPABASE_URL", "http://supabase/"),
        ("TIDELOCK__REMOTE__URL", "http://own"),
    ] {
        world.around.environment.push((name.into(), address.into()));
        assert_eq!(url(&world), address.trim_end_matches('/'));
    }
}

#[test]
fn an_empty_variable_sets_nothing() {
    let world = World::new(
        &[("tidelock.toml", "[remote]\nurl = 'http://file'")],
        &[("SUPABASE_URL", ""), ("VITE_SUPABASE_ANON_KEY", "k")],
    );
    let remote = world.load().unwrap().config.remote;
    assert_eq!(remote.url.as_deref(), Some("http://file"));
    assert_eq!(remote.anon_key.unwrap().expose_secret(), "k");
}

#[test]
fn variables_take_the_type_of_their_key() {
    let world = World::new(
        &[],
        &[
            ("TIDELOCK__SYNC__AUTO", "false"),
            ("TIDELOCK__COLLECTIONS__NOTES__COLUMNS", "id, body"),
            ("TIDELOCK__COLLECTIONS__NOTES__FIELDS", "text=body"),
            ("TIDELOCK__COLLECTIONS__NOTES__TABLE", "app.notes"),
        ],
    );
    let config = world.load().unwrap().config;
    assert!(!config.sync.auto);
    let notes = &config.collections["notes"];
    assert_eq!(notes.columns, ["id", "body"]);
    assert_eq!(notes.fields["text"], "body");
    assert_eq!(config.collections.len(), 1);
}

#[test]
fn the_users_configuration_folder_is_looked_at_last() {
    let world = World::new(&[("users/tidelock.toml", "[sync]\nbatch_size = 7")], &[]);
    assert_eq!(world.load().unwrap().config.sync.batch_size, 7);
    fs::write(world.path("tidelock.toml"), "[sync]\nbatch_size = 8").unwrap();
    assert_eq!(world.load().unwrap().config.sync.batch_size, 8);
}

#[test]
fn a_relative_data_folder_counts_from_its_file() {
    let folder = |text: &str| {
        let world = World::new(&[("tidelock.toml", text)], &[]);
        let folder = world.load().unwrap().config.storage.data_dir;
        folder.strip_prefix(world.folder.path()).map(Path::to_owned).unwrap_or(folder)
    };
    assert_eq!(folder("[storage]\ndata_dir = 'here'"), Path::new("here"));
    assert_eq!(folder("[storage]\ndata_dir = '~/there'"), Path::new("/home/somebody/there"));
    assert_eq!(folder("[storage]\ndata_dir = '/var/x'"), Path::new("/var/x"));
    assert_eq!(folder(""), Path::new("/home/somebody/data/tidelock"));
}

#[test]
fn the_built_in_collections_stay_until_others_are_declared() {
    assert_eq!(collections_of(""), ["runs", "settings", "videos"]);
    assert_eq!(collections_of("[collections.runs]\nconflict = 'manual'"), ["runs", "settings", "videos"]);
    assert_eq!(collections_of("[collections.notes]"), ["notes"]);
    assert_eq!(collections_of("[collections.notes]\n[collections.videos]\ndirection = 'both'"), ["notes", "videos"]);

    let changed = Config::from_toml("[collections.runs]\nconflict = 'manual'").unwrap();
    assert_eq!(changed.collections["runs"].table, "generations");
    assert_eq!(changed.collections["runs"].conflict, Some(Strategy::Manual));
    let own = Config::from_toml("[collections.videos]\ntable = 'videos'").unwrap();
    assert_eq!(own.collections["videos"].direction, Direction::Both, "a collection of one's own inherits nothing");
}

#[test]
fn parents_come_first() {
    let config = Config::from_toml(
        "[collections.a]\nafter = ['b', 'c']\n[collections.b]\nafter = ['c']\n[collections.c]\n[collections.d]\nconflict = 'merge'",
    )
    .unwrap();
    let rules = config.rules();
    assert_eq!(rules.iter().map(|rules| &*rules.name).collect::<Vec<_>>(), ["c", "b", "a", "d"]);
    assert_eq!(rules[3].strategy, Strategy::Merge);
    assert_eq!(rules[0].strategy, Strategy::NewestWins);
}

#[test]
fn secrets_are_never_shown() {
    let secret = "sb_publishable_0123456789";
    let world = World::new(
        &[("tidelock.toml", &format!("[remote]\nanon_key = '{secret}'"))],
        &[("TIDELOCK__REMOTE__ACCESS_TOKEN", secret)],
    );
    let loaded = world.load().unwrap();
    for text in [loaded.to_toml(), format!("{loaded:?}"), serde_json::to_string(&loaded.config).unwrap()] {
        assert!(!text.contains(secret), "{text}");
    }
    let world =
        World::new(&[("tidelock.toml", &format!("[remote]\nanonkey = '{secret}'\nanon_key = '{secret} x'"))], &[]);
    assert!(!world.load().unwrap_err().problems().join("\n").contains(secret));
}

#[test]
fn what_is_shown_can_be_read_back_and_names_its_place() {
    let world = World::new(
        &[("tidelock.toml", "[sync]\ninterval = '7s'\n[collections.notes]\nfields = { 'a b' = 'c d' }")],
        &[("TIDELOCK__SYNC__AUTO", "false")],
    );
    let loaded = world.load().unwrap();
    let text = loaded.to_toml();
    let again = Config::from_toml(&text).unwrap();
    assert_eq!(again.flattened(), loaded.config.flattened());
    let line = |begin: &str| text.lines().find(|line| line.starts_with(begin)).unwrap().to_owned();
    assert!(line("interval = ").ends_with("tidelock.toml"), "{text}");
    assert!(line("auto = ").ends_with("# environment variable TIDELOCK__SYNC__AUTO"), "{text}");
    assert!(line("batch_size = ").ends_with("# built-in"), "{text}");
}

#[test]
fn what_cannot_be_reloaded_is_named() {
    let old = Config::default();
    let new = Config::from_toml(
        "[sync]\ninterval = '7s'\noverlap = '1m 1s'\n[log]\nlevel = 'debug'\n[remote]\nanon_key = 'x'\naccess_token = 'y'\n[api]\nbind = '127.0.0.1:0'\n[collections.runs]\nconflict = 'manual'\nversion = ''",
    )
    .unwrap();
    assert_eq!(
        changes_needing_restart(&old, &new),
        ["api.bind", "collections.runs.version", "remote.anon_key", "sync.overlap"]
    );
    let newer = Config { remote: RemoteSettings { anon_key: Some("y".into()), ..new.remote.clone() }, ..new.clone() };
    assert_eq!(changes_needing_restart(&new, &newer), ["remote.anon_key"]);
    assert!(changes_needing_restart(&new, &new).is_empty());
}

#[test]
fn a_changed_file_is_loaded_anew_and_a_bad_one_is_reported() {
    let world = World::new(&[("tidelock.toml", "[sync]\ninterval = '7s'")], &[]);
    let options = LoadOptions { file: Some(world.path("tidelock.toml")), ..LoadOptions::default() };
    let mut watch = ConfigWatch::new(options.clone(), &Loaded::load(&options).unwrap());
    assert!(watch.look().is_none());
    fs::write(world.path("tidelock.toml"), "[sync]\ninterval = '15s'").unwrap();
    assert_eq!(watch.look().unwrap().unwrap().config.sync.interval, Duration::from_secs(15));
    assert!(watch.look().is_none());
    fs::write(world.path("tidelock.toml"), "[sync]\ninterval = 'soonest'").unwrap();
    assert!(watch.look().unwrap().is_err());
    assert!(watch.look().is_none());
    fs::remove_file(world.path("tidelock.toml")).unwrap();
    assert!(watch.look().unwrap().is_err());
}
