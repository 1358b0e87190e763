//! Why a server is not reached, or what answers in its place: the name, the port and the certificate each looked at by
//! itself.

use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use reqwest::Url;
use rustls::{CertificateError, InvalidMessage};
use tidelock_actors::model::{Fault, FaultKind};
use tokio::net::{TcpStream, lookup_host};

use super::Checkup;

/// Whether the server has answered this, whatever it thinks of the question.
pub(super) fn is_an_answer(fault: &Fault) -> bool {
    match fault.kind {
        // A statement that took too long was one that the server had taken.
        FaultKind::Transient => fault.is_of_one_statement(),
        FaultKind::Unauthorized => false,
        FaultKind::Ordering
        | FaultKind::Refused
        | FaultKind::Doubtful
        | FaultKind::Schema
        | FaultKind::Replaced
        | FaultKind::Behind => fault.code.is_some(),
    }
}

/// Says that there is no way to the server, and why.
pub(super) async fn explain(checkup: &mut Checkup, url: &str, fault: &Fault, timeout: Duration) {
    if let Some((found, next)) = of_answer(fault) {
        return checkup.fail("connection", format!("{url}: {found}"), next);
    }
    let unreached = format!("{url} cannot be reached ({fault})");
    let Some((host, port, is_tls)) = Url::parse(url).ok().as_ref().and_then(place) else {
        return checkup.fail("connection", unreached, "set remote.url to the project's address, https://….supabase.co");
    };
    if let Some(proxy) = proxy_for(&host, is_tls, |name| std::env::var(name).ok()) {
        let next = format!("look whether that proxy runs and lets {host} through, or add {host} to NO_PROXY");
        return checkup.fail(
            "connection",
            format!("{unreached}; requests go through the proxy that {proxy} names"),
            next,
        );
    }
    checkup.fail("connection", unreached, "what to do stands with the first of the next checks that is a failure");
    way(checkup, &host, port, is_tls, timeout).await;
}

/// The name, the port, the certificate: each in its turn, up to the first that fails.
async fn way(checkup: &mut Checkup, host: &str, port: u16, is_tls: bool, timeout: Duration) {
    let addresses = match tokio::time::timeout(timeout, lookup_host((host, port))).await {
        Ok(Ok(addresses)) => addresses.collect::<Vec<_>>(),
        Ok(Err(error)) => {
            return checkup.fail(
                "name lookup",
                format!("the name {host} is not found ({error})"),
                "look for a slip in remote.url; if it is right, this device has no network or no working name server",
            );
        }
        Err(_) => {
            return checkup.fail(
                "name lookup",
                format!("the name server does not answer for {host} within {} s", timeout.as_secs()),
                "look whether this device has a network",
            );
        }
    };
    if host.parse::<IpAddr>().is_err() {
        checkup.ok("name lookup", format!("{host} has {} addresses", addresses.len()));
    }
    match tokio::time::timeout(timeout, TcpStream::connect(addresses.as_slice())).await {
        Ok(Ok(_)) => checkup.ok("port", format!("{host} takes connections on port {port}")),
        Ok(Err(error)) => {
            let next =
                "look whether the server runs and remote.url has the right port, or whether a firewall stands between";
            return checkup.fail("port", format!("{host} takes no connection on port {port} ({error})"), next);
        }
        Err(_) => {
            let found = format!("{host} does not answer on port {port} within {} s", timeout.as_secs());
            return checkup.fail(
                "port",
                found,
                "look whether a firewall stands between, or the network lets nothing out",
            );
        }
    }
    if is_tls {
        certificate(checkup, host, port, timeout).await;
    } else {
        checkup.fail(
            "answer",
            format!("{host} takes the connection and gives no answer in HTTP within {} s", timeout.as_secs()),
            "look whether that port is the server's, and https:// the way to speak to it; else whether the server hangs",
        );
    }
}

