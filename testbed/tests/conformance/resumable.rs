//! Resumable uploads (TUS 1.0.0): made, cut, gone on with, whole.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use tidelock_testbed::{BUCKET, FaultPlan, FaultProxy, Project, Session, Storage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::storage::{MIB, in_folder_of, object, project, some_bytes};
use crate::support::*;

const CHUNK: usize = 6 * MIB;
const OFFSET_BYTES: &str = "application/offset+octet-stream";

fn tus<'a>(project: &'a Project, who: As<'_>, method: Method, address: &str) -> Request<'a> {
    request_to(project, who, method, address).header("tus-resumable", "1.0.0")
}

/// The request that makes an upload of so many bytes.
fn creation<'a>(project: &'a Project, base: &str, who: As<'_>, name: &str, length: usize) -> Request<'a> {
    let members =
        [("bucketName", BUCKET), ("objectName", name), ("contentType", "application/x-tide"), ("cacheControl", "3600")];
    let metadata: Vec<_> = members.iter().map(|(key, value)| format!("{key} {}", STANDARD.encode(value))).collect();
    tus(project, who, Method::POST, &format!("{base}/storage/v1/upload/resumable"))
        .header("upload-length", &length.to_string())
        .header("upload-metadata", &metadata.join(","))
}

async fn created(project: &Project, user: &Session, name: &str, length: usize) -> String {
    let name = format!("{}/{name}", user.user_id);
    let answer = creation(project, &project.url, As::User(user), &name, length).send().await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.header("location").unwrap().to_owned()
}

fn patch<'a>(project: &'a Project, user: &Session, upload: &str, offset: usize, bytes: &[u8]) -> Request<'a> {
    tus(project, As::User(user), Method::PATCH, upload)
        .header("upload-offset", &offset.to_string())
        .bytes(bytes, OFFSET_BYTES)
}

fn number(answer: &Answer, header: &str) -> usize {
    answer.header(header).unwrap_or_else(|| panic!("no {header} in {answer:?}")).parse().unwrap()
}

/// Goes on from where the server is until it has everything, as a client must.
async fn finish(project: &Project, user: &Session, upload: &str, content: &[u8]) {
    for _ in 0..10 {
        let head = tus(project, As::User(user), Method::HEAD, upload).send().await;
        assert_eq!(head.status, 200, "{head:?}");
        let mut offset = number(&head, "upload-offset");
        while offset < content.len() {
            let chunk = &content[offset..content.len().min(offset + CHUNK)];
            let answer = patch(project, user, upload, offset, chunk).send().await;
            if answer.status == 409 {
                break; // What was cut off was still being written when we asked.
            }
            assert_eq!(answer.status, 204, "{answer:?}");
            offset = number(&answer, "upload-offset");
        }
        if offset == content.len() {
            return;
        }
    }
    panic!("the upload does not come to its end");
}

/// Sends the head of a chunk and the beginning of its body; the connection waits for the rest.
async fn begin_chunk(
    project: &Project,
    user: &Session,
    upload: &str,
    [offset, length]: [usize; 2],
    begun: &[u8],
) -> TcpStream {
    let authority = project.url.strip_prefix("http://").unwrap();
    let path = upload.strip_prefix(&project.url).unwrap();
    let head = format!(
        "PATCH {path} HTTP/1.1\r\nhost: {authority}\r\ntus-resumable: 1.0.0\r\nupload-offset: {offset}\r\n\
         content-type: {OFFSET_BYTES}\r\ncontent-length: {length}\r\nexpect: 100-continue\r\napikey: {}\r\n\
         authorization: Bearer {}\r\n\r\n",
        project.publishable_key, user.access_token
    );
    let mut connection = TcpStream::connect(authority).await.unwrap();
    connection.write_all(head.as_bytes()).await.unwrap();
    let mut line = [0; 12];
    connection.read_exact(&mut line).await.unwrap();
    assert_eq!(&line, b"HTTP/1.1 100", "the server has begun with the chunk");
    connection.read_exact(&mut [0; "Continue\r\n\r\n".len() + 1]).await.unwrap();
    connection.write_all(begun).await.unwrap();
    connection
}

