//! The process that owns a data folder, and its API: who may use it, and how it begins and ends.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::command_line::{CONFIG, Desk};

#[test]
fn h37_a_second_owner_is_told_who_the_first_one_is() {
    let desk = Desk::new();
    let process = desk.process();
    let said = desk.fails(&["run"], 1);
    assert!(said.contains(&format!("(pid {}) owns the store in ", process.id())), "{said}");
    desk.ok(&["put", "runs", "a", "{}"]);

    let quiet = Desk::with(&format!("{CONFIG}\n").replace("[api]", "[api]\nenabled = false"));
    let process = quiet.process();
    let said = quiet.fails(&["put", "runs", "a", "{}"], 1);
    assert!(said.contains(&format!("(pid {}) owns the store in ", process.id())), "{said}");
    assert!(said.contains("does not answer on a local API"), "{said}");
}

#[test]
fn a_taken_port_is_named_and_mended_by_another_one() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let desk = Desk::with(&CONFIG.replace("127.0.0.1:0", &address));
    let done = desk.run(&["run"]);
    let said = done.complained.lines().last().unwrap_or_default();
    assert!(
        done.exit == 1 && said.starts_with(&format!("tidelock: the local API cannot listen on {address} (")),
        "{said}"
    );
    assert!(said.contains("set api.bind to another port"), "{said}");
    desk.ok(&["put", "runs", "a", "{}"]);
}

#[test]
fn commands_at_the_same_time_take_turns() {
    let desk = Desk::new();
    let children: Vec<_> = (0..8)
        .map(|n| desk.prepared(&["put", "runs", &format!("r{n}"), "{}"]).stdout(Stdio::null()).spawn().unwrap())
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(desk.json(&["list", "runs"]).as_array().unwrap().len(), 8);
}

#[test]
fn the_process_ends_in_order_and_leaves_nothing_that_misleads() {
    let desk = Desk::new();
    let mut process = desk.process();
    #[cfg(unix)]
    for name in ["api.token", "api.address"] {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(desk.path("data").join(name)).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
    process.signal("-TERM");
    assert_eq!(process.end(), 0);
    assert!(!desk.path("data/api.address").exists() && !desk.path("data/api.token").exists());

    // Killed, it cannot tidy up: its old address must not lead anybody astray.
    let process = desk.process();
    process.signal("-KILL");
    drop(process);
    assert!(desk.path("data/api.address").exists());
    desk.ok(&["put", "runs", "a", "{}"]);
}

#[test]
fn a_changed_configuration_is_taken_over_while_running() {
    let desk = Desk::new();
    let mut process = desk.process();
    fs::write(desk.path("tidelock.toml"), format!("{CONFIG}[sync]\ninterval = '7s'\noverlap = '7s'\n")).unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    fs::write(desk.path("tidelock.toml"), format!("{CONFIG}[sync]\ninterval = 'soonest'\n")).unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    process.signal("-HUP");
    std::thread::sleep(Duration::from_millis(500));
    desk.fails(&["status"], 2);
    fs::write(desk.path("tidelock.toml"), CONFIG).unwrap();
    desk.ok(&["put", "runs", "a", "{}"]);
    process.signal("-INT");
    assert_eq!(process.end(), 0);
    let said = process.last_words();
    assert!(said.contains("a restart is needed for sync.overlap"), "{said}");
    assert_eq!(said.matches("sync.interval = \"soonest\" is not allowed").count(), 2, "{said}");
}

#[test]
fn the_process_speaks_json_where_it_is_asked_to() {
    let desk = Desk::new();
    let mut process = desk.process_with(&["--log-format", "json"]);
    process.signal("-TERM");
    assert_eq!(process.end(), 0);
    for line in process.last_words().lines() {
        assert!(serde_json::from_str::<Value>(line).unwrap()["message"].is_string(), "{line}");
    }
}

/// One request to the process, word by word: the status and the body of its answer.
fn asked(desk: &Desk, head: &str, body: &str) -> (u16, String) {
    let read = |name: &str| fs::read_to_string(desk.path("data").join(name)).unwrap().trim().to_owned();
    let address = read("api.address");
    let head = head.replace("{address}", &address).replace("{token}", &read("api.token"));
    let length = body.len();
    let mut stream = TcpStream::connect(&address).unwrap();
    write!(stream, "{head}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}").unwrap();
    let mut answer = String::new();
    // A server that has refused a body may close before it has read it.
    let _ = stream.read_to_string(&mut answer);
    let status = answer.split(' ').nth(1).unwrap_or("0").parse().unwrap();
    (status, answer.split("\r\n\r\n").nth(1).unwrap_or_default().to_owned())
}

#[test]
fn the_api_answers_only_programs_of_this_user() {
    let desk = Desk::new();
    let _process = desk.process();
    let own = "Host: {address}\r\nAuthorization: Bearer {token}\r\n";
    for (headers, status) in [
        (own.to_owned(), 200),
        ("Host: {address}\r\n".to_owned(), 401),
        ("Host: {address}\r\nAuthorization: Bearer wrong\r\n".to_owned(), 401),
        ("Host: evil.example\r\nAuthorization: Bearer {token}\r\n".to_owned(), 403),
        (format!("{own}Origin: https://evil.example\r\n"), 403),
    ] {
        let (answered, body) = asked(&desk, &format!("GET /v1/status HTTP/1.1\r\n{headers}"), "");
        assert_eq!(answered, status, "{headers}: {body}");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body.get("detail").is_some(), status != 200, "{body}");
    }
}

