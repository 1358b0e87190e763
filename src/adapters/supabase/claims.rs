//! What a bearer token says of itself. Whether it is good is the server's to say.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

/// The claims of a JWT, as far as anybody here asks for them.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Claims {
    /// The user.
    pub sub: Option<String>,
    /// The database role that requests with it have.
    pub role: Option<String>,
    /// The project that it was made for, as a key tells it.
    #[serde(rename = "ref")]
    pub project: Option<String>,
    /// Who made it; Supabase Auth names the project's address.
    pub iss: Option<String>,
    /// When it expires, seconds since 1970.
    exp: Option<f64>,
}

impl Claims {
    /// Reads a token; one that is no JWT says nothing.
    pub fn of(token: &str) -> Option<Self> {
        let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?.trim_end_matches('=')).ok()?;
        serde_json::from_slice(&claims).ok()
    }

    /// When the token expires, milliseconds since 1970.
    pub fn expires_ms(&self) -> Option<i64> {
        self.exp.map(|seconds| (seconds * 1_000.0) as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_tells_its_user_and_its_end_if_it_is_one() {
        let token = |claims: &str| format!("head.{}.signature", URL_SAFE_NO_PAD.encode(claims));
        let claims = Claims::of(&token(r#"{"sub":"u1","exp":1700000000,"role":"authenticated"}"#)).unwrap();
        assert_eq!((claims.sub.as_deref(), claims.expires_ms()), (Some("u1"), Some(1_700_000_000_000)));
        assert_eq!(Claims::of(&token("{}")).unwrap(), Claims::default());
        for none in ["", "sb_publishable_x", "a.b.c", "head.e30"] {
            assert_eq!(Claims::of(none).is_some(), none == "head.e30", "{none}");
        }
    }
}