#[tokio::test]
async fn an_upload_that_was_cut_goes_on_where_the_server_is() {
    let project = project(Storage::Resumable).await;
    if project.is_external() {
        return eprintln!("skipped: the connection is cut without TLS");
    }
    let user = project.any_user().await.unwrap();
    let content = some_bytes(2 * CHUNK + MIB + 17);
    let upload = created(&project, &user, "cut", content.len()).await;
    assert!(upload.starts_with(&format!("{}/storage/v1/upload/resumable/", project.url)), "{upload}");

    let first = patch(&project, &user, &upload, 0, &content[..CHUNK]).send().await;
    assert_eq!((first.status, number(&first, "upload-offset")), (204, CHUNK));
    assert!(first.header("upload-expires").is_some(), "{first:?}");
    drop(begin_chunk(&project, &user, &upload, [CHUNK, CHUNK], &content[CHUNK..CHUNK + MIB]).await);
    let head = tus(&project, As::User(&user), Method::HEAD, &upload).send().await;
    assert_eq!(number(&head, "upload-length"), content.len());
    assert!((CHUNK..=CHUNK + MIB).contains(&number(&head, "upload-offset")), "{head:?}");
    let path = in_folder_of(&user, "cut");
    let early = object(&project, As::User(&user), Method::GET, &path).send().await;
    assert_eq!(early.json()["statusCode"], "404", "half an upload is no object");

    finish(&project, &user, &upload, &content).await;
    let read = object(&project, As::User(&user), Method::GET, &path).send().await;
    assert_eq!((read.status, read.header("content-type")), (200, Some("application/x-tide")));
    assert_eq!(read.header("cache-control"), Some("max-age=3600"));
    assert!(read.bytes == content, "{} of {} bytes", read.bytes.len(), content.len());
    // Who missed the last answer finds out that there is nothing left to do.
    let head = tus(&project, As::User(&user), Method::HEAD, &upload).send().await;
    assert_eq!((head.status, number(&head, "upload-offset")), (200, content.len()));
}

#[tokio::test]
async fn uploads_survive_a_restart_of_the_server() {
    let mut project = project(Storage::Resumable).await;
    if project.is_external() {
        return eprintln!("skipped: an external project's server cannot be stopped");
    }
    let user = project.any_user().await.unwrap();
    let content = some_bytes(CHUNK + 1);
    let upload = created(&project, &user, "patient", content.len()).await;
    assert_eq!(patch(&project, &user, &upload, 0, &content[..CHUNK]).send().await.status, 204);
    project.stop_server().unwrap();
    project.start_server().await.unwrap();
    let last = patch(&project, &user, &upload, CHUNK, &content[CHUNK..]).send().await;
    assert_eq!((last.status, last.header("tus-complete")), (204, Some("1")), "{last:?}");
    let read = object(&project, As::User(&user), Method::GET, &in_folder_of(&user, "patient")).send().await;
    assert!(read.bytes == content);
}

#[tokio::test]
async fn more_than_fifty_mebibytes_go_in_parts() {
    let project = project(Storage::Resumable).await;
    let user = project.any_user().await.unwrap();
    let content = some_bytes(51 * MIB);
    let upload = created(&project, &user, "large", content.len()).await;
    finish(&project, &user, &upload, &content).await;
    let read = object(&project, As::User(&user), Method::GET, &in_folder_of(&user, "large")).send().await;
    assert!(read.bytes == content);
}

#[tokio::test]
async fn an_upload_may_begin_with_its_creation() {
    let project = project(Storage::Resumable).await;
    let user = project.any_user().await.unwrap();
    let name = format!("{}/small", user.user_id);
    let made = creation(&project, &project.url, As::User(&user), &name, 5).bytes(b"hello", OFFSET_BYTES).send().await;
    assert_eq!((made.status, number(&made, "upload-offset"), made.header("tus-complete")), (201, 5, Some("1")));
    let read = object(&project, As::User(&user), Method::GET, &in_folder_of(&user, "small")).send().await;
    assert_eq!(read.body, "hello");
}

#[tokio::test]
async fn rights_are_tried_when_an_upload_is_made_and_with_each_part() {
    let project = project(Storage::Resumable).await;
    let [one, other] = [project.any_user().await.unwrap(), project.any_user().await.unwrap()];
    let name = format!("{}/one", one.user_id);
    let denied = creation(&project, &project.url, As::User(&other), &name, 5).send().await;
    assert_eq!((denied.status, denied.body.as_str()), (403, "new row violates row-level security policy"));

    let upload = created(&project, &one, "one", 5).await;
    let theirs = patch(&project, &other, &upload, 0, b"hello").send().await;
    assert_eq!((theirs.status, theirs.body.as_str()), (403, "new row violates row-level security policy"));
    // Somebody else was faster: without x-upsert what is there stays.
    let path = in_folder_of(&one, "one");
    let put = object(&project, As::User(&one), Method::POST, &path).bytes(b"first", "text/plain").send().await;
    assert_eq!(put.status, 200, "{put:?}");
    let late = patch(&project, &one, &upload, 0, b"hello").send().await;
    assert_eq!((late.status, late.body.as_str()), (409, "The resource already exists"));
    let again = creation(&project, &project.url, As::User(&one), &name, 5).send().await;
    assert_eq!((again.status, again.body.as_str()), (409, "The resource already exists"));
    assert_eq!(object(&project, As::User(&one), Method::GET, &path).send().await.body, "first");
    let replaced = patch(&project, &one, &upload, 0, b"hello").header("x-upsert", "true").send().await;
    assert_eq!(replaced.status, 204, "{replaced:?}");
    assert_eq!(object(&project, As::User(&one), Method::GET, &path).send().await.body, "hello");

    let bucket = format!("bucketName {},objectName {}", STANDARD.encode("none"), STANDARD.encode(&name));
    let nowhere = tus(&project, As::User(&one), Method::POST, &format!("{}/storage/v1/upload/resumable", project.url));
    let nowhere = nowhere.header("upload-length", "5").header("upload-metadata", &bucket).send().await;
    assert_eq!((nowhere.status, nowhere.body.as_str()), (404, "Bucket not found"));
}