async fn certificate(checkup: &mut Checkup, host: &str, port: u16, timeout: Duration) {
    let client = reqwest::Client::builder().no_proxy().timeout(timeout).build();
    let asked = match client {
        Ok(client) => client.get(format!("https://{host}:{port}/")).send().await.map(drop),
        Err(error) => Err(error),
    };
    let Err(error) = asked else {
        return checkup.warn("certificate", "this time the server answers", "ask the doctor again");
    };
    let (found, next) = match of_tls(&error) {
        Some(words) => words,
        None => (
            format!("the connection is made and no answer comes ({})", fault_of(&error)),
            "look whether the server hangs; its own log tells",
        ),
    };
    checkup.fail("certificate", format!("{host}: {found}"), next);
}

fn fault_of(error: &reqwest::Error) -> String {
    let mut deepest: &dyn Error = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

/// What went wrong with TLS, if that is what went wrong.
fn of_tls(error: &(dyn Error + 'static)) -> Option<(String, &'static str)> {
    use rustls::Error as Tls;
    let clock = "look at this device's date and time first; if they are right, the server needs a new certificate";
    let (found, next) = match tls_error(error)? {
        Tls::InvalidCertificate(wrong) => match wrong {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                ("its certificate has expired", clock)
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                ("its certificate is not valid yet", clock)
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => (
                "its certificate is for another name",
                "look for a slip in remote.url; a network's sign-in page shows itself like this as well",
            ),
            CertificateError::UnknownIssuer => (
                "its certificate is from nobody whom this program trusts",
                "something between may read along (a company's proxy, a virus scanner): let it leave this host alone",
            ),
            other => return Some((format!("its certificate is not accepted ({other:?})"), clock)),
        },
        Tls::InvalidMessage(InvalidMessage::InvalidContentType) => {
            ("it does not speak TLS on this port", "use http:// for a server without TLS, or its TLS port")
        }
        other => {
            return Some((
                format!("no encrypted connection comes about ({other})"),
                "look whether this is the server's TLS port",
            ));
        }
    };
    Some((found.to_owned(), next))
}

/// The TLS library's own word, however it was wrapped.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut cause = Some(error);
    while let Some(this) = cause {
        if let Some(tls) = this.downcast_ref::<rustls::Error>() {
            return Some(tls);
        }
        let within = this.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause = match within {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => this.source(),
        };
    }
    None
}

/// What an answer means that is not the one that was wanted; nothing where none came.
fn of_answer(fault: &Fault) -> Option<(String, &'static str)> {
    let status = fault.status?;
    let words = &fault.message;
    let is_page = words.trim_start().starts_with('<');
    let told = match status {
        402 => (
            format!("Supabase restricts the project, its quota is used up or a bill is due (402: {words})"),
            "look at the organisation's usage and billing in the Supabase dashboard",
        ),
        540 => (
            format!("the project is paused (540: {words})"),
            "restore the project in the Supabase dashboard; free projects pause after a week without use",
        ),
        544 => (
            format!("the project took too long to answer (544: {words})"),
            "look at the project's load in the Supabase dashboard; tidelock tries again by itself",
        ),
        429 => (
            format!("the server is asked too often and tells us to wait (429: {words})"),
            "wait; tidelock waits by itself for as long as the server asks. If it stays so, raise sync.interval",
        ),
        300..400 => (
            format!("something between answers with a redirection ({status})"),
            "sign in to this network in a browser, or mend remote.url",
        ),
        _ if is_page && status < 500 => (
            format!("something between answers with a web page ({status})"),
            "sign in to this network in a browser; if that is done, look whether remote.url is the project's address",
        ),
        520..=530 => (
            format!("the gateway does not reach the project ({status}: {words})"),
            "look whether the project is healthy in the Supabase dashboard; tidelock tries again by itself",
        ),
        500.. => (
            format!("the server is in trouble ({fault})"),
            "look at the project's health and database in the Supabase dashboard; tidelock tries again by itself",
        ),
        404 => (
            format!("there is no Supabase at this address (404: {words})"),
            "set remote.url to the project's address alone, https://….supabase.co, without /rest/v1",
        ),
        ..300 => (format!("something else answers ({words})"), "look whether remote.url is the project's address"),
        _ => (format!("the server refuses ({fault})"), "look whether remote.url is the project's address"),
    };
    Some(told)
}

fn place(url: &Url) -> Option<(String, u16, bool)> {
    let host = url.host_str()?.trim_matches(['[', ']']).to_owned();
    Some((host, url.port_or_known_default()?, url.scheme() == "https"))
}

/// The variable whose proxy requests to this host go through.
fn proxy_for(host: &str, is_tls: bool, read: impl Fn(&str) -> Option<String>) -> Option<&'static str> {
    let set = |name: &str| read(name).filter(|value| !value.trim().is_empty());
    let free = set("NO_PROXY").or_else(|| set("no_proxy")).unwrap_or_default();
    let is_free = |entry: &str| {
        let entry = entry.trim().trim_start_matches('.');
        !entry.is_empty() && (entry == "*" || host == entry || host.ends_with(&format!(".{entry}")))
    };
    if free.split(',').any(is_free) {
        return None;
    }
    let own = if is_tls { ["HTTPS_PROXY", "https_proxy"] } else { ["HTTP_PROXY", "http_proxy"] };
    own.into_iter().chain(["ALL_PROXY", "all_proxy"]).find(|name| set(name).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(status: u16, message: &str) -> Fault {
        Fault { status: Some(status), ..Fault::new(FaultKind::Transient, message) }
    }

    #[test]
    fn an_answer_that_is_not_the_servers_is_said_in_plain_words() {
        for (status, message, words) in [
            (402, "exceed_egress_quota", "quota is used up or a bill is due"),
            (540, "", "the project is paused"),
            (429, "slow down", "asked too often"),
            (200, "the answer is not the server's: <html>", "something else answers"),
            (200, "<html>", "web page"),
            (403, "<html> sign in", "something between answers with a web page"),
            (302, "", "redirection"),
            (521, "<html>", "the gateway does not reach the project"),
            (503, "no", "the server is in trouble"),
            (404, "no Route matched", "there is no Supabase at this address"),
        ] {
            let (found, next) = of_answer(&fault(status, message)).unwrap();
            assert!(found.contains(words) && !next.is_empty(), "{status}: {found}");
        }
        assert_eq!(of_answer(&Fault::new(FaultKind::Transient, "no network")), None);
    }

    #[test]
    fn a_proxy_is_found_in_the_environment_unless_the_host_goes_without() {
        let with = |pairs: &'static [(&str, &str)]| {
            move |name: &str| pairs.iter().find(|pair| pair.0 == name).map(|pair| pair.1.to_owned())
        };
        let proxy = |pairs, host| proxy_for(host, true, with(pairs));
        assert_eq!(proxy(&[], "a.b"), None);
        assert_eq!(proxy(&[("HTTP_PROXY", "p")], "a.b"), None);
        assert_eq!(proxy(&[("https_proxy", "p")], "a.b"), Some("https_proxy"));
        assert_eq!(proxy(&[("ALL_PROXY", "p"), ("NO_PROXY", "x, .b")], "a.b"), None);
        assert_eq!(proxy(&[("ALL_PROXY", "p"), ("NO_PROXY", "ab")], "a.b"), Some("ALL_PROXY"));
    }

    #[test]
    fn what_tls_says_is_found_however_it_was_wrapped() {
        let inner = rustls::Error::InvalidCertificate(CertificateError::Expired);
        let wrapped = io::Error::other(io::Error::other(inner));
        assert!(of_tls(&wrapped).unwrap().0.contains("has expired"));
        let plain = rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType);
        assert!(of_tls(&io::Error::other(plain)).unwrap().0.contains("does not speak TLS"));
        assert!(of_tls(&io::Error::other("something")).is_none());
    }
}