#[test]
fn the_api_tells_what_is_wrong_with_a_request() {
    let desk = Desk::new();
    let _process = desk.process();
    let ask = |method: &str, path: &str, body: &str| {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {{address}}\r\nAuthorization: Bearer {{token}}\r\n");
        let (status, body) = asked(&desk, &head, body);
        let body: Value =
            serde_json::from_str(&body).unwrap_or_else(|error| panic!("{method} {path}: {error}: {body}"));
        (status, body["code"].as_str().unwrap_or_default().to_owned())
    };
    for (method, path, body, status, code) in [
        ("GET", "/elsewhere", "", 404, "no_such_address"),
        ("DELETE", "/v1/status", "", 405, "wrong_method"),
        ("GET", "/v1/collections/runs/records/none", "", 404, "not_found"),
        ("GET", "/v1/collections/none/records/none", "", 404, "unknown_collection"),
        ("PUT", "/v1/collections/runs/records/a", "[]", 400, "invalid"),
        ("PUT", "/v1/collections/prices/records/a", "{}", 409, "pull_only"),
        ("POST", "/v1/collections/runs/records", r#"[{"dokument":{}}]"#, 400, "invalid"),
        ("GET", "/v1/queue?order=id", "", 400, "invalid"),
        ("GET", "/v1/queue?state=lost", "", 400, "invalid"),
        ("GET", "/v1/conflicts/7", "", 404, "not_found"),
        ("POST", "/v1/conflicts/7/resolve", r#"{"take":"local"}"#, 404, "not_found"),
        ("POST", "/v1/conflicts/7/resolve", r#"{"take":"mine"}"#, 400, "invalid"),
        ("POST", "/v1/query", r#"{"sql":"delete from runs"}"#, 400, "invalid"),
        ("POST", "/v1/sync", "", 409, "no_server"),
    ] {
        assert_eq!(ask(method, path, body), (status, code.to_owned()), "{method} {path} {body}");
    }
    assert_eq!(
        ask("POST", "/v1/collections/runs/records", r#"[{"document":{"n":1}},{"key":"k","document":{}}]"#).0,
        200
    );
    assert_eq!(ask("POST", "/v1/query", r#"{"sql":"select count(*) as n from runs"}"#).0, 200);
    assert_eq!(desk.json(&["list", "runs"]).as_array().unwrap().len(), 2);
    let (status, _) = asked(
        &desk,
        "PUT /v1/collections/runs/records/a HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n",
        &format!("{{\"x\":\"{}\"}}", "x".repeat(33 * 1024 * 1024)),
    );
    assert!(status == 413 || status == 0, "{status}");
}