#[tokio::test]
async fn what_came_while_an_upload_was_on_its_way_is_not_replaced_by_it() {
    let project = project(Storage::Resumable).await;
    if project.is_external() {
        return eprintln!("skipped: the chunk is sent without TLS");
    }
    let user = project.any_user().await.unwrap();
    let upload = created(&project, &user, "one", 5).await;
    let mut slow = begin_chunk(&project, &user, &upload, [0, 5], b"hel").await;
    let path = in_folder_of(&user, "one");
    let put = object(&project, As::User(&user), Method::POST, &path).bytes(b"first", "text/plain").send().await;
    assert_eq!(put.status, 200, "{put:?}");
    slow.write_all(b"lo").await.unwrap();
    let mut status = [0; 12];
    slow.read_exact(&mut status).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&status), "HTTP/1.1 409");
    let read = async || object(&project, As::User(&user), Method::GET, &path).send().await.body;
    assert_eq!(read().await, "first");
    // All of it is there, so nothing is left to send; whoever still wants it to be the object may say so.
    let head = tus(&project, As::User(&user), Method::HEAD, &upload).send().await;
    assert_eq!(number(&head, "upload-offset"), 5);
    let again = patch(&project, &user, &upload, 5, b"").header("x-upsert", "true").send().await;
    assert_eq!((again.status, again.header("tus-complete")), (204, Some("1")), "{again:?}");
    assert_eq!(read().await, "hello");
}

#[tokio::test]
async fn unknown_uploads_other_offsets_and_other_chunks_are_refused() {
    let project = project(Storage::Resumable).await;
    let user = project.any_user().await.unwrap();
    let unknown = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .encode(format!("{BUCKET}/{}/never/00000000-0000-4000-8000-000000000000", user.user_id));
    let unknown = format!("{}/storage/v1/upload/resumable/{unknown}", project.url);
    assert_eq!(tus(&project, As::User(&user), Method::HEAD, &unknown).send().await.status, 404);
    let answer = patch(&project, &user, &unknown, 0, b"x").send().await;
    assert_eq!((answer.status, answer.body.as_str()), (404, "The file for this url was not found\n"));

    let content = some_bytes(CHUNK + 10);
    let upload = created(&project, &user, "strict", content.len()).await;
    let ahead = patch(&project, &user, &upload, CHUNK, &content[CHUNK..]).send().await;
    assert_eq!((ahead.status, ahead.body.as_str()), (409, "Upload-Offset conflict\n"));
    for wrong in [&content[..], &content[..MIB]] {
        assert_eq!(patch(&project, &user, &upload, 0, wrong).send().await.status, 400);
    }
    let ended = tus(&project, As::User(&user), Method::DELETE, &upload).send().await;
    assert_eq!(ended.status, 204, "{ended:?}");
    assert_eq!(tus(&project, As::User(&user), Method::HEAD, &upload).send().await.status, 404);
}

#[tokio::test]
async fn the_address_of_an_upload_leads_through_the_proxy_that_it_was_made_through() {
    let project = project(Storage::Resumable).await;
    if project.is_external() {
        return eprintln!("skipped: what an external project makes of the proxy's headers is its gateway's affair");
    }
    let user = project.any_user().await.unwrap();
    let proxy = FaultProxy::start(&project.url, FaultPlan::none()).await.unwrap();
    let name = format!("{}/through", user.user_id);
    let made = creation(&project, &proxy.url, As::User(&user), &name, 5).send().await;
    let upload = made.header("location").unwrap();
    assert!(upload.starts_with(&proxy.url), "{upload}");
    assert_eq!(patch(&project, &user, upload, 0, b"hello").send().await.status, 204);
}

#[tokio::test]
async fn a_server_may_know_no_resumable_uploads() {
    let project = project(Storage::Plain).await;
    if project.is_external() {
        return eprintln!("skipped: an external project is as it is");
    }
    let user = project.any_user().await.unwrap();
    let name = format!("{}/one", user.user_id);
    let answer = creation(&project, &project.url, As::User(&user), &name, 5).send().await;
    assert_eq!(answer.status, 404, "{answer:?}");
    assert_eq!(answer.json()["message"], "Route POST:/upload/resumable not found");
}
