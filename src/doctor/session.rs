//! What the project's key and the access token say of themselves. Pure: whether they are good is the server's to say.

use jiff::{SignedDuration, Timestamp};

use super::Checkup;
use crate::adapters::supabase::Claims;

/// Where Supabase's projects live: the first part of their name is what keys call the project.
const HOSTED: &str = ".supabase.co";

/// What to do about a token that is refused. It is read anew at once; a key is not.
pub(super) const SIGN_IN: &str =
    "sign in again and put the new access token into remote.access_token; an app gives it with set_access_token";

/// What a key is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Key {
    Publishable,
    Secret,
    /// A token that was made for a role.
    Legacy {
        role: String,
        project: Option<String>,
    },
    Unknown,
}

fn kind(key: &str) -> Key {
    if key.starts_with("sb_publishable_") {
        return Key::Publishable;
    }
    if key.starts_with("sb_secret_") {
        return Key::Secret;
    }
    match Claims::of(key) {
        Some(Claims { role: Some(role), project, .. }) => Key::Legacy { role, project },
        Some(_) | None => Key::Unknown,
    }
}

/// What kind of key it is, and whether it is this project's.
pub(super) fn key(checkup: &mut Checkup, key: &str, url: &str) {
    let bypasses = |what: &str| {
        format!("{what}: row-level security does not apply to it, so whoever has it can read and write everything")
    };
    let next = "use the publishable key of the project's settings in an app; keep this one on servers";
    match kind(key) {
        Key::Publishable => checkup.ok("key", "a publishable key"),
        Key::Secret => checkup.warn("key", bypasses("remote.anon_key is a secret key"), next),
        Key::Legacy { role, .. } if role == "service_role" => {
            checkup.warn("key", bypasses("remote.anon_key is a service_role key"), next);
        }
        Key::Legacy { role, .. } => checkup.ok("key", format!("a key of the role {role}")),
        Key::Unknown => checkup.warn(
            "key",
            "remote.anon_key is neither a publishable key nor a token of a role",
            "copy the key anew from the project's settings, unless this server has keys of its own",
        ),
    }
    if let (Key::Legacy { project: Some(of), .. }, Some(here)) = (kind(key), project(url))
        && of != here
    {
        let found = format!("remote.anon_key is of the project {of}, and remote.url is that of {here}");
        checkup.fail("project", found, "take both from the settings of the same project");
    }
}

/// The name that a hosted project's address begins with.
fn project(url: &str) -> Option<&str> {
    let host = url.split("://").nth(1)?.split(['/', ':']).next()?;
    host.strip_suffix(HOSTED).filter(|name| !name.contains('.'))
}

/// As whom requests are made, and until when.
pub(super) fn token(checkup: &mut Checkup, token: Option<&str>, url: &str, now: Timestamp) {
    let Some(token) = token else {
        return checkup.ok("session", "nobody is signed in; requests carry the project's key alone");
    };
    let Some(claims) = Claims::of(token) else {
        return checkup.fail(
            "session",
            "remote.access_token is no token that can be read",
            "sign in again and put the new access token into remote.access_token, or leave that empty",
        );
    };
    if let (Some(of), Some(here)) = (claims.iss.as_deref().and_then(project), project(url))
        && of != here
    {
        let found = format!("the access token is of the project {of}, and remote.url is that of {here}");
        checkup.fail("project", found, "sign in to the project that remote.url names");
    }
    let who = claims.sub.clone().unwrap_or_else(|| "a user that it does not name".to_owned());
    match claims.expires_ms().and_then(|ms| Timestamp::from_millisecond(ms).ok()) {
        Some(end) if end <= now => {
            let found = format!("the access token of {who} has expired {} ago ({end})", span(now.duration_since(end)));
            checkup.fail("session", found, SIGN_IN);
        }
        Some(end) => {
            checkup.ok(
                "session",
                format!("signed in as {who}; the access token expires in {}", span(end.duration_since(now))),
            );
        }
        None => checkup.ok("session", format!("signed in as {who}; the access token does not say when it expires")),
    }
}

/// A length of time in its largest unit: `3 h`.
pub fn span(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().unsigned_abs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    const NOW: &str = "2026-11-23T12:00:00Z";

    fn jwt(claims: &str) -> String {
        format!("head.{}.signature", URL_SAFE_NO_PAD.encode(claims))
    }

    fn said(look: impl Fn(&mut Checkup)) -> Vec<String> {
        let mut checkup = Checkup::default();
        look(&mut checkup);
        let line = |one: &super::super::Finding| format!("{} {} {}", one.state.name(), one.check, one.found);
        checkup.checks.iter().map(line).collect()
    }

    #[test]
    fn a_key_that_bypasses_row_level_security_is_warned_of() {
        let look = |key: &str| said(|checkup| super::key(checkup, key, "https://abc.supabase.co"));
        assert_eq!(look("sb_publishable_x"), ["ok key a publishable key"]);
        assert!(look("sb_secret_x")[0].starts_with("warning key remote.anon_key is a secret key: row-level"));
        assert!(
            look(&jwt(r#"{"role":"service_role"}"#))[0].starts_with("warning key remote.anon_key is a service_role")
        );
        assert_eq!(look(&jwt(r#"{"role":"anon","ref":"abc"}"#)), ["ok key a key of the role anon"]);
        assert!(look("something")[0].starts_with("warning key remote.anon_key is neither"));
        let other = look(&jwt(r#"{"role":"anon","ref":"xyz"}"#));
        assert_eq!(other[1], "failure project remote.anon_key is of the project xyz, and remote.url is that of abc");
    }

    #[test]
    fn an_address_of_ones_own_names_no_project() {
        assert_eq!(project("https://abc.supabase.co/"), Some("abc"));
        assert_eq!(project("https://abc.supabase.co:443"), Some("abc"));
        for other in ["http://127.0.0.1:54321", "https://db.example.org", "https://a.b.supabase.co", "nothing"] {
            assert_eq!(project(other), None, "{other}");
        }
    }

    #[test]
    fn a_token_says_whose_it_is_and_until_when() {
        let look = |token: Option<&str>| {
            said(|checkup| super::token(checkup, token, "https://abc.supabase.co", NOW.parse().unwrap()))
        };
        assert_eq!(look(None), ["ok session nobody is signed in; requests carry the project's key alone"]);
        assert!(look(Some("nonsense"))[0].starts_with("failure session remote.access_token is no token"));
        let of = |seconds: i64, more: &str| {
            let end = NOW.parse::<Timestamp>().unwrap().as_second() + seconds;
            look(Some(&jwt(&format!(r#"{{"sub":"ada","exp":{end}{more}}}"#))))
        };
        assert_eq!(of(1_800, ""), ["ok session signed in as ada; the access token expires in 30 min"]);
        assert_eq!(
            of(-10_800, "")[0],
            "failure session the access token of ada has expired 3 h ago (2026-11-23T09:00:00Z)"
        );
        let foreign = of(60, r#","iss":"https://xyz.supabase.co/auth/v1""#);
        assert_eq!(foreign[0], "failure project the access token is of the project xyz, and remote.url is that of abc");
    }
}
