//! Storage: objects in one piece, and whose they are. Almost every refusal is HTTP 400; what it means stands in the
//! body.

use reqwest::Method;
use serde_json::json;
use tidelock_testbed::{BUCKET, Project, ProjectOptions, Session, Storage};

use crate::support::*;

pub const MIB: usize = 1024 * 1024;
const BYTES: &str = "application/octet-stream";

pub async fn project(storage: Storage) -> Project {
    tidelock_testbed::project_with(ProjectOptions { storage, ..ProjectOptions::default() }).await.unwrap()
}

/// Bytes that are no text, and different wherever one looks.
pub fn some_bytes(count: usize) -> Vec<u8> {
    (0..count as u64).map(|at| (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as u8).collect()
}

pub fn object<'a>(project: &'a Project, who: As<'_>, method: Method, path: &str) -> Request<'a> {
    request_to(project, who, method, &format!("{}/storage/v1/object/{path}", project.url))
}

pub fn in_folder_of(user: &Session, name: &str) -> String {
    format!("{BUCKET}/{}/{name}", user.user_id)
}

/// What a refusal means; its four members are those of the real Storage.
fn meaning(answer: &Answer) -> (u16, String, String, String) {
    let body = answer.json();
    let member = |name: &str| body[name].as_str().unwrap_or_else(|| panic!("no {name} in {answer:?}")).to_owned();
    assert_eq!(body.as_object().unwrap().len(), 4, "{answer:?}");
    assert_eq!(answer.status, 400, "{answer:?}");
    (member("statusCode").parse().unwrap(), member("code"), member("error"), member("message"))
}

fn not_found() -> (u16, String, String, String) {
    (404, "NoSuchKey".into(), "not_found".into(), "Object not found".into())
}

#[tokio::test]
async fn what_was_uploaded_comes_back_byte_for_byte_at_both_addresses() {
    let project = project(Storage::Plain).await;
    let user = project.any_user().await.unwrap();
    let mine = As::User(&user);
    let content = some_bytes(3 * MIB);
    // Names are told with and without escapes.
    let path = in_folder_of(&user, "2026-11-23T12%3A00+1 é/full.tide");
    let uploaded = object(&project, mine, Method::POST, &path).bytes(&content, "application/x-tide").send().await;
    assert_eq!(uploaded.status, 200, "{uploaded:?}");
    let name = in_folder_of(&user, "2026-11-23T12:00+1 é/full.tide");
    assert_eq!(uploaded.json()["Key"], json!(name));
    assert!(uploaded.json()["Id"].is_string());

    for address in [name.clone(), format!("authenticated/{name}")] {
        let read = object(&project, mine, Method::GET, &address).send().await;
        assert_eq!((read.status, read.bytes.len()), (200, content.len()), "{address}: {}", read.headers.len());
        assert!(read.bytes == content);
        assert_eq!(read.header("content-type"), Some("application/x-tide"));
        assert_eq!(read.header("content-length"), Some("3145728"));
        assert!(read.header("etag").is_some_and(|tag| tag.starts_with('"')), "{:?}", read.headers);
        let head = object(&project, mine, Method::HEAD, &address).send().await;
        assert_eq!((head.status, head.header("content-length")), (200, Some("3145728")));
    }
}

#[tokio::test]
async fn an_object_is_replaced_only_when_that_is_asked_for() {
    let project = project(Storage::Plain).await;
    let user = project.any_user().await.unwrap();
    let path = in_folder_of(&user, "one");
    let send = |method, content: &'static [u8]| object(&project, As::User(&user), method, &path).bytes(content, BYTES);
    assert_eq!(send(Method::POST, b"first").send().await.status, 200);
    let again = send(Method::POST, b"second").send().await;
    let duplicate = (409, "ResourceAlreadyExists", "Duplicate", "The resource already exists");
    assert_eq!(meaning(&again), (duplicate.0, duplicate.1.into(), duplicate.2.into(), duplicate.3.into()));
    let read = || async { object(&project, As::User(&user), Method::GET, &path).send().await.body };
    assert_eq!(read().await, "first");
    assert_eq!(send(Method::POST, b"second").header("x-upsert", "true").send().await.status, 200);
    assert_eq!(read().await, "second");
    assert_eq!(send(Method::PUT, b"third").send().await.status, 200);
    assert_eq!(read().await, "third");
    assert_eq!(send(Method::PUT, b"").send().await.status, 200);
    assert_eq!(read().await, "");
}

#[tokio::test]
async fn a_part_of_an_object_is_read_by_its_range() {
    let project = project(Storage::Plain).await;
    let user = project.any_user().await.unwrap();
    let path = in_folder_of(&user, "digits");
    let put = object(&project, As::User(&user), Method::POST, &path).bytes(b"0123456789", BYTES).send().await;
    assert_eq!(put.status, 200, "{put:?}");
    let ask =
        async |range: &str| object(&project, As::User(&user), Method::GET, &path).header("range", range).send().await;
    for (range, body, told) in [
        ("bytes=2-5", "2345", "bytes 2-5/10"),
        ("bytes=7-", "789", "bytes 7-9/10"),
        ("bytes=-3", "789", "bytes 7-9/10"),
        ("bytes=8-99", "89", "bytes 8-9/10"),
    ] {
        let part = ask(range).await;
        assert_eq!((part.status, part.body.as_str(), part.header("content-range")), (206, body, Some(told)));
        assert_eq!(part.header("content-length"), Some(body.len().to_string().as_str()));
    }
    assert_eq!(meaning(&ask("bytes=10-").await).0, 416);
    assert_eq!(ask("bytes=0-9").await.body, "0123456789");
}

#[tokio::test]
async fn another_users_objects_are_not_there() {
    let project = project(Storage::Plain).await;
    let [one, other] = [project.any_user().await.unwrap(), project.any_user().await.unwrap()];
    let path = in_folder_of(&one, "private");
    assert_eq!(object(&project, As::User(&one), Method::POST, &path).bytes(b"mine", BYTES).send().await.status, 200);

    for address in [path.clone(), format!("authenticated/{path}")] {
        assert_eq!(meaning(&object(&project, As::User(&other), Method::GET, &address).send().await), not_found());
    }
    let denied =
        (403, "AccessDenied".into(), "Unauthorized".into(), "new row violates row-level security policy".into());
    let send = |who, name: &str| object(&project, who, Method::POST, name).bytes(b"theirs", BYTES);
    assert_eq!(meaning(&send(As::User(&other), &in_folder_of(&one, "new")).send().await), denied);
    assert_eq!(meaning(&send(As::User(&other), &path).header("x-upsert", "true").send().await), denied);
    assert_eq!(meaning(&send(As::Anon, &path).send().await), denied);
    assert_eq!(meaning(&object(&project, As::User(&other), Method::DELETE, &path).send().await), not_found());
    let listed = object(&project, As::User(&other), Method::DELETE, BUCKET);
    let listed = listed.body(json!({ "prefixes": [path.split_once('/').unwrap().1] }).to_string()).send().await;
    assert_eq!((listed.status, listed.body.as_str()), (200, "[]"));
    assert_eq!(object(&project, As::User(&one), Method::GET, &path).send().await.body, "mine");
}

#[tokio::test]
async fn objects_are_deleted_by_name_and_by_list() {
    let project = project(Storage::Plain).await;
    let user = project.any_user().await.unwrap();
    let mine = As::User(&user);
    let [a, b] = ["a", "a/b"].map(|name| in_folder_of(&user, name));
    for path in [&a, &b] {
        assert_eq!(object(&project, mine, Method::POST, path).bytes(b"x", BYTES).send().await.status, 200);
    }
    let deleted = object(&project, mine, Method::DELETE, &a).send().await;
    assert_eq!((deleted.status, deleted.json()), (200, json!({ "message": "Successfully deleted" })));
    assert_eq!(meaning(&object(&project, mine, Method::DELETE, &a).send().await), not_found());
    let names = [format!("{}/a/b", user.user_id), format!("{}/never", user.user_id)];
    let list = object(&project, mine, Method::DELETE, BUCKET).body(json!({ "prefixes": names }).to_string());
    let deleted = list.send().await;
    assert_eq!((deleted.status, deleted.rows().len(), &deleted.rows()[0]["name"]), (200, 1, &json!(names[0])));
    for path in [&a, &b] {
        assert_eq!(meaning(&object(&project, mine, Method::GET, path).send().await), not_found());
    }
}

#[tokio::test]
async fn more_than_fifty_mebibytes_in_one_piece_are_too_much() {
    let project = project(Storage::Plain).await;
    let user = project.any_user().await.unwrap();
    let path = in_folder_of(&user, "large");
    let send = |content: &[u8]| object(&project, As::User(&user), Method::POST, &path).bytes(content, BYTES);
    let refused = send(&vec![7; 50 * MIB + 1]).send().await;
    let too_large = "The object exceeded the maximum allowed size".to_owned();
    assert_eq!(meaning(&refused), (413, "EntityTooLarge".into(), "Payload too large".into(), too_large));
    assert_eq!(meaning(&object(&project, As::User(&user), Method::GET, &path).send().await), not_found());
    assert_eq!(send(&vec![7; 50 * MIB]).send().await.status, 200);
}

#[tokio::test]
async fn a_token_that_storage_does_not_take_is_named_in_the_refusal() {
    let project = project(Storage::Plain).await;
    if project.is_external() {
        return eprintln!("skipped: tokens of an external project cannot be minted");
    }
    let user = project.any_user().await.unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({"sub": user.user_id, "role": "authenticated", "aud": "authenticated", "exp": now - 10});
    let expired = project.mint_token(&claims).unwrap();
    let path = in_folder_of(&user, "one");
    for request in [
        object(&project, As::Token(&expired), Method::POST, &path).bytes(b"x", BYTES),
        object(&project, As::Token(&expired), Method::GET, &format!("authenticated/{path}")),
    ] {
        let (status, code, error, message) = meaning(&request.send().await);
        assert_eq!((status, code.as_str(), error.as_str()), (403, "AccessDenied", "Unauthorized"));
        assert_eq!(message, r#""exp" claim timestamp check failed"#);
    }
}

#[tokio::test]
async fn objects_survive_a_restart_and_nothing_is_there_without_storage() {
    let mut project = project(Storage::Plain).await;
    if project.is_external() {
        return eprintln!("skipped: an external project's server cannot be stopped");
    }
    let user = project.any_user().await.unwrap();
    let path = in_folder_of(&user, "kept");
    assert_eq!(object(&project, As::User(&user), Method::POST, &path).bytes(b"kept", BYTES).send().await.status, 200);
    project.stop_server().unwrap();
    project.start_server().await.unwrap();
    assert_eq!(object(&project, As::User(&user), Method::GET, &path).send().await.body, "kept");

    let without = tidelock_testbed::project().await.unwrap();
    let user = without.any_user().await.unwrap();
    assert_eq!(object(&without, As::User(&user), Method::GET, &in_folder_of(&user, "kept")).send().await.status, 404);
}
