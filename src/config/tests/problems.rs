//! What is wrong is said in one line each, with its place and what is allowed.

use super::*;

#[test]
fn a_bad_value_names_file_key_value_and_what_is_allowed() {
    for (text, problem) in [
        (
            "[sync]\ninterval = 'soon'",
            r#"tidelock.toml: sync.interval = "soon" is not allowed; allowed: a duration from "100ms" to "1day""#,
        ),
        (
            "[sync]\ninterval = 30",
            r#"tidelock.toml: sync.interval = 30 is not allowed; allowed: a duration from "100ms" to "1day""#,
        ),
        (
            "[sync]\ninterval = '1ms'",
            r#"tidelock.toml: sync.interval = "1ms" is not allowed; allowed: a duration from "100ms" to "1day""#,
        ),
        (
            "[sync]\nbatch_size = -1",
            "tidelock.toml: sync.batch_size = -1 is not allowed; allowed: a whole number from 1 to batch_size_max",
        ),
        (
            "[sync]\nbatch_size = 1.5",
            "tidelock.toml: sync.batch_size = 1.5 is not allowed; allowed: a whole number from 1 to batch_size_max",
        ),
        (
            "[sync]\nbatch_size_max = 9",
            "tidelock.toml: sync.batch_size_max = 9 is not allowed; allowed: at least sync.batch_size, which is 50",
        ),
        (
            "[sync]\nbatch_size_max = 90\nbatch_size = 100",
            "tidelock.toml: sync.batch_size = 100 is not allowed; allowed: at most sync.batch_size_max, which is 90",
        ),
        (
            "[sync]\nretry_delay = '6m'",
            "tidelock.toml: sync.retry_delay = \"6m\" is not allowed; allowed: at most sync.retry_delay_max, which is \"5m\"",
        ),
        (
            "[sync]\nconflict = 'mine'",
            r#"tidelock.toml: sync.conflict = "mine" is not allowed; allowed: "local-wins", "remote-wins", "newest-wins", "merge" or "manual""#,
        ),
        ("[sync]\nauto = 'maybe'", r#"tidelock.toml: sync.auto = "maybe" is not allowed; allowed: true or false"#),
        (
            "[remote]\nmode = 'sql'",
            r#"tidelock.toml: remote.mode = "sql" is not allowed; allowed: "auto", "kit" or "plain""#,
        ),
        (
            "[remote]\nurl = 'abc.supabase.co'",
            r#"tidelock.toml: remote.url = "abc.supabase.co" is not allowed; allowed: the project's address alone, such as "https://abc.supabase.co", or "" for none"#,
        ),
        (
            "[api]\nbind = '0.0.0.0:1'",
            r#"tidelock.toml: api.bind = "0.0.0.0:1" is not allowed; allowed: a loopback address with its port, such as "127.0.0.1:7373" or "[::1]:0""#,
        ),
        (
            "[collections.Big]",
            r#"tidelock.toml: collections.Big = {…} is not allowed; allowed: a name of lower-case letters, digits and _ that begins with a letter or _ and not with tl_ or sqlite_"#,
        ),
        (
            "[collections.a]\nafter = ['b']\n[collections.c]",
            r#"tidelock.toml: collections.a.after = ["b"] is not allowed; allowed: a list of collections; the others are: c"#,
        ),
        (
            "[collections.a]\nafter = ['a']",
            r#"tidelock.toml: collections.a.after = ["a"] is not allowed; allowed: no circle, and this is one: a after a"#,
        ),
        (
            "[collections.a]\nfilter = 'limit=3'",
            r#"tidelock.toml: collections.a.filter = "limit=3" is not allowed; allowed: PostgREST's filter syntax, such as "status=eq.done&kind=in.(a,b)"; "" means all"#,
        ),
    ] {
        assert_eq!(problem_in(text), problem);
    }
}

#[test]
fn an_unknown_key_is_refused_with_the_one_that_was_meant() {
    assert_eq!(
        problem_in("[sync]\nintervall = '3s'"),
        r#"tidelock.toml: unknown key sync.intervall = "3s"; did you mean interval? [sync] knows: enabled, auto, interval, batch_size, batch_size_max, conflict, max_retries, retry_delay, retry_delay_max, stall_after, overlap, listing_interval, audit_interval"#
    );
    assert_eq!(
        problem_in("[sinc]\ninterval = '3s'"),
        "tidelock.toml: unknown key sinc = {…}; did you mean sync? the file knows: remote, sync, storage, backup, log, api, supervision, collections"
    );
    assert!(
        problem_in("interval = '3s'")
            .starts_with(r#"tidelock.toml: unknown key interval = "3s"; the file knows: remote,"#)
    );
    assert!(problem_in("[collections.a]\ntabel = 'x'").contains("did you mean table?"));
}

#[test]
fn h48_a_secret_under_a_mistyped_name_is_not_shown() {
    for (section, name) in [
        ("backup", "passphrasse"),
        ("backup", "pasphrase"),
        ("remote", "anonkee"),
        ("remote", "acess_tokn"),
        ("remote", "PASSPHRASE"),
        ("remote", "passphrase"),
    ] {
        let problem = problem_in(&format!("[{section}]\n{name} = 'cAnArY'"));
        assert!(problem.contains("unknown key") && problem.contains("(not shown)"), "{name}: {problem}");
    }
    let problem = problem_in("[remote]\nsupabase = 'sb_secret_cAnArY'");
    assert!(problem.contains("unknown key") && !problem.contains("cAnArY"), "{problem}");
}

#[test]
fn a_bad_variable_is_named() {
    let world = World::new(&[], &[("TIDELOCK__SYNC__BATCH_SIZE", "many")]);
    assert_eq!(
        world.problem(),
        r#"environment variable TIDELOCK__SYNC__BATCH_SIZE: sync.batch_size = "many" is not allowed; allowed: a whole number from 1 to batch_size_max"#
    );
    let world = World::new(&[], &[("TIDELOCK__SYNC__BATCHSIZE", "5")]);
    assert!(world.problem().starts_with(
        r#"environment variable TIDELOCK__SYNC__BATCHSIZE: unknown key sync.batchsize = "5"; did you mean batch_size?"#
    ));
}

#[test]
fn what_is_not_toml_is_named_with_its_line() {
    let problem = problem_in("[sync]\nauto = true\ninterval = \n");
    assert!(problem.starts_with("tidelock.toml: line 3 is not TOML: "), "{problem}");
}

#[test]
fn a_file_that_is_named_must_exist() {
    let world = World::new(&[], &[]);
    let options = LoadOptions { file: Some(world.path("gone.toml")), ..LoadOptions::default() };
    let error = Loaded::load_within(&options, &world.around).unwrap_err().to_string();
    assert!(error.contains("gone.toml: cannot be read"), "{error}");
    let world = World::new(&[], &[("TIDELOCK_PROFILE", "shop")]);
    assert!(world.problem().starts_with(r#"TIDELOCK_PROFILE = "shop": neither config/shop.toml nor shop.toml exists"#));
}

#[test]
fn every_problem_is_reported() {
    let world = World::new(&[("tidelock.toml", "[sync]\ninterval = 'soon'\nauto = 1\n[log]\nlevel = 'loud'")], &[]);
    let error = world.load().unwrap_err();
    assert_eq!(error.problems().len(), 3);
    assert!(error.to_string().ends_with("(and 2 more: see `tidelock config check`)"));
}
