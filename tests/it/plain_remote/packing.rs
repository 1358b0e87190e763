//! Requests that go compressed, to gateways that take them so and to others.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;

use super::*;

fn packing(options: PlainOptions) -> Plain {
    Plain::new(PlainOptions { compress_requests: true, ..options }).unwrap()
}

fn long(key: usize) -> Outgoing {
    create("notes", &format!("n{key}"), &format!(r#"{{"body":"{}"}}"#, "word ".repeat(1_000)))
}

#[tokio::test]
async fn a_gateway_that_takes_compressed_requests_gets_them() {
    let project = tidelock_testbed::project().await.unwrap();
    let remote = packing(options(&project, vec![rules("notes")]));
    for verdict in push(&remote, (0..20).map(long).collect()).await {
        applied(&verdict);
    }
    let as_it_is = Plain::new(options(&project, vec![rules("notes")])).unwrap();
    push(&as_it_is, (20..40).map(long).collect()).await;
    assert_eq!(remote.requests(), as_it_is.requests(), "nothing had to be sent again");
    let length = project.value("select sum(length(body)) from notes").await.unwrap();
    assert_eq!(length.as_deref(), Some("200000"));
}

/// Refuses what is compressed, and remembers of each request whether it was.
fn particular_gateway() -> (String, Arc<Mutex<Vec<bool>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (url, seen) = (format!("http://{}", listener.local_addr().unwrap()), Arc::new(Mutex::new(Vec::new())));
    let remembered = seen.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            answer(stream.unwrap(), &remembered);
        }
    });
    (url, seen)
}

fn answer(stream: TcpStream, seen: &Mutex<Vec<bool>>) {
    let mut reader = BufReader::new(stream);
    let (mut length, mut is_packed) = (0, false);
    let mut line = String::new();
    while reader.read_line(&mut line).unwrap() > 2 {
        let header = line.trim().to_lowercase();
        is_packed |= header == "content-encoding: gzip";
        length = header.strip_prefix("content-length: ").map_or(length, |text| text.parse().unwrap());
        line.clear();
    }
    reader.read_exact(&mut vec![0; length]).unwrap();
    seen.lock().unwrap().push(is_packed);
    let (status, body) =
        if is_packed { ("415 Unsupported Media Type", "{}") } else { ("201 Created", r#"[{"id":"n1"}]"#) };
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    reader.get_mut().write_all((head + body).as_bytes()).unwrap();
}

#[tokio::test]
async fn a_gateway_that_does_not_gets_the_same_request_as_it_is_and_all_others_too() {
    let (url, seen) = particular_gateway();
    let remote = packing(PlainOptions { url, ..options_at(String::new()) });
    for _ in 0..3 {
        applied(&push_one(&remote, long(1)).await);
    }
    let seen = seen.lock().unwrap();
    assert_eq!(seen.iter().filter(|is_packed| **is_packed).count(), 1, "{seen:?}");
    assert_eq!(seen.last(), Some(&false));
}
